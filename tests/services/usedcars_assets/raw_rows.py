"""Small raw batches for tests: rows in the published format, with prices that follow from the car."""

import csv
import io
import random
from collections.abc import Iterable, Mapping

from usedcars_assets.pipeline.raw_listings import RAW_COLUMNS

MODELS = {
    ("Toyota", "Corolla"): (139, "Sedan", 21_000),
    ("Ford", "F-150"): (375, "Pickup Truck", 41_000),
    ("Honda", "CR-V"): (190, "SUV / Crossover", 28_000),
    ("BMW", "3 Series"): (255, "Sedan", 43_000),
}


def raw_rows(count: int, seed: int = 1, first_id: int = 100_000) -> list[dict[str, str]]:
    """Listings whose price hangs together with model, year, mileage and a little noise."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        (make, model), (power, body, new_price) = rng.choice(list(MODELS.items()))
        age = rng.randint(0, 12)
        mileage = max(0, int(rng.gauss(11_000, 3_000) * age) + rng.randint(0, 2_000))
        price = new_price * 0.88**age * (1 - mileage / 500_000) * rng.lognormvariate(0, 0.06)
        rows.append(
            {
                "vin": f"VIN{first_id + number:014d}",
                "listing_id": str(first_id + number),
                "make_name": make,
                "model_name": model,
                "trim_name": rng.choice(["LE", "XLT", "Sport", "--"]),
                "body_type": body,
                "year": str(2020 - age),
                "mileage": f"{mileage:.1f}",
                "horsepower": f"{power:.1f}",
                "power": f"{power} hp @ 5,750 RPM",
                "torque": f"{power - 20} lb-ft @ 1,750 RPM",
                "engine_displacement": "2000.0",
                "city_fuel_economy": "24.0",
                "highway_fuel_economy": "31.0",
                "fuel_tank_volume": "12.7 gal",
                "back_legroom": "35.1 in",
                "front_legroom": "41.0 in",
                "length": "182.5 in",
                "width": "70.1 in",
                "height": "56.9 in",
                "wheelbase": "106.3 in",
                "maximum_seating": "5 seats",
                "fuel_type": "Gasoline",
                "transmission": "A",
                "wheel_system": rng.choice(["FWD", "AWD"]),
                "engine_type": "I4",
                "listing_color": rng.choice(["WHITE", "BLACK", "GRAY"]),
                "major_options": "['Bluetooth', 'Backup Camera']",
                "city": rng.choice(["Austin", "Boston", "Denver"]),
                "dealer_zip": rng.choice(["73301", "02108", "80014"]),
                "sp_id": str(rng.randint(1, 30)),
                "latitude": "30.2",
                "longitude": "-97.7",
                "owner_count": str(min(age, 4)) if age else "",
                "is_new": str(age == 0),
                "franchise_dealer": "True",
                "has_accidents": "False",
                "frame_damaged": "False",
                "salvage": "False",
                "fleet": "False",
                "listed_date": f"2020-0{rng.randint(1, 8)}-15",
                "daysonmarket": str(rng.randint(0, 200)),
                "seller_rating": "4.2",
                "savings_amount": "0",
                "description": 'A "fine" car,\nwith a second line',
                "price": f"{price:.1f}",
            }
        )
    return rows


def raw_csv(rows: Iterable[Mapping[str, str]], columns: tuple[str, ...] = RAW_COLUMNS) -> bytes:
    """A file in the published format."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
