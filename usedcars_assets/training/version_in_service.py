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

MOST_LATER_ROWS = 10_000


@dataclass(frozen=True)
class VersionInService:
    """The version with the alias, and its errors.

    test: on the test rows of the new training. later: on rows of batches that came after its own training, as
    the market moves on; None when there are none, or it is not known what it learnt from.
    """

    version: str
    test: "Metrics"
    later: "Metrics | None"


def version_in_service(
    tracking: MlflowTracking, split: "DataFrame", training: Training
) -> VersionInService | None:
    """Asks it for the prices of these rows; None before there is one.

    split: listing_id, listing, price_usd, split, batch_name. What it is worth on later batches is logged to
    the MLflow run of its own training.
    """
    from usedcars_assets.pipeline.artefact import score_listings
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

    def errors(rows: "DataFrame") -> "Metrics":
        from pyspark.sql import functions as sf

        from usedcars_assets.pipeline.evaluation import evaluate

        priced = score_listings(artefact, rows.select("listing_id", "price_usd", "listing")).where(
            "price IS NOT NULL"
        )
        return evaluate(
            priced.select(sf.col("price_usd").alias("price"), sf.col("price").alias("prediction"))
        )

    test = split.where("split = 'test'")
    if not unknown:
        return VersionInService(version, errors(test), None)
    later = thinned(split.where(split.batch_name.isin(unknown)), MOST_LATER_ROWS, "later batches")
    on_test, on_later = queries_at_once(
        split.sparkSession, lambda: errors(test), lambda: errors(later) if not later.isEmpty() else None
    )
    if run_id and on_later is not None:
        log(client, run_id, metrics=named("later_batches", asdict(on_later)))
    return VersionInService(version, on_test, on_later)


def _batches(client: "MlflowClient", run_id: str | None) -> dict[str, str]:
    """The fingerprints of the batches that the version learnt from; none of one that others have made."""
    from usedcars_assets.registry.tracking import BATCHES, read_file

    if not run_id or BATCHES not in {file.path for file in client.list_artifacts(run_id)}:
        return {}
    found: dict[str, str] = json.loads(read_file(client, run_id, BATCHES))
    return found
