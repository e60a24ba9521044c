"""Batches reach the real HDFS whole, whatever interrupts them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simulation import lake as lake_module
from simulation.cli import app
from simulation.errors import SimulationError
from simulation.generation import generate_listings
from simulation.lake import Lake, batch_is_complete, open_lake, upload_batch
from simulation.settings import SimulationSettings

pytestmark = pytest.mark.services


class Killed(BaseException):
    """Stands for the end of the process: nothing of the code under test may catch it."""


@pytest.fixture
def lake(platform: Any, tmp_path: Path) -> Iterator[Lake]:
    opened = open_lake(SimulationSettings(incoming_path=f"/usedcars/test-{tmp_path.name}/incoming"))
    yield opened
    opened.files.rm(opened.incoming.rsplit("/", 1)[0], recursive=True)


@pytest.fixture(scope="module")
def listings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("listings") / "raw.csv"
    for _ in generate_listings(path, 20_000, seed=3):  # 25 MB: more than one append of WebHDFS
        pass
    return path


def names(lake: Lake) -> list[str]:
    return [path.rsplit("/", 1)[1] for path in lake.files.ls(lake.incoming, detail=False)]


def test_an_uploaded_batch_holds_the_bytes_of_the_file_and_a_marker(lake: Lake, listings: Path) -> None:
    folder = upload_batch(lake, listings, "monday")
    assert lake.files.cat_file(f"{folder}/listings.csv") == listings.read_bytes()
    assert sorted(path.rsplit("/", 1)[1] for path in lake.files.ls(folder)) == ["_SUCCESS", "listings.csv"]
    assert names(lake) == ["monday"]


def test_a_batch_is_visible_only_when_it_is_complete(lake: Lake, listings: Path) -> None:
    seen, done, errors = set(), threading.Event(), []
    watcher = open_lake(SimulationSettings(incoming_path=lake.incoming))

    def watch() -> None:
        try:
            while not done.is_set():
                if watcher.files.exists(f"{watcher.incoming}/monday"):
                    size = watcher.files.info(f"{watcher.incoming}/monday/listings.csv")["size"]
                    seen.add(size)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    upload_batch(lake, listings, "monday")
    done.set()
    thread.join()
    assert not errors
    assert seen <= {listings.stat().st_size}


def test_an_upload_killed_halfway_leaves_a_dot_folder_that_the_next_one_clears(
    lake: Lake, listings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_and_die(source: Any, target: Any, block: int) -> None:
        target.write(source.read(100_000))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(lake_module.shutil, "copyfileobj", copy_and_die)
        with pytest.raises(Killed):
            upload_batch(lake, listings, "monday")
    assert all(name.startswith(".monday.uploading-") for name in names(lake))
    assert len(names(lake)) == 1
    upload_batch(lake, listings, "monday")
    assert names(lake) == ["monday"]


def test_an_upload_killed_before_its_marker_is_done_again_without_being_told_to(
    lake: Lake, listings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lake_module, "_mark_complete", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            upload_batch(lake, listings, "monday")
    assert not batch_is_complete(lake, "monday")
    upload_batch(lake, listings, "monday")
    assert batch_is_complete(lake, "monday")
    assert names(lake) == ["monday"]


def test_an_answer_to_a_rename_that_is_lost_does_not_rename_twice(
    lake: Lake, listings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, lost = lake_module._rename, []

    def rename_and_lose_the_answer(*arguments: Any) -> None:
        rename(*arguments)
        if not lost:
            lost.append(True)
            raise ConnectionError("lost")

    monkeypatch.setattr(lake_module, "_rename", rename_and_lose_the_answer)
    folder = upload_batch(lake, listings, "monday")
    assert lost
    assert names(lake) == ["monday"]
    assert sorted(path.rsplit("/", 1)[1] for path in lake.files.ls(folder)) == ["_SUCCESS", "listings.csv"]


def test_a_complete_batch_is_replaced_on_demand_only(lake: Lake, listings: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("vin\n1\n")
    upload_batch(lake, listings, "monday")
    with pytest.raises(SimulationError, match="already"):
        upload_batch(lake, other, "monday")
    assert lake.files.info(f"{lake.incoming}/monday/listings.csv")["size"] == listings.stat().st_size
    upload_batch(lake, other, "monday", replace=True)
    assert lake.files.cat_file(f"{lake.incoming}/monday/listings.csv") == other.read_bytes()
    assert batch_is_complete(lake, "monday")
    assert names(lake) == ["monday"]


def test_a_replacement_killed_between_its_renames_heals_with_the_next_upload(
    lake: Lake, listings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_batch(lake, listings, "monday")
    rename, done = lake_module._rename, []

    def rename_once(*arguments: Any) -> None:
        if done:
            raise Killed
        rename(*arguments)
        done.append(True)

    with monkeypatch.context() as patch:
        patch.setattr(lake_module, "_rename", rename_once)
        with pytest.raises(Killed):
            upload_batch(lake, listings, "monday", replace=True)
    assert not [name for name in names(lake) if not name.startswith(".")]
    upload_batch(lake, listings, "monday", replace=True)
    assert names(lake) == ["monday"]


def test_batches_with_names_that_begin_alike_do_not_disturb_each_other(lake: Lake, listings: Path) -> None:
    lake.files.makedirs(f"{lake.incoming}/.monday.2.uploading-abc")
    upload_batch(lake, listings, "monday")
    assert names(lake) == [".monday.2.uploading-abc", "monday"]


def test_dropped_batches_that_are_there_already_are_passed_over(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USEDCARS_INCOMING_PATH", lake.incoming)
    for number in (1, 2, 3):
        (tmp_path / f"batch-{number:04}.csv").write_text(f"vin\n{number}\n")
    (tmp_path / "test.csv").write_text("vin\n9\n")
    upload_batch(lake, tmp_path / "batch-0001.csv", "batch-0001")
    result = CliRunner().invoke(app, ["drop", str(tmp_path), "--interval", "0"])
    assert result.exit_code == 0, result.output
    assert "batch-0001 is in HDFS already" in result.output
    assert names(lake) == ["batch-0001", "batch-0002", "batch-0003"]


def test_a_rename_that_hdfs_refuses_is_told(lake: Lake) -> None:
    lake.files.makedirs(lake.incoming)
    with pytest.raises(SimulationError, match="refused to rename"):
        lake_module._rename(lake, f"{lake.incoming}/nothing", f"{lake.incoming}/something")
