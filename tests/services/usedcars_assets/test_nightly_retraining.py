"""The schedule over a real HDFS: when it trains, and when it says why not."""

from collections.abc import Callable
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunRequest, SkipReason, build_schedule_context

from tests.services.usedcars_assets.conftest import Source, version_of
from usedcars_assets.definitions import defs
from usedcars_assets.ingestion.batches import TRAINING_TAG
from usedcars_assets.ingestion.quarantine import put_in_quarantine
from usedcars_assets.ingestion.trained import TrainedBatches, write_trained
from usedcars_assets.jobs import nightly_retraining
from usedcars_assets.resources.lake import Lake

pytestmark = pytest.mark.services


@pytest.fixture
def night(instance: DagsterInstance, lake: Lake) -> Callable[[], RunRequest | str]:
    """One evaluation: the run that it asks for, or why there is none."""

    def evaluate() -> RunRequest | str:
        # Closed here: one that is left to the garbage collector brings back an instance that is gone.
        with build_schedule_context(instance=instance, resources={"lake": lake}) as context:
            found: Any = nightly_retraining(context)
        return str(found.skip_message) if isinstance(found, SkipReason) else found

    return evaluate


def test_it_trains_once_there_is_a_good_batch_that_the_model_does_not_know(
    night: Any, lake: Lake, source: Source
) -> None:
    assert night() == "There is no batch to learn from."
    source.deliver("first", b"header\nrow\n")
    assert isinstance(night(), RunRequest)
    first = version_of(lake, "first")
    write_trained(
        lake,
        TrainedBatches(
            training_id="t", model_version="4", trained_at=0, fingerprints={"first": first.fingerprint}
        ),
    )
    assert night() == "Nothing has changed since version 4 was trained."
    source.deliver("bad", b"header\n")
    put_in_quarantine(lake, version_of(lake, "bad"), "no rows")
    assert night() == "Nothing has changed since version 4 was trained."
    source.deliver("second", b"header\nanother row\n")
    assert isinstance(night(), RunRequest)


def test_it_leaves_a_training_that_is_under_way_alone(
    night: Any, instance: DagsterInstance, source: Source
) -> None:
    source.deliver("first", b"header\nrow\n")
    training = defs.resolve_job_def("training")
    instance.create_run_for_job(training, status=DagsterRunStatus.STARTED, tags={TRAINING_TAG: "true"})
    assert night() == "A training is under way."


def test_without_hdfs_it_says_so(instance: DagsterInstance) -> None:
    away = Lake(root_uri="hdfs://127.0.0.1:9/usedcars", webhdfs_url="http://127.0.0.1:9", user="usedcars")
    with build_schedule_context(instance=instance, resources={"lake": away}) as context:
        found: Any = nightly_retraining(context)
    assert "HDFS does not answer" in found.skip_message
