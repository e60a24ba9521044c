"""When a training may go on from the former one."""

from typing import Any

import pytest

from usedcars_assets.ingestion.claims import BatchVersion
from usedcars_assets.references import TrainedMember, Training
from usedcars_assets.training.warm_start import why_anew

JANUARY, FEBRUARY, MARCH = (
    BatchVersion(batch=name, fingerprint=f"of {name}") for name in ("january", "february", "march")
)


def member(*batches: BatchVersion, training: dict[str, Any] | None = None, **said: Any) -> TrainedMember:
    of = {"training_id": "+".join(batch.batch for batch in batches), "folds": 5, "seed": 20}
    return TrainedMember(
        **{
            "training": Training(
                mlflow_run_id="run",
                batches=batches,
                left_out=(),
                members=("gradient_boosting",),
                cleaned_rows=0,
                data_version="",
                **{**of, **(training or {})},
            ),
            "name": "gradient_boosting",
            "trained": True,
            "code": "1",
            "layout": "80 features",
            "parameters": {"n_estimators": 80, "learning_rate": 0.2},
            "train_rows": 1_000,
            "rows_anew": 1_000,
            "trees": 80,
            "boosters": "trainings/former/boosters",
            **said,
        }
    )


FORMER = member(JANUARY)
NEW = member(JANUARY, FEBRUARY, train_rows=1_010, trained=False)


def test_a_small_further_batch_needs_no_training_anew() -> None:
    assert why_anew(FORMER, NEW, 0.1) is None


@pytest.mark.parametrize(
    ("former", "new", "share", "reason"),
    [
        (FORMER, NEW, 0, "off"),
        (None, NEW, 0.1, "no former training"),
        (member(JANUARY, boosters=""), NEW, 0.1, "no former training"),
        (member(JANUARY, FEBRUARY), NEW, 0.1, "no former training"),
        (FORMER, NEW.model_copy(update={"code": "2"}), 0.1, "code, features or parameters"),
        (FORMER, NEW.model_copy(update={"layout": "81 features"}), 0.1, "code, features or parameters"),
        (FORMER, NEW.model_copy(update={"parameters": {"n_estimators": 90}}), 0.1, "parameters"),
        (member(JANUARY, training={"seed": 21}), NEW, 0.1, "folds"),
        (member(JANUARY, training={"folds": 4}), NEW, 0.1, "folds"),
        (member(JANUARY, MARCH), NEW, 0.1, "not in this one"),
        (
            member(BatchVersion(batch="january", fingerprint="as it was before")),
            NEW,
            0.1,
            "not in this one",
        ),
        (FORMER, NEW.model_copy(update={"train_rows": 1_200}), 0.1, "more than 10% of the rows"),
        (member(JANUARY, train_rows=1_000, rows_anew=900), NEW, 0.1, "more than 10% of the rows"),
        (member(JANUARY, trees=120), NEW, 0.1, "120 trees"),
    ],
)
def test_it_trains_anew(former: TrainedMember | None, new: TrainedMember, share: float, reason: str) -> None:
    said = why_anew(former, new, share)

    assert said is not None
    assert reason in said
