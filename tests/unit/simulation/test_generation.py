"""Generated files look like the published one."""

import ast
import csv
import math
import os
import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from simulation.generation import generate_listings
from simulation.listing_format import COLUMNS
from simulation.rendering import MISSING
from simulation.vin import is_valid

INCHES = r"\d{2,3}(\.\d{1,2})? in|--"
WHOLE = r"\d+"
DECIMAL = r"\d+\.\d+"
TRUTH = "True|False"
# What a field of the published file looks like when it is not empty.
SHAPES = {
    "vin": r"[0-9A-HJ-NPR-Z]{17}",
    "back_legroom": INCHES,
    "bed": ".+",
    "bed_height": "--",
    "bed_length": INCHES,
    "body_type": "[A-Z].*",
    "cabin": ".*Cab",
    "city": "[A-Z].+",
    "city_fuel_economy": DECIMAL,
    "combine_fuel_economy": "",
    "daysonmarket": WHOLE,
    "dealer_zip": r"\d{5}",
    "description": r"(?s).+",
    "engine_cylinders": r"[A-Z]\d+( .+)?",
    "engine_displacement": r"\d{3,4}\.0",
    "engine_type": r"[A-Z]\d+( .+)?",
    "exterior_color": ".+",
    "fleet": TRUTH,
    "frame_damaged": TRUTH,
    "franchise_dealer": TRUTH,
    "franchise_make": "[A-Z].+",
    "front_legroom": INCHES,
    "fuel_tank_volume": r"\d{1,2}(\.\d{1,2})? gal|--",
    "fuel_type": "[A-Z].+",
    "has_accidents": TRUTH,
    "height": INCHES,
    "highway_fuel_economy": DECIMAL,
    "horsepower": r"\d{2,4}\.0",
    "interior_color": ".+",
    "isCab": TRUTH,
    "is_certified": "",
    "is_cpo": "True",
    "is_new": TRUTH,
    "is_oemcpo": "True",
    "latitude": r"\d{2}\.\d+",
    "length": INCHES,
    "listed_date": r"\d{4}-\d\d-\d\d",
    "listing_color": "[A-Z]+",
    "listing_id": r"\d{9}",
    "longitude": r"-\d{2,3}\.\d+",
    "main_picture_url": r"https://\S+\.jpeg",
    "major_options": r"\[.*\]",
    "make_name": "[A-Z].+",
    "maximum_seating": r"\d{1,2} seats",
    "mileage": r"\d+\.0",
    "model_name": ".+",
    "owner_count": r"\d+\.0",
    "power": r"\d{2,4} hp( @ [\d,]+ RPM)?",
    "price": r"\d+\.\d+",
    "salvage": TRUTH,
    "savings_amount": WHOLE,
    "seller_rating": DECIMAL,
    "sp_id": WHOLE,
    "sp_name": ".+",
    "theft_title": TRUTH,
    "torque": r"\d{2,4} lb-ft @ [\d,]+ RPM",
    "transmission": "A|M|CVT|Dual Clutch",
    "transmission_display": ".+",
    "trimId": r"t\d+",
    "trim_name": ".+",
    "vehicle_damage_category": "",
    "wheel_system": "4WD|AWD|FWD|RWD|4X2",
    "wheel_system_display": ".+",
    "wheelbase": INCHES,
    "width": INCHES,
    "year": r"\d{4}",
}
HISTORY = ("fleet", "frame_damaged", "has_accidents", "isCab", "salvage", "theft_title")
Rows = list[dict[str, str]]


def real_data(name: str) -> Path:
    folder = os.environ.get("USEDCARS_REAL_DATA")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"USEDCARS_REAL_DATA names no folder with {name}")
    return Path(folder) / name


def assert_shapes(rows: Rows) -> None:
    assert set(SHAPES) == set(COLUMNS)
    for row in rows:
        assert None not in row
        for name, shape in SHAPES.items():
            assert not row[name] or re.fullmatch(shape, row[name]), (name, row[name])


def test_every_row_parses_back_to_the_66_columns_in_order(generated: Path, rows: Rows) -> None:
    with generated.open(newline="", encoding="utf-8") as file:
        records = list(csv.reader(file))
    assert tuple(records[0]) == COLUMNS
    assert len(COLUMNS) == 66
    assert {len(record) for record in records} == {66}
    assert len(rows) == 20_000


def test_generated_fields_have_the_published_shapes(rows: Rows) -> None:
    assert_shapes(rows)


def test_real_fields_have_these_shapes_too() -> None:
    with real_data("used_cars_real_rows.csv").open(newline="", encoding="utf-8") as file:
        assert_shapes(list(csv.DictReader(file)))


def test_missing_rates_are_near_the_published(rows: Rows) -> None:
    with real_data("null_counts_full_dataset.csv").open(newline="") as file:
        published = {row["column"]: float(row["null_ratio"]) for row in csv.DictReader(file)}
    for name, ratio in published.items():
        missing = sum(not row[name] for row in rows) / len(rows)
        tolerance = 0.005 + 3 * math.sqrt(ratio * (1 - ratio) / len(rows))
        assert missing == pytest.approx(ratio, abs=tolerance), name


@pytest.mark.parametrize("name", [name for name in MISSING if name != "sp_id"])
def test_missing_rates_are_as_declared(rows: Rows, name: str) -> None:
    missing = sum(not row[name] for row in rows) / len(rows)
    assert missing == pytest.approx(MISSING[name], abs=0.002 + 4 * math.sqrt(MISSING[name] / len(rows)))


@pytest.mark.parametrize(
    "names",
    [
        HISTORY,
        ("length", "width", "height", "wheelbase", "back_legroom", "front_legroom", "fuel_tank_volume"),
        ("city_fuel_economy", "highway_fuel_economy"),
        ("engine_displacement", "horsepower"),
        ("engine_type", "engine_cylinders"),
        ("wheel_system", "wheel_system_display"),
        ("transmission", "transmission_display"),
    ],
)
def test_columns_of_a_group_are_missing_together(rows: Rows, names: tuple[str, ...]) -> None:
    together = Counter(tuple(not row[name] for name in names) for row in rows)
    assert set(together) == {(True,) * len(names), (False,) * len(names)}


def test_new_cars_have_no_history(rows: Rows) -> None:
    new = [row for row in rows if row["is_new"] == "True"]
    assert 0.4 < len(new) / len(rows) < 0.55
    assert not any(row[name] for row in new for name in (*HISTORY, "owner_count"))


def test_vins_have_the_right_check_digit(rows: Rows) -> None:
    assert all(is_valid(row["vin"]) for row in rows)


def test_dates_go_with_the_days_on_market(rows: Rows) -> None:
    scraped = Counter(
        date.fromisoformat(row["listed_date"]) + timedelta(days=int(row["daysonmarket"])) for row in rows
    )
    assert max(scraped) - min(scraped) <= timedelta(days=6)
    assert max(scraped).year == 2020


def test_options_are_python_lists_and_descriptions_have_what_a_careless_reader_stumbles_over(
    rows: Rows,
) -> None:
    for row in rows[:2000]:
        if row["major_options"]:
            options = ast.literal_eval(row["major_options"])
            assert isinstance(options, list)
            assert all(isinstance(option, str) for option in options)
    descriptions = [row["description"] for row in rows]
    for stumbling_block in ("\n", ",", '"', "[!@@Additional Info@@!]"):
        assert sum(stumbling_block in text for text in descriptions) > len(rows) / 20


def test_some_listings_come_twice_and_some_cars_under_two_ids(rows: Rows) -> None:
    ids = Counter(row["listing_id"] for row in rows)
    vins = Counter(row["vin"] for row in rows)
    again = sum(count - 1 for count in ids.values())
    relisted = sum(count - 1 for count in vins.values()) - again
    assert 0.0005 < again / len(rows) < 0.01
    assert 0.0005 < relisted / len(rows) < 0.01


def test_outliers_are_there_and_rare(rows: Rows) -> None:
    for name, low, high in (("price", 200, 500_000), ("mileage", 0, 900_000), ("year", 1960, 2022)):
        absurd = sum(not low <= float(row[name]) <= high for row in rows if row[name])
        assert 0 < absurd < len(rows) / 100, name


def test_older_and_further_driven_cars_are_cheaper(rows: Rows) -> None:
    def median(year: str, new: str) -> float:
        prices = sorted(
            float(r["price"])
            for r in rows
            if (r["model_name"], r["year"], r["is_new"]) == ("F-150", year, new)
        )
        return prices[len(prices) // 2]

    assert median("2014", "False") < median("2017", "False") < median("2020", "True")


def content(path: Path, rows: int, seed: int) -> bytes:
    for _ in generate_listings(path, rows, seed):
        pass
    return path.read_bytes()


def test_same_seed_and_rows_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first = content(tmp_path / "a.csv", 12_345, 5)
    assert first == content(tmp_path / "b.csv", 12_345, 5)
    assert first != content(tmp_path / "c.csv", 12_345, 6)


def test_fewer_rows_are_the_beginning_of_more(tmp_path: Path) -> None:
    assert content(tmp_path / "more.csv", 10_500, 5).startswith(content(tmp_path / "fewer.csv", 10_100, 5))


def test_data_sets_of_two_seeds_share_no_listing(rows: Rows, tmp_path: Path) -> None:
    content(tmp_path / "other.csv", 20_000, 99)
    with (tmp_path / "other.csv").open(newline="", encoding="utf-8") as file:
        other = {row["listing_id"] for row in csv.DictReader(file)}
    assert not other & {row["listing_id"] for row in rows}


def test_an_interrupted_generation_leaves_no_file(tmp_path: Path) -> None:
    writing = generate_listings(tmp_path / "raw.csv", 30_000, 1)
    next(writing)
    assert not (tmp_path / "raw.csv").exists()
    writing.close()
    assert not list(tmp_path.iterdir())
