"""Good and bad batches through the real asset, Spark and HDFS."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    DagsterEventType,
    DagsterInstance,
    ExecuteInProcessResult,
    instance_for_test,
    materialize,
)
from pyspark.sql import SparkSession

from tests.services.usedcars_assets.conftest import Source, version_of
from tests.services.usedcars_assets.raw_rows import raw_csv, raw_rows
from usedcars_assets.ingestion.batches import BATCH_AT_FAULT_TAG
from usedcars_assets.ingestion.cleaned_listings import cleaned_listings
from usedcars_assets.ingestion.quarantine import quarantine_reason
from usedcars_assets.pipeline.raw_listings import RAW_COLUMNS
from usedcars_assets.resources.configured import configured_resources
from usedcars_assets.resources.lake import Lake
from usedcars_assets.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("spark")]


def clean(resources: dict[str, Any], instance: DagsterInstance, *batches: str) -> ExecuteInProcessResult:
    instance.add_dynamic_partitions("batches", list(batches))
    tags = {
        "dagster/asset_partition_range_start": batches[0],
        "dagster/asset_partition_range_end": batches[-1],
    }
    return materialize(
        [cleaned_listings], resources=resources, instance=instance, tags=tags, raise_on_error=False
    )


def sentence(result: ExecuteInProcessResult) -> str:
    (event,) = result.get_step_failure_events()
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    return str(failure.description)


def materialized(result: ExecuteInProcessResult, asset: str) -> dict[str, AssetMaterialization]:
    return {
        str(event.partition): event.step_materialization_data.materialization
        for event in result.filter_events(
            lambda event: event.event_type == DagsterEventType.ASSET_MATERIALIZATION
        )
        if event.asset_key == AssetKey(asset)
    }


def with_price(price: str) -> list[dict[str, str]]:
    return [{**row, "price": price} for row in raw_rows(20)]


BAD_BATCHES: dict[str, tuple[list[bytes], str]] = {
    "no-file": ([], "has no CSV file"),
    "empty-file": ([b""], "is empty"),
    "no-rows": ([raw_csv([])], "no rows"),
    "garbage": ([bytes(range(256)) * 40], "header"),
    "wrong-header": ([b"a,b,c\n1,2,3\n"], "header"),
    "missing-column": ([raw_csv(raw_rows(20), RAW_COLUMNS[:-1])], "year"),
    "extra-column": ([raw_csv(raw_rows(20), (*RAW_COLUMNS, "color_of_socks"))], "color_of_socks"),
    "no-prices": ([raw_csv(with_price(""))], "price"),
    "absurd-prices": ([raw_csv(with_price("99999999999"))], "price_out_of_range"),
    "not-utf8": ([raw_csv(raw_rows(20)).replace(b"Austin", b"M\xfcnchen")], "UTF-8"),
}


class Outcome(NamedTuple):
    """A run over bad batches and a good one."""

    result: ExecuteInProcessResult
    lake: Lake
    instance: DagsterInstance


@pytest.fixture(scope="module")
def bad_and_good(platform: Any, spark: SparkSession) -> Iterator[Outcome]:
    """All bad batches and a good one in a single run, which is as hard as it gets."""
    values = Settings()  # type: ignore[call-arg]
    values = values.model_copy(
        update={"lake_uri": values.lake_uri.removesuffix("/usedcars") + "/tests/bad-batches"}
    )
    resources = configured_resources(values)
    resources["lake"].delete("")
    source = Source(values)
    for batch, (contents, _) in BAD_BATCHES.items():
        source.deliver(batch, *contents)
    source.deliver("good", raw_csv(raw_rows(50)))
    with instance_for_test() as instance:
        yield Outcome(clean(resources, instance, *BAD_BATCHES, "good"), resources["lake"], instance)


@pytest.mark.parametrize("batch", BAD_BATCHES)
def test_a_bad_batch_is_set_aside_with_one_sentence(bad_and_good: Outcome, batch: str) -> None:
    result, lake, _ = bad_and_good
    assert not result.success
    reason = quarantine_reason(lake, version_of(lake, batch))
    assert reason is not None
    assert reason.startswith(f"Batch {batch} is set aside: ")
    assert BAD_BATCHES[batch][1] in reason
    assert "\n" not in reason
    assert reason in sentence(result)


@pytest.mark.parametrize("batch", BAD_BATCHES)
def test_of_a_bad_batch_no_table_is_left_to_read(bad_and_good: Outcome, batch: str) -> None:
    lake = bad_and_good.lake
    assert lake.entries(f"cleaned/{batch}") == []
    assert not lake.exists(f"assets/cleaned_listings/{batch}.json")


def test_a_good_batch_among_bad_ones_is_cleaned_and_taken_up_without_repair(
    bad_and_good: Outcome,
    instance: DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, lake, first_instance = bad_and_good
    assert "The other 1 are cleaned" in sentence(result)
    assert first_instance.get_runs()[0].tags[BATCH_AT_FAULT_TAG] == "true"
    monkeypatch.setattr("usedcars_assets.pipeline.cleaning.clean_listings", _must_not_clean)
    values = Settings().model_copy(update={"lake_uri": lake.root_uri})  # type: ignore[call-arg]
    again = clean(configured_resources(values), instance, "good")
    assert again.success
    assert materialized(again, "cleaned_listings")["good"].metadata["dagster/row_count"].value == 50


def test_a_batch_that_a_blocking_check_refuses_is_set_aside_and_the_others_are_cleaned(
    resources: dict[str, Any],
    instance: DagsterInstance,
    source: Source,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.deliver("sound", raw_csv(raw_rows(10)))
    source.deliver("without-cities", raw_csv([{**row, "city": ""} for row in raw_rows(10, seed=3)]))
    monkeypatch.setattr("usedcars_assets.ingestion.checks.NEVER_NULL", ("listing_id", "city"))
    result = clean(resources, instance, "sound", "without-cities")
    assert "Batch without-cities is set aside: its cleaned rows fail no_nulls" in sentence(result)
    assert "The other 1 are cleaned" in sentence(result)
    assert "fail no_nulls" in str(quarantine_reason(lake, version_of(lake, "without-cities")))
    assert not lake.exists("assets/cleaned_listings/without-cities.json")
    assert [check.passed for check in result.get_asset_check_evaluations()].count(False) == 1
    monkeypatch.undo()
    again = clean(resources, instance, "without-cities")
    assert again.success, "by hand it is cleaned anew"


def _must_not_clean(raw: object) -> None:
    raise AssertionError("a batch that is cleaned already was cleaned again")


def test_no_row_vanishes_and_each_partition_tells_its_numbers(
    resources: dict[str, Any],
    instance: DagsterInstance,
    source: Source,
    lake: Lake,
    spark: SparkSession,
) -> None:
    rows = raw_rows(40)
    impossible = [{**rows[0], "listing_id": "1", "year": "1492"}, {**rows[1], "listing_id": "2", "price": ""}]
    source.deliver("mixed", raw_csv([*rows, *impossible, rows[5], rows[6]]))
    source.deliver("one-row", raw_csv(raw_rows(1, seed=7)))
    result = clean(resources, instance, "mixed", "one-row")
    assert result.success
    cleaned, rejected = materialized(result, "cleaned_listings"), materialized(result, "rejected_listings")
    assert {name: event.metadata["dagster/row_count"].value for name, event in cleaned.items()} == {
        "mixed": 40,
        "one-row": 1,
    }
    of_mixed = cleaned["mixed"].metadata
    assert (of_mixed["rows_read"].value, of_mixed["duplicates"].value) == (44, 2)
    by_reason = {
        record.data["reason"]: record.data["rows"]
        for record in rejected["mixed"].metadata["by_reason"].records
    }
    assert by_reason == {"missing_price": 1, "year_out_of_range": 1}
    fingerprint = version_of(lake, "mixed").fingerprint
    stored = {
        table: spark.read.parquet(lake.uri(f"{table}/mixed/{fingerprint}")).count()
        for table in ("cleaned", "rejected", "duplicates")
    }
    assert stored == {"cleaned": 40, "rejected": 2, "duplicates": 2}
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == {
        "rows_accounted_for": True,
        "schema": True,
        "no_nulls": True,
        "ranges": True,
        "volume": True,
    }


def test_a_batch_that_vanishes_while_it_is_read_is_not_quarantined_and_is_read_anew(
    resources: dict[str, Any],
    instance: DagsterInstance,
    source: Source,
    lake: Lake,
    batch_of: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.deliver("fleeting", batch_of(30))
    before = version_of(lake, "fleeting")
    read = Lake.read_json

    def vanish_then_read(of: Lake, path: str) -> Any:
        if path.startswith("cleaned/fleeting/"):  # seen complete, about to be read
            source.withdraw("fleeting")
        return read(of, path)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "read_json", vanish_then_read)
        result = clean(resources, instance, "fleeting")
    assert sentence(result).startswith("Batch fleeting was changed or removed while it was read")
    assert quarantine_reason(lake, before) is None
    assert not lake.exists(f"cleaned/fleeting/{before.fingerprint}.json")
    source.deliver("fleeting", batch_of(30))
    assert clean(resources, instance, "fleeting").success


def test_changed_content_replaces_what_was_cleaned_before(
    resources: dict[str, Any],
    instance: DagsterInstance,
    source: Source,
    lake: Lake,
    batch_of: Callable[..., bytes],
) -> None:
    for rows in (30, 20):
        source.deliver("changing", batch_of(rows))
        assert clean(resources, instance, "changing").success
        record = lake.read_json("assets/cleaned_listings/changing.json")
        assert record is not None
        assert record["cleaned"] == rows
        assert record["version"]["fingerprint"] == version_of(lake, "changing").fingerprint
        source.withdraw("changing")


def test_while_the_datanodes_file_system_is_away_the_batch_is_not_blamed(
    lake_settings: Settings,
    instance: DagsterInstance,
    source: Source,
    lake: Lake,
    batch_of: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.deliver("innocent", batch_of(30))
    away = configured_resources(lake_settings)
    # WebHDFS answers and the file system that Spark reads does not.
    monkeypatch.setattr(Lake, "uri", lambda lake, path: f"hdfs://127.0.0.1:9/usedcars/{path}")
    monkeypatch.setattr(cleaned_listings.op, "_retry_policy", None)
    result = clean(away, instance, "innocent")
    assert "does not answer" in sentence(result)
    assert quarantine_reason(lake, version_of(lake, "innocent")) is None
