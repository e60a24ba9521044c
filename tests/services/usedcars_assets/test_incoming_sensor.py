"""The sensor over a real HDFS and a real Dagster instance: what it sees, and what it starts."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter, build_sensor_context
from dagster._core.definitions.sensor_definition import SensorExecutionData

from tests.services.usedcars_assets.conftest import Source, version_of
from usedcars_assets.definitions import defs
from usedcars_assets.executor import HEARTBEAT_TAG
from usedcars_assets.ingestion.batches import BATCH_AT_FAULT_TAG
from usedcars_assets.ingestion.claims import BatchVersion, latest_claim
from usedcars_assets.ingestion.quarantine import put_in_quarantine
from usedcars_assets.ingestion.sensor import incoming_batches
from usedcars_assets.ingestion.trained import TrainedBatches, write_trained
from usedcars_assets.resources.configured import configured_resources
from usedcars_assets.resources.lake import Lake
from usedcars_assets.settings import Settings

pytestmark = pytest.mark.services

ROWS, OTHER_ROWS = b"header\nrow\n", b"header\nanother row\n"


class Sensor:
    """Evaluates ticks, and launches what they ask for as the daemon does, in a given state."""

    def __init__(self, instance: DagsterInstance, lake: Lake) -> None:
        self.instance = instance
        self.lake = lake
        self.cursor: str | None = None
        self.learnt: set[str] = set()

    def evaluate(self) -> SensorExecutionData:
        with build_sensor_context(
            self.instance, cursor=self.cursor, definitions=defs, resources={"lake": self.lake}
        ) as context:
            return incoming_batches.evaluate_tick(context)

    def tick(self, launched_as: DagsterRunStatus = DagsterRunStatus.STARTED) -> list[str]:
        """The batches that a run was started for."""
        found = self.evaluate()
        self.cursor = found.cursor
        self.skipped = found.skip_message or ""
        taken: list[str] = []
        for request in found.run_requests or []:
            tags = dict(request.tags)
            first, last = (tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
            partitions = self.partitions()
            taken += partitions[partitions.index(first) : partitions.index(last) + 1]
            self.instance.create_run_for_job(defs.resolve_job_def("training"), tags=tags, status=launched_as)
        return taken

    def partitions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("batches"))

    def version(self, batch: str) -> BatchVersion:
        return version_of(self.lake, batch)

    def end_run(self, *, failed: bool = False, tags: dict[str, str] | None = None) -> None:
        """Ends the run that is under way; if well, its batches are recorded as the registry does."""
        (run,) = self.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        if tags:
            self.instance.add_run_tags(run.run_id, tags)
        if failed:
            self.instance.report_run_failed(run)
            return
        first, last = (run.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
        partitions = self.partitions()
        self.learnt |= set(partitions[partitions.index(first) : partitions.index(last) + 1])
        known = {batch: self.version(batch).fingerprint for batch in sorted(self.learnt)}
        record = TrainedBatches(
            training_id=run.run_id, model_version="1", trained_at=time.time(), fingerprints=known
        )
        write_trained(self.lake, record)
        self.instance.delete_run(run.run_id)  # so the record alone must tell


@pytest.fixture
def sensor(instance: DagsterInstance, lake: Lake) -> Sensor:
    return Sensor(instance, lake)


def test_nothing_there_is_nothing_to_do(sensor: Sensor) -> None:
    assert sensor.tick() == []
    assert "Nothing new" in sensor.skipped


def test_a_half_written_batch_is_never_seen(sensor: Sensor, source: Source) -> None:
    source.put(".batch-0001.uploading-1234/part-0.csv", ROWS)
    source.put("_temporary/part-0.csv", ROWS)
    source.put("batch-0002/part-0.csv", ROWS)  # no _SUCCESS yet
    source.put("batch-0003/part-0.csv._COPYING_", ROWS)
    source.complete("batch-0003")
    source.put("not a batch!/part-0.csv", ROWS)
    assert sensor.tick() == []
    assert sensor.partitions() == []
    assert "still being uploaded" in sensor.skipped
    source.complete("batch-0002")
    assert sensor.tick() == ["batch-0002"]


def test_a_complete_batch_is_trained_once(sensor: Sensor, source: Source) -> None:
    source.deliver("batch-0001", ROWS)
    assert sensor.tick() == ["batch-0001"]
    assert sensor.tick() == []
    assert "under way" in sensor.skipped
    sensor.end_run()
    assert sensor.tick() == []
    assert "Nothing new" in sensor.skipped


def test_a_seen_batch_is_reported_to_dagster_with_what_is_in_it(sensor: Sensor, source: Source) -> None:
    source.deliver("batch-0001", ROWS, OTHER_ROWS)
    (event,) = sensor.evaluate().asset_events
    assert event.partition == "batch-0001"
    assert event.metadata["files"].value == 2
    assert event.metadata["bytes"].value == len(ROWS) + len(OTHER_ROWS)


def test_a_restart_that_forgot_everything_starts_nothing_twice(sensor: Sensor, source: Source) -> None:
    source.deliver("batch-0001", ROWS)
    assert sensor.tick() == ["batch-0001"]
    sensor.cursor = None
    assert sensor.tick() == []
    sensor.end_run()
    sensor.cursor = None
    assert sensor.tick() == []


def test_a_restart_between_claim_and_launch_starts_nothing_twice(sensor: Sensor, source: Source) -> None:
    source.deliver("batch-0001", ROWS)
    assert len(sensor.evaluate().run_requests or []) == 1  # and the daemon dies before it launches the run
    assert sensor.tick() == []
    assert "about to appear" in sensor.skipped


def test_a_claim_whose_run_never_appeared_does_not_hold_the_batch_for_ever(
    sensor: Sensor, source: Source
) -> None:
    source.deliver("batch-0001", ROWS)
    sensor.evaluate()
    version = sensor.version("batch-0001")
    made = latest_claim(sensor.lake, version)
    assert made is not None
    path = f"claims/{version.batch}/{version.fingerprint}/1.json"
    sensor.lake.write_json(path, made.model_copy(update={"claimed_at": time.time() - 3600}).model_dump())
    assert sensor.tick() == ["batch-0001"]


def test_of_concurrent_ticks_one_starts_the_training(
    instance: DagsterInstance, lake_settings: Settings, source: Source
) -> None:
    for number in range(3):
        source.deliver(f"batch-{number}", ROWS + str(number).encode())
    ready = threading.Barrier(6)

    def tick(_: int) -> int:
        other = Sensor(instance, configured_resources(lake_settings)["lake"])
        ready.wait()
        return len(other.evaluate().run_requests or [])

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(tick, range(6))) == 1


def test_uploading_the_same_content_again_changes_nothing(sensor: Sensor, source: Source) -> None:
    source.deliver("batch-0001", ROWS)
    sensor.tick()
    sensor.end_run()
    source.withdraw("batch-0001")
    source.deliver("batch-0001", ROWS)
    assert sensor.tick() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda source: (source.withdraw("batch-0001"), source.deliver("batch-0001", OTHER_ROWS)),
        lambda source: source.put("batch-0001/part-1.csv", OTHER_ROWS),
        lambda source: source.put("batch-0001/part-0.csv", ROWS.replace(b"row", b"raw")),  # of equal length
    ],
    ids=["uploaded anew", "a file more", "other content of equal length"],
)
def test_a_changed_batch_is_trained_again(
    sensor: Sensor, source: Source, change: Callable[[Source], Any]
) -> None:
    source.deliver("batch-0001", ROWS)
    source.deliver("batch-0002", ROWS)
    assert sensor.tick() == ["batch-0001", "batch-0002"]
    sensor.end_run()
    change(source)
    assert sensor.tick() == ["batch-0001"]
    assert sensor.partitions() == ["batch-0002", "batch-0001"]


def test_a_deleted_batch_leaves_the_window(
    sensor: Sensor, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    source.deliver("batch-0001", ROWS)
    source.deliver("batch-0002", ROWS)
    sensor.tick()
    sensor.end_run()
    source.withdraw("batch-0001")
    assert sensor.tick() == []
    assert sensor.partitions() == ["batch-0002"]
    assert "Batch batch-0001 is gone" in capsys.readouterr().err


def test_batches_that_arrive_during_a_training_wait_and_are_taken_together(
    sensor: Sensor, source: Source
) -> None:
    source.deliver("batch-0001", ROWS)
    assert sensor.tick() == ["batch-0001"]
    source.deliver("batch-0002", ROWS)
    assert sensor.tick() == []
    source.deliver("batch-0003", ROWS)
    assert sensor.tick() == []
    assert "2 wait: batch-0002, batch-0003" in sensor.skipped
    sensor.end_run()
    assert sensor.tick() == ["batch-0002", "batch-0003"]


def test_a_changed_and_a_new_batch_are_one_range_of_partitions(sensor: Sensor, source: Source) -> None:
    for number in (1, 2, 3):
        source.deliver(f"batch-{number}", ROWS)
    sensor.tick()
    sensor.end_run()
    source.put("batch-1/part-1.csv", ROWS)
    source.deliver("batch-4", ROWS)
    assert set(sensor.tick()) == {"batch-1", "batch-4"}


def test_what_a_failed_training_took_goes_along_with_the_next_good_batch(
    sensor: Sensor, source: Source
) -> None:
    source.deliver("batch-0001", ROWS)
    sensor.tick()
    sensor.end_run(failed=True)
    assert sensor.tick() == []
    assert "batch-0001: of a failed training" in sensor.skipped
    source.deliver("batch-0002", ROWS)
    assert sensor.tick() == ["batch-0001", "batch-0002"]


def test_a_bad_batch_does_not_keep_the_good_ones_of_its_run_waiting(sensor: Sensor, source: Source) -> None:
    for number in (1, 2, 3):
        source.deliver(f"batch-{number}", ROWS)
    assert len(sensor.tick()) == 3
    put_in_quarantine(sensor.lake, sensor.version("batch-2"), "It has no rows.")
    sensor.end_run(failed=True, tags={BATCH_AT_FAULT_TAG: "true"})
    assert sensor.tick() == ["batch-1", "batch-3"]
    sensor.end_run()
    assert sensor.tick() == []
    assert "batch-2: in quarantine" in sensor.skipped


def test_a_training_whose_process_is_gone_without_a_word_does_not_block_the_next(
    sensor: Sensor, source: Source, instance: DagsterInstance
) -> None:
    source.deliver("batch-0001", ROWS)
    sensor.tick()
    (run,) = instance.get_runs()
    instance.add_run_tags(run.run_id, {HEARTBEAT_TAG: str(int(time.time()) - 3600)})
    source.deliver("batch-0002", ROWS)
    for _ in range(3):
        assert not instance.get_runs()[0].is_finished
        assert sensor.tick() == [] or instance.get_run_by_id(run.run_id).is_finished  # type: ignore[union-attr]
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == DagsterRunStatus.FAILURE


def test_unchanged_batches_cost_no_checksums(
    sensor: Sensor, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = Lake.checksum
    monkeypatch.setattr(Lake, "checksum", lambda lake, path: (asked.append(path), ask(lake, path))[1])
    source.deliver("batch-0001", ROWS)
    sensor.tick()
    sensor.tick()
    assert len(asked) == 1


def test_while_hdfs_is_down_the_tick_says_so_and_forgets_nothing(
    sensor: Sensor, source: Source, lake_settings: Settings
) -> None:
    source.deliver("batch-0001", ROWS)
    sensor.tick()
    before, there = sensor.cursor, sensor.lake
    away = lake_settings.model_copy(update={"webhdfs_url": "http://127.0.0.1:9"})
    sensor.lake = configured_resources(away)["lake"]
    assert sensor.tick() == []
    assert "HDFS does not answer" in sensor.skipped
    assert sensor.cursor == before
    sensor.lake = there
    assert sensor.tick() == []
    assert sensor.partitions() == ["batch-0001"]
