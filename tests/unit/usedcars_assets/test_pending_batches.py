"""Which batches the next training takes, decided over every way in which the last one may have ended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usedcars_assets.ingestion.claims import BatchVersion, Claim
from usedcars_assets.ingestion.pending import (
    Lookups,
    RunState,
    Standing,
    next_training,
    partition_changes,
    standing,
)
from usedcars_assets.ingestion.trained import TrainedBatches

BATCH = BatchVersion(batch="batch-0001", fingerprint="aa")
NOW = 10_000.0


def claim(claimed_at: float = NOW - 10, attempt: int = 1, run_key: str = "key") -> Claim:
    return Claim(attempt=attempt, run_key=run_key, claimed_at=claimed_at, together=(BATCH,))


def trained(fingerprint: str, at: float = NOW - 100) -> TrainedBatches:
    return TrainedBatches(
        training_id="t", model_version="1", trained_at=at, fingerprints={BATCH.batch: fingerprint}
    )


def judge(
    state: RunState = RunState.ABSENT,
    made: Claim | None = None,
    record: TrainedBatches | None = None,
    quarantined: bool = False,
) -> tuple[Standing, int]:
    lookups = Lookups(
        latest_claim=lambda _: made, quarantined=lambda _: quarantined, run_state=lambda _: state
    )
    return standing(BATCH, record, lookups, NOW, claim_timeout=300)


def test_a_batch_seen_for_the_first_time_is_new() -> None:
    assert judge() == (Standing.NEW, 1)


def test_a_batch_that_the_model_knows_is_done() -> None:
    assert judge(record=trained("aa"))[0] is Standing.TRAINED


def test_a_batch_uploaded_anew_with_other_content_is_new() -> None:
    assert judge(record=trained("bb"))[0] is Standing.NEW


def test_a_batch_in_quarantine_waits_for_other_content() -> None:
    assert judge(quarantined=True)[0] is Standing.QUARANTINED


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (RunState.UNFINISHED, Standing.TRAINING),
        (RunState.ABSENT, Standing.STARTING),
        (RunState.SUCCEEDED, Standing.TRAINED),
        (RunState.FAILED, Standing.FAILED),
        (RunState.BATCH_AT_FAULT, Standing.NEW),
    ],
)
def test_a_claimed_batch_stands_where_its_run_does(state: RunState, expected: Standing) -> None:
    assert judge(state, made=claim()) == (expected, 2)


def test_a_claim_whose_run_never_appeared_is_void_after_a_while() -> None:
    assert judge(made=claim(claimed_at=NOW - 301)) == (Standing.NEW, 2)


def test_a_claim_that_its_writer_died_over_is_void_after_a_while() -> None:
    assert judge(made=claim(run_key=""))[0] is Standing.STARTING
    assert judge(made=claim(run_key="", claimed_at=NOW - 301))[0] is Standing.NEW


def test_a_batch_put_back_to_what_it_was_is_trained_again_if_other_content_was_learnt_since() -> None:
    made = claim(claimed_at=NOW - 1000)
    assert judge(RunState.SUCCEEDED, made, trained("bb", at=NOW - 10)) == (Standing.NEW, 2)


def test_a_training_that_left_no_record_of_a_batch_does_not_loop() -> None:
    made = claim(claimed_at=NOW - 10)
    assert judge(RunState.SUCCEEDED, made, trained("bb", at=NOW - 100))[0] is Standing.TRAINED


def test_a_failed_batch_waits_until_a_new_one_comes_and_goes_along() -> None:
    other = BatchVersion(batch="batch-0002", fingerprint="cc")
    failed = {BATCH: (Standing.FAILED, 2)}
    assert next_training(failed) == {}
    assert next_training(failed | {other: (Standing.NEW, 1)}) == {BATCH: 2, other: 1}


KEYS = st.lists(st.sampled_from([f"b{number}" for number in range(8)]), unique=True)


@given(existing=KEYS, wanted=KEYS, data=st.data())
def test_partitions_end_with_the_batches_that_a_run_takes(
    existing: list[str], wanted: list[str], data: st.DataObject
) -> None:
    last = data.draw(st.lists(st.sampled_from(wanted), unique=True)) if wanted else []
    deleted, added = partition_changes(tuple(existing), tuple(wanted), tuple(last))
    after = [key for key in existing if key not in deleted]
    assert not set(added) & set(after)
    after += added
    assert set(after) == set(wanted)
    assert len(after) == len(set(after))
    assert after[len(after) - len(last) :] == last
    untouched = [key for key in existing if key in wanted and key not in last]
    assert [key for key in after if key in untouched] == untouched


@given(existing=KEYS)
def test_partitions_that_are_right_are_left_alone(existing: list[str]) -> None:
    assert partition_changes(tuple(existing), tuple(existing), ()) == ([], [])
