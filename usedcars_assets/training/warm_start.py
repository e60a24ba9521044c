"""Whether a training may add trees to those of the former one, and from which it goes on."""

from usedcars_assets.references import TrainedMember

MOST_TREES = 1.5  # times those of a training anew: each costs time in serving


def why_anew(former: TrainedMember | None, new: TrainedMember, share: float) -> str | None:
    """What keeps `new` (not trained yet) from going on from the former training; None if nothing does.

    share: of its rows that may have come since trees were last trained anew; 0 for none.
    """
    if share <= 0:
        return "warm starts are off"
    if former is None or not former.boosters or former.training.training_id == new.training.training_id:
        return "there is no former training of it"
    asked, before = new.training, former.training
    if (former.code, former.layout, former.parameters) != (new.code, new.layout, new.parameters):
        return "its code, features or parameters are others"
    if (asked.folds, asked.seed) != (before.folds, before.seed):
        return "its folds are others"
    if not set(before.batches) <= set(asked.batches):
        return "rows of the former training are not in this one"
    if new.train_rows - former.rows_anew > share * new.train_rows:
        return f"more than {share:.0%} of the rows came since it was last trained anew"
    if former.trees >= MOST_TREES * float(new.parameters["n_estimators"]):
        return f"it has {former.trees} trees"
    return None
