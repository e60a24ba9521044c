"""Rows that someone has cleaned, as raw listings again: 28 columns of the published data set, without units.

They do not tell make, model and trim. A listing without the first two is refused, so all get the same ones;
the state stands in for the city.
"""

import csv
from pathlib import Path

from usedcars_assets.pipeline.raw_listings import RAW_COLUMNS

WITH_UNIT = {
    "back_legroom": "in",
    "front_legroom": "in",
    "fuel_tank_volume": "gal",
    "height": "in",
    "length": "in",
    "maximum_seating": "seats",
    "wheelbase": "in",
    "width": "in",
}
# The raw file's code of each drive.
WHEEL_SYSTEMS = {
    "All-Wheel Drive": "AWD",
    "Four-Wheel Drive": "4WD",
    "Front-Wheel Drive": "FWD",
    "Rear-Wheel Drive": "RWD",
    "4X2": "4X2",
}


def write_as_raw(sample: Path, raw: Path) -> None:
    """Writes the rows of `sample` as a raw file of 66 columns; what is not known stays empty."""
    with (
        sample.open(newline="", encoding="utf-8") as rows,
        raw.open("w", newline="", encoding="utf-8") as out,
    ):
        writer = csv.DictWriter(out, RAW_COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        for number, row in enumerate(csv.DictReader(rows)):
            listing = {name: row[name] for name in RAW_COLUMNS if name in row}
            listing |= {name: f"{row[name]} {unit}" for name, unit in WITH_UNIT.items()}
            listing |= {
                "listing_id": str(number),
                "make_name": "not told",
                "model_name": "not told",
                "city": row["State"],
                "listed_date": f"{row['listed_date_yearMonth']}-01",
                "power": f"{row['horsepower']} hp @ {row['horsepower_rpm']} RPM",
                "torque": f"{row['torque']} lb-ft @ {row['torque_rpm']} RPM",
                "wheel_system": WHEEL_SYSTEMS[row["wheel_system_display"]],
                "year": str(int(float(row["year"]))),
            }
            writer.writerow(listing)
