"""How good the version in service is on the rows of a new training, and on batches that it never saw."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from usedcars_assets.references import Training
from usedcars_assets.resources.mlflow import MlflowTracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from pyspark.sql import DataFrame

    from usedcars_assets.pipeline.evaluation import Metrics
    from usedcars_assets.pipeline.paired_comparison import PairedErrors

MOST_LATER_ROWS = 10_000


@dataclass(frozen=True)
class VersionInService:
    """The version with the alias, and its errors.

    test: on the test rows of the new training. beside: its own and those of the new model, on these rows.
    later: on rows of batches that came after its own training, as the market moves on; None when there are
    none, or it is not known what it learnt from.
    """

    version: str
    test: "Metrics"
    beside: "PairedErrors"
    later: "Metrics | None"


def version_in_service(
    tracking: MlflowTracking, split: "DataFrame", steps: "DataFrame", training: Training, margin: float
) -> VersionInService | None:
    """Asks it for the prices of these rows; None before there is one.

    split: listing_id, listing, price_usd, split, batch_name. steps: listing_id and the new model's prediction
    of the test rows. margin: by how much the new errors may exceed the former ones. What it is worth on later
    batches is logged to the MLflow run of its own training.
    """
    from usedcars_assets.pipeline.artefact import score_listings
    from usedcars_assets.pipeline.evaluation import evaluate
    from usedcars_assets.pipeline.queries_at_once import queries_at_once
    from usedcars_assets.pipeline.thinned_rows import thinned
    from usedcars_assets.registry.tracking import log, named
    from usedcars_assets.registry.versions import load_version, version_with_alias

    client, name = tracking.client(), tracking.registered_model
    version = version_with_alias(client, name, tracking.serving_alias)
    if version is None:
        return None
    run_id = client.get_model_version(name, version).run_id
    known = _batches(client, run_id)
    unknown = [
        batch.batch for batch in training.batches if known and known.get(batch.batch) != batch.fingerprint
    ]
    artefact = load_version(tracking, name, version)

    def priced(rows: "DataFrame") -> "DataFrame":
        scored = score_listings(artefact, rows.select("listing_id", "price_usd", "listing"))
        return scored.where("price IS NOT NULL").selectExpr(
            "listing_id", "price_usd AS price", "price AS prediction"
        )

    def on_test() -> "tuple[Metrics, PairedErrors]":
        rows = priced(split.where("split = 'test'")).persist()
        try:
            return evaluate(rows), beside_new_model(rows, steps, margin)
        finally:
            rows.unpersist()

    def on_later() -> "Metrics | None":
        if not unknown:
            return None
        rows = thinned(split.where(split.batch_name.isin(unknown)), MOST_LATER_ROWS, "later batches")
        return evaluate(priced(rows)) if not rows.isEmpty() else None

    (test, beside), later = queries_at_once(split.sparkSession, on_test, on_later)
    if run_id and later is not None:
        log(client, run_id, metrics=named("later_batches", asdict(later)))
    return VersionInService(version, test, beside, later)


def beside_new_model(priced: "DataFrame", steps: "DataFrame", margin: float) -> "PairedErrors":
    """The errors of the new model's prices and of those in service, on the rows that both have priced.

    priced: listing_id, price (the true one) and prediction, in USD; steps: listing_id and the new prediction.
    """
    from usedcars_assets.pipeline.paired_comparison import paired_errors

    new = steps.selectExpr("listing_id", "prediction AS new_prediction")
    return paired_errors(
        priced.join(new, "listing_id").selectExpr(
            "new_prediction AS price", "prediction AS former_price", "price AS set_price"
        ),
        margin,
    )


def _batches(client: "MlflowClient", run_id: str | None) -> dict[str, str]:
    """The fingerprints of the batches that the version learnt from; none of one that others have made."""
    from usedcars_assets.registry.tracking import BATCHES, read_file

    if not run_id or BATCHES not in {file.path for file in client.list_artifacts(run_id)}:
        return {}
    found: dict[str, str] = json.loads(read_file(client, run_id, BATCHES))
    return found
