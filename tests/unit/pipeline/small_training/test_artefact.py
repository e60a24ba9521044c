import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.artefact import score_listings
from usedcars_assets.pipeline.prediction_intervals import SERVED_LEVEL

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def test_the_artefact_prices_every_test_row_as_the_steps_did(training: Any) -> None:
    listings = training.split.where("split = 'test'").select("listing_id", "listing")
    steps = {row.listing_id: row.prediction for row in training.stack.test_predictions.collect()}
    scored = score_listings(training.artefact, listings).collect()
    assert {row.listing_id for row in scored} == set(steps)
    for row in scored:
        assert row.rejection is None
        assert row.price == pytest.approx(steps[row.listing_id], rel=1e-6)


def test_the_artefact_gives_the_interval_of_the_stack_and_none_to_what_it_rejects(training: Any) -> None:
    steps = {row.listing_id: row for row in training.stack.test_predictions.collect()}
    listings = training.split.where("split = 'test'").select("listing_id", "listing")
    rejected = listings.limit(1).select(sf.lit("none").alias("listing_id"), sf.lit("{}").alias("listing"))
    scored = training.artefact.transform(listings.union(rejected)).collect()
    assert len(scored) == len(steps) + 1
    for row in scored:
        if row.listing_id == "none":
            assert (row.price, row.price_low, row.price_high) == (None, None, None)
            continue
        step = steps[row.listing_id]
        assert row.price_low <= row.price <= row.price_high
        assert (row.price_low, row.price_high) == pytest.approx((step.price_low, step.price_high), rel=1e-6)
    assert training.stack.interval_quality.coverage[SERVED_LEVEL] > 0.7


def test_the_artefact_prices_the_raw_rows_as_the_steps_did(
    training: Any, market: list[dict[str, str]], spark: SparkSession
) -> None:
    steps = {row.listing_id: row.prediction for row in training.stack.test_predictions.collect()}
    raw = [(row["listing_id"], json.dumps(row)) for row in market if row["listing_id"] in steps]
    scored = score_listings(
        training.artefact, spark.createDataFrame(raw, ["listing_id", "listing"])
    ).collect()
    assert {row.listing_id: row.price for row in scored} == pytest.approx(steps, rel=1e-6)


def test_the_artefact_keeps_the_columns_of_its_caller(training: Any) -> None:
    listings = training.split.limit(3).select(
        "listing", sf.struct(sf.lit("r1").alias("request_id"), sf.lit(3).alias("offset")).alias("request")
    )
    scored = score_listings(training.artefact, listings)
    assert scored.columns == ["listing", "request", "price", "rejection", "rejection_field"]
    assert [row.request.request_id for row in scored.collect()] == ["r1"] * 3
    types = {
        name: kind.typeName() for name, kind in ((field.name, field.dataType) for field in scored.schema)
    }
    assert (types["price"], types["rejection"], types["rejection_field"]) == ("double", "string", "string")


def test_members_without_weight_are_not_asked(training: Any) -> None:
    columns = training.artefact.transform(training.split.select("listing")).columns
    asked = {name for name in training.members if f"prediction_{name}" in columns}
    assert asked == {name for name, weight in training.stack.weights.items() if weight > 0}


def test_price_and_saving_in_a_request_change_nothing(training: Any, spark: SparkSession) -> None:
    listing = json.loads(training.split.select("listing").first()[0])
    cheating = [listing, listing | {"price": 1, "savings_amount": 99_999, "unknown": [1, {"a": 2}]}]
    texts = spark.createDataFrame([(json.dumps(each),) for each in cheating], "listing string")
    honest, cheated = (row.price for row in score_listings(training.artefact, texts).collect())
    assert honest == cheated


def test_numbers_and_options_may_come_as_json_values(training: Any, spark: SparkSession) -> None:
    listing = json.loads(training.split.where("major_options IS NOT NULL").select("listing").first()[0])
    as_values = listing | {
        "year": int(listing["year"]),
        "horsepower": float(listing["horsepower"]),
        "back_legroom": "35.1 in",
        "is_new": "False",
        "major_options": ["Leather Seats", "Bluetooth"],
    }
    texts = spark.createDataFrame([(json.dumps(each),) for each in (listing, as_values)], "listing string")
    one, other = (row.price for row in score_listings(training.artefact, texts).collect())
    assert one == other


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_text_makes_the_artefact_throw(training: Any, spark: SparkSession, data: st.DataObject) -> None:
    good = training.split.select("listing").first()[0]
    fields = list(json.loads(good))
    mutated = st.builds(
        lambda field, value: json.dumps(json.loads(good) | {field: value}), st.sampled_from(fields), JSON
    )
    truncated = st.integers(0, len(good)).map(lambda length: good[:length])
    texts = data.draw(
        st.lists(mutated | truncated | JSON.map(json.dumps) | st.text(), min_size=50, max_size=100)
    )
    clean = [text.encode(errors="replace").decode() for text in texts]
    rows = spark.createDataFrame([(text,) for text in clean], "listing string")
    for row in score_listings(training.artefact, rows).collect():
        assert (row.price is None) == (row.rejection is not None)
        assert row.price is None or row.price > 0


def test_hostile_texts_are_answered_too(training: Any, spark: SparkSession) -> None:
    good = json.loads(training.split.select("listing").first()[0])
    texts = [
        "[" * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        json.dumps(good | {"year": "9" * 5_000}),
        '{"year":' + "9" * 5_000 + "}",
        json.dumps(good | {"mileage": "1" * 1_000_000}),
        json.dumps(good | {"make_name": "\x00\ud800 '\"\\"}),
        json.dumps(good | {"listed_date": "0000-99-99", "major_options": "[" * 50}),
        json.dumps(good | {"mileage": float("nan"), "horsepower": float("inf")}),
        "\ufeff" + json.dumps(good),
    ]
    rows = spark.createDataFrame([(text,) for text in texts], "listing string")
    answers = score_listings(training.artefact, rows).collect()
    assert len(answers) == len(texts)
    assert all((row.price is None) == (row.rejection is not None) for row in answers)
    # Bytes that are not UTF-8, as they come from a topic.
    raw = spark.sql("""SELECT CAST(X'7B226D616B65FF5F6E616D65223A22FFFE22' AS STRING) AS listing""")
    assert score_listings(training.artefact, raw).collect()[0].rejection is not None


def test_the_artefact_runs_in_a_spark_that_knows_neither_this_project_nor_xgboost(
    training: Any, spark: SparkSession, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    packages = next((environment / "lib").glob("python*/site-packages"))
    for name in ("pyspark", "py4j", "numpy"):
        module = sys.modules.get(name) or __import__(name)
        (packages / name).symlink_to(Path(str(module.__file__)).parent)
        libraries = Path(str(module.__file__)).parent.parent / f"{name}.libs"
        if libraries.exists():
            (packages / libraries.name).symlink_to(libraries)
    listings = training.split.where("split = 'test'").select("listing_id", "listing")
    listings.write.parquet((tmp_path / "listings").as_uri())
    script = tmp_path / "score.py"
    script.write_text(
        f"""
import importlib.util, json
for absent in ("xgboost", "usedcars_assets", "pandas", "pyarrow", "mlflow"):
    assert importlib.util.find_spec(absent) is None, absent
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
listings = spark.read.parquet({(tmp_path / "listings").as_uri()!r})
scored = PipelineModel.load({Path(training.artefact_path).as_uri()!r}).transform(listings)
prices = dict(scored.select("listing_id", "price").collect())
open({str(tmp_path / "prices.json")!r}, "w").write(json.dumps(prices))
"""
    )
    kept = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "HOME") if name in os.environ}
    done = subprocess.run(
        [str(environment / "bin" / "python"), str(script)],
        env=kept | {"SPARK_LOCAL_IP": "127.0.0.1", "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    steps = {row.listing_id: row.prediction for row in training.stack.test_predictions.collect()}
    assert json.loads((tmp_path / "prices.json").read_text()) == pytest.approx(steps, rel=1e-6)
