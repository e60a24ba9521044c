"""Made-up raw listings in the published format."""

import csv
import datetime
import random
from collections.abc import Callable, Mapping, Sequence

import pytest

from usedcars_assets.pipeline.raw_listings import RAW_COLUMNS

RawRow = dict[str, str]
WriteCsv = Callable[..., str]

_USUAL: RawRow = {
    "vin": "1XXAA00000000001",
    "listing_id": "100000001",
    "back_legroom": "35.1 in",
    "body_type": "SUV / Crossover",
    "city": "Springfield",
    "city_fuel_economy": "18.0",
    "daysonmarket": "52",
    "dealer_zip": "00960",
    "description": 'A "good" car,\nwith a line break, and commas',
    "engine_cylinders": "I4",
    "engine_displacement": "1300.0",
    "engine_type": "I4",
    "fleet": "False",
    "frame_damaged": "False",
    "franchise_dealer": "True",
    "franchise_make": "Borealis",
    "front_legroom": "41.2 in",
    "fuel_tank_volume": "12.7 gal",
    "fuel_type": "Gasoline",
    "has_accidents": "False",
    "height": "66.5 in",
    "highway_fuel_economy": "24.0",
    "horsepower": "177.0",
    "isCab": "False",
    "is_new": "False",
    "latitude": "18.3988",
    "length": "166.6 in",
    "listed_date": "2020-04-06",
    "listing_color": "YELLOW",
    "longitude": "-66.1582",
    "major_options": "['Leather Seats', 'Backup Camera']",
    "make_name": "Borealis",
    "maximum_seating": "5 seats",
    "mileage": "12000.0",
    "model_name": "Comet",
    "owner_count": "1.0",
    "power": "177 hp @ 5,750 RPM",
    "price": "23141.0",
    "salvage": "False",
    "savings_amount": "0",
    "seller_rating": "2.8",
    "sp_id": "370599",
    "sp_name": "A dealer",
    "theft_title": "False",
    "torque": "200 lb-ft @ 1,750 RPM",
    "transmission": "A",
    "transmission_display": "9-Speed Automatic",
    "trimId": "t1",
    "trim_name": "Base FWD",
    "wheel_system": "FWD",
    "wheelbase": "101.2 in",
    "width": "79.6 in",
    "year": "2019",
}


@pytest.fixture(scope="session")
def raw_row() -> Callable[..., RawRow]:
    """A usual raw row with changes: raw_row(price="--")."""

    def row(**changes: str) -> RawRow:
        return dict.fromkeys(RAW_COLUMNS, "") | _USUAL | changes

    return row


@pytest.fixture(scope="session")
def write_csv(tmp_path_factory: pytest.TempPathFactory) -> WriteCsv:
    """Writes rows as a batch of one CSV file, and gives its folder."""

    def write(
        rows: Sequence[Mapping[str, str]], header: Sequence[str] = RAW_COLUMNS, more: bytes = b""
    ) -> str:
        folder = tmp_path_factory.mktemp("batch")
        with (folder / "listings.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([row.get(name, "") for name in header] for row in rows)
        if more:
            with (folder / "listings.csv").open("ab") as file:
                file.write(more)
        return folder.as_uri()

    return write


@pytest.fixture(scope="session")
def market(raw_row: Callable[..., RawRow]) -> list[RawRow]:
    """1,500 cars whose prices hang together with what they are, listed by 40 dealers."""
    chance = random.Random(7)
    models = [
        (f"Make {number % 6}", f"Model {number}", chance.gauss(10, 0.4), chance.randint(100, 400))
        for number in range(24)
    ]
    rows = []
    for number in range(1500):
        make, model, level, power = chance.choice(models)
        year, dealer, leather = chance.randint(2008, 2020), chance.randrange(40), chance.random() < 0.4
        miles = max(0.0, (2020 - year) * chance.gauss(11_000, 3_000))
        log_price = level - 0.09 * (2020 - year) - miles / 300_000 + 0.08 * leather + 0.004 * (dealer % 10)
        listed = datetime.date(2020, 9, 1) - datetime.timedelta(days=chance.randrange(200))
        rows.append(
            raw_row(
                vin=f"VIN{number:014d}",
                listing_id=str(100_000 + number),
                make_name=make,
                model_name=model,
                trim_name=f"Trim {number % 3}",
                year=str(year),
                horsepower=f"{power}.0",
                power=f"{power} hp @ 6,000 RPM" if chance.random() < 0.8 else "",
                mileage=f"{miles:.1f}" if chance.random() < 0.95 else "",
                body_type=chance.choice(["Sedan", "SUV / Crossover", "Pickup Truck"]),
                listed_date=listed.isoformat(),
                major_options="['Leather Seats', 'Bluetooth']" if leather else "",
                sp_id=str(dealer),
                city=f"City {dealer % 15}",
                has_accidents=chance.choice(["True", "False", ""]),
                price=f"{2.718281828 ** (log_price + chance.gauss(0, 0.05)):.1f}",
            )
        )
    return rows
