import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.cleaning import (
    FLAGS,
    NUMBERS,
    PLACEHOLDERS,
    TEXTS,
    BatchCounts,
    clean_listings,
    cleaning_stage,
    listing_json,
)
from usedcars_assets.pipeline.errors import BadBatchError
from usedcars_assets.pipeline.raw_listings import RAW_COLUMNS, read_raw_listings

RawRow = dict[str, str]
MakeRow = Callable[..., RawRow]
WriteCsv = Callable[..., str]

PRICES = {"price", "savings_amount"}

# One Spark job for each example: a few examples, each with many values.
few_examples = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def clean(spark: SparkSession, listings: list[dict[str, object]]) -> list[dict[str, object]]:
    """What the model makes of listings."""
    texts = spark.createDataFrame([(json.dumps(listing),) for listing in listings], "listing string")
    return [row.asDict() for row in cleaning_stage().transform(texts.coalesce(1)).collect()]


def test_numbers_lose_their_units_and_may_come_without_them(spark: SparkSession) -> None:
    wanted = {
        "back_legroom_in": 35.1,
        "fuel_tank_gal": 12.7,
        "seats": 5,
        "horsepower": 177.0,
        "power_hp": 177.0,
        "power_rpm": 5750.0,
        "torque_lb_ft": 200.0,
        "torque_rpm": 1750.0,
        "mileage_miles": 12345.0,
        "longitude": -66.1582,
    }
    both = {"power": "177 hp @ 5,750 RPM", "torque": "200 lb-ft @ 1,750 RPM", "longitude": "-66.1582"}
    with_units = {
        "back_legroom": "35.1 in",
        "fuel_tank_volume": "12.7 gal",
        "maximum_seating": "5 seats",
        "horsepower": "177.0 hp",
        "mileage": "12,345 miles",
    }
    without = {
        "back_legroom": 35.1,
        "fuel_tank_volume": "12.7",
        "maximum_seating": 5,
        "horsepower": 177,
        "mileage": "12345.0",
    }
    for found in clean(spark, [both | with_units, both | without]):
        assert {name: found[name] for name in wanted} == wanted


def test_placeholders_are_missing_values(spark: SparkSession) -> None:
    marks = [*PLACEHOLDERS, "None", "NaN", "  --  ", None]
    listings = [
        {"back_legroom": mark, "trim_name": mark, "is_new": mark, "listed_date": mark, "mileage": mark}
        for mark in marks
    ]
    for found in clean(spark, listings):
        assert [found[name] for name in ("back_legroom_in", "trim_name", "is_new", "listed_date")] == [
            None
        ] * 4
        assert found["mileage_miles"] is None


def test_implausible_secondary_numbers_are_missing_values(spark: SparkSession) -> None:
    (found,) = clean(
        spark, [{"back_legroom": "9999 in", "maximum_seating": "-3 seats", "owner_count": "Infinity"}]
    )
    assert (found["back_legroom_in"], found["seats"], found["owner_count"]) == (None, None, None)


@few_examples
@given(st.lists(st.floats(20, 80).map(lambda number: round(number, 3)), min_size=50, max_size=200))
def test_any_legroom_is_read_back_from_its_text(spark: SparkSession, numbers: list[float]) -> None:
    listings = [{"front_legroom": f"{number} in", "back_legroom": number} for number in numbers]
    found = clean(spark, listings)
    assert [row["front_legroom_in"] for row in found] == numbers
    assert [row["back_legroom_in"] for row in found] == numbers


IMPOSSIBLE: list[tuple[RawRow, str, str]] = [
    ({"make_name": "--"}, "missing_make_name", "make_name"),
    ({"model_name": ""}, "missing_model_name", "model_name"),
    ({"year": ""}, "missing_year", "year"),
    ({"year": "soon"}, "year_not_a_number", "year"),
    ({"year": "1492"}, "year_out_of_range", "year"),
    ({"year": "2024"}, "year_out_of_range", "year"),  # listed in 2020
    ({"mileage": "-5"}, "mileage_out_of_range", "mileage"),
    ({"mileage": "99999988.0"}, "mileage_out_of_range", "mileage"),
    ({"mileage": "many"}, "mileage_not_a_number", "mileage"),
    ({"horsepower": "100000"}, "horsepower_out_of_range", "horsepower"),
    ({"longitude": "66.1582"}, "longitude_out_of_range", "longitude"),
    ({"latitude": "0"}, "latitude_out_of_range", "latitude"),
    ({"price": ""}, "missing_price", "price"),
    ({"price": "a lot"}, "price_not_a_number", "price"),
    ({"price": "1"}, "price_out_of_range", "price"),
    ({"price": "1e300"}, "price_out_of_range", "price"),
    ({"price": "-23141.0"}, "price_out_of_range", "price"),
    ({"price": "1234567.0"}, "placeholder_price", "price"),
    ({"price": "3299995.0", "horsepower": "177.0"}, "implausible_price", "price"),
    ({"price": "3299995.0", "horsepower": ""}, "implausible_price", "price"),
    ({"listing_id": ""}, "missing_listing_id", "listing_id"),
]


def test_impossible_rows_are_rejected_with_reason_and_field(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv
) -> None:
    rows = [raw_row(vin=str(place), **changes) for place, (changes, _, _) in enumerate(IMPOSSIBLE)]
    with clean_listings(read_raw_listings(spark, write_csv([*rows, raw_row(vin="good")]))) as batch:
        assert (batch.counts.read, batch.counts.cleaned) == (len(rows) + 1, 1)
        rejected = {row.vin: row for row in batch.rejected.collect()}
    for row, (_, reason, field) in zip(rows, IMPOSSIBLE, strict=True):
        found = rejected[row["vin"]]
        assert (found.reason, found.field) == (reason, field)
        assert {name: found[name] or "" for name in RAW_COLUMNS} == row


def test_a_malformed_row_is_rejected_and_not_lost(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv
) -> None:
    path = write_csv([raw_row()], more=b"too,few\n")
    with clean_listings(read_raw_listings(spark, path)) as batch:
        assert batch.counts == BatchCounts(2, 1, 1, 0, {"malformed_row": 1})
        assert batch.rejected.select("malformed_row").collect()[0][0] == "too,few"


def test_of_repeated_listings_the_last_and_most_complete_stays(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv
) -> None:
    rows = [
        raw_row(listing_id="1", listed_date="2020-01-01", price="1000"),
        raw_row(listing_id="1", listed_date="2020-03-01", price="2000", trim_name=""),
        raw_row(listing_id="1", listed_date="2020-03-01", price="3000"),
        raw_row(listing_id="2", price="4000"),
        # An impossible row takes no place among the duplicates.
        raw_row(listing_id="2", price="5"),
    ]
    with clean_listings(read_raw_listings(spark, write_csv(rows))) as batch:
        assert batch.counts == BatchCounts(5, 2, 1, 2, {"price_out_of_range": 1})
        assert {row.price_usd for row in batch.cleaned.collect()} == {3000.0, 4000.0}
        assert {row.price_usd for row in batch.duplicates.collect()} == {1000.0, 2000.0}


@few_examples
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "listing_id": st.sampled_from(["1", "2", "3", ""]),
                "price": st.sampled_from(["--", "0", "99999999", "15000"]),
                "year": st.sampled_from(["", "3000", "2015"]),
                "mileage": st.text(alphabet="0123456789.,- milesé\n\"'", max_size=8),
                "description": st.text(max_size=20).filter(
                    lambda text: "\r" not in text and "\0" not in text
                ),
            },
        ),
        max_size=30,
    )
)
def test_every_row_is_cleaned_rejected_or_a_duplicate(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv, changes: list[RawRow]
) -> None:
    rows = [raw_row(listing_id="good"), *(raw_row(**change) for change in changes)]
    rows = [{name: text.encode(errors="ignore").decode() for name, text in row.items()} for row in rows]
    with clean_listings(read_raw_listings(spark, write_csv(rows))) as batch:
        tables = [batch.cleaned.count(), batch.rejected.count(), batch.duplicates.count()]
        counts = batch.counts
    assert counts.read == len(rows) == sum(tables)
    assert [counts.cleaned, counts.rejected, counts.duplicates] == tables
    assert sum(counts.rejected_by_reason.values()) == counts.rejected


def test_the_model_cleans_raw_and_cleaned_listings_exactly_as_the_batch_does(
    spark: SparkSession, market: list[RawRow], write_csv: WriteCsv
) -> None:
    columns = [*(number.column for number in NUMBERS), *TEXTS, *FLAGS, "listed_date"]
    without_price = [{name: text for name, text in row.items() if name not in PRICES} for row in market]
    raw = spark.createDataFrame([(json.dumps(row),) for row in without_price], "listing string")
    with clean_listings(read_raw_listings(spark, write_csv(market))) as batch:
        for listings in (raw, batch.cleaned.select(listing_json().alias("listing"))):
            by_model = cleaning_stage().transform(listings)
            assert by_model.where("rejection IS NOT NULL").count() == 0
            assert by_model.count() == batch.counts.cleaned
            assert by_model.select(columns).exceptAll(batch.cleaned.select(columns)).count() == 0
        listing = json.loads(batch.cleaned.select(listing_json()).collect()[0][0])
    assert set(listing) <= set(RAW_COLUMNS) - PRICES


def test_a_cleaned_listing_survives_its_way_through_json_whatever_is_missing(spark: SparkSession) -> None:
    texts = ["177 hp @ 5,750 RPM", "177 hp", "@ 5,750 RPM", "--", None]
    listings = [
        {"power": power, "torque": torque, "horsepower": 0.1 + 0.2, "is_new": "True"}
        for power in texts
        for torque in texts
    ]
    raw = spark.createDataFrame([(json.dumps(listing),) for listing in listings], "listing string").coalesce(
        1
    )
    once = cleaning_stage().transform(raw)
    columns = [*(number.column for number in NUMBERS), *TEXTS, *FLAGS, "listed_date"]
    twice = cleaning_stage().transform(once.select(listing_json().alias("listing")))
    assert twice.select(columns).collect() == once.select(columns).collect()
    assert once.where("power_rpm IS NOT NULL AND power_hp IS NULL").count() == len(texts)


def test_the_model_says_which_rule_a_request_breaks_and_keeps_its_columns(spark: SparkSession) -> None:
    good = {"make_name": "Borealis", "model_name": "Comet", "year": 2019}
    texts = [
        (json.dumps(good), None, None),
        (json.dumps(good | {"year": "x"}), "year_not_a_number", "year"),
        (json.dumps({"make_name": "Borealis", "model_name": "Comet"}), "missing_year", "year"),
        ("{}", "missing_make_name", "make_name"),
        ("not json", "unreadable_listing", None),
        ("[1]", "unreadable_listing", None),
        ("null", "unreadable_listing", None),
        ("", "unreadable_listing", None),
        (None, "unreadable_listing", None),
    ]
    requests = spark.createDataFrame(texts, "listing string, wanted string, wanted_field string").select(
        "*", sf.struct(sf.lit(1).alias("offset")).alias("request")
    )
    for row in cleaning_stage().transform(requests).collect():
        assert (row.rejection, row.rejection_field) == (row.wanted, row.wanted_field), row.listing
        assert row.request.offset == 1


def test_bytes_that_are_not_utf8_are_refused(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv
) -> None:
    latin1 = ",".join(raw_row(city="Cañon", description="")[name] for name in RAW_COLUMNS).encode("latin-1")
    with pytest.raises(BadBatchError, match="not UTF-8"):
        clean_listings(read_raw_listings(spark, write_csv([raw_row()], more=latin1 + b"\n")))


def test_a_replacement_character_that_was_written_as_such_is_text(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv
) -> None:
    with clean_listings(read_raw_listings(spark, write_csv([raw_row(city="Ca\ufffdon")]))) as batch:
        assert batch.cleaned.collect()[0].city == "Ca\ufffdon"


def test_batches_with_nothing_to_learn_from_are_refused(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv
) -> None:
    with pytest.raises(BadBatchError, match="a header but no rows"):
        clean_listings(read_raw_listings(spark, write_csv([])))
    with pytest.raises(BadBatchError, match=r"No row .* has a price"):
        clean_listings(read_raw_listings(spark, write_csv([raw_row(price="--"), raw_row(price="")])))
    with pytest.raises(
        BadBatchError, match=r"All 2 rows .* rejected \(price_out_of_range 1, year_out_of_range 1\)"
    ):
        clean_listings(read_raw_listings(spark, write_csv([raw_row(price="1"), raw_row(year="1")])))


def test_a_quote_that_is_never_closed_does_not_swallow_the_batch_unseen(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv
) -> None:
    swallowed = b'x,"an open quote\n' + b"some,more,fields\n" * 80_000
    with pytest.raises(BadBatchError, match="quote is never closed"):
        clean_listings(read_raw_listings(spark, write_csv([raw_row()], more=swallowed)))


def test_a_batch_that_vanishes_while_it_is_read_is_said_to_be_gone(
    spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv
) -> None:
    path = write_csv([raw_row()])
    raw = read_raw_listings(spark, path)
    (Path(path.removeprefix("file://")) / "listings.csv").unlink()
    with pytest.raises(BadBatchError, match="gone or was replaced"):
        clean_listings(raw)


def test_a_batch_of_one_row_is_a_batch(spark: SparkSession, raw_row: MakeRow, write_csv: WriteCsv) -> None:
    with clean_listings(read_raw_listings(spark, write_csv([raw_row()]))) as batch:
        assert batch.counts == BatchCounts(1, 1, 0, 0, {})


def test_the_published_rows_are_all_possible(spark: SparkSession) -> None:
    folder = os.environ.get("USEDCARS_REAL_DATA")
    if not folder:
        pytest.skip("USEDCARS_REAL_DATA does not name a folder with real rows")
    with clean_listings(
        read_raw_listings(spark, f"{Path(folder).resolve()}/used_cars_real_rows.csv")
    ) as batch:
        assert batch.counts == BatchCounts(10, 10, 0, 0, {})
        oldest = batch.cleaned.orderBy("year").collect()[0]
    assert (oldest.model_name, oldest.back_legroom_in, oldest.seats) == ("MX-5 Miata", None, 2)
    assert (oldest.torque_lb_ft, oldest.torque_rpm, oldest.price_usd) == (114.0, 5500.0, 3600.0)
