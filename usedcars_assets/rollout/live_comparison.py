"""Puts the former version back when the one in service is worse on live requests, by evidence."""

from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    Config,
    DefaultSensorStatus,
    Failure,
    MaterializeResult,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    asset,
    sensor,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from pydantic import Field

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures, explain
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.registry.versions import load_version, version_with_alias
from usedcars_assets.resources.deployment import ServingDeployment
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.answers import Answers
from usedcars_assets.rollout.evidence import look_reached, looks, version_under_watch
from usedcars_assets.rollout.ledger import Entry, read_promotions, write_entry
from usedcars_assets.rollout.live_pairs import live_pairs, set_prices, span_since
from usedcars_assets.rollout.service import Service, UndoneError
from usedcars_assets.rollout.serving_rollout import ROLLOUT_TAG
from usedcars_assets.settings import settings

_JOB = "comparison"


class ComparisonConfig(Config):
    """What counts as evidence, and whether it is acted on."""

    roll_back: bool = Field(
        default=settings().rollback, description="Put the former version back; else only tell."
    )
    margin: float = Field(
        default=settings().rollback_margin, ge=0, description="How much larger the error may be, a fraction."
    )
    confidence: float = Field(
        default=settings().rollback_confidence, gt=0.5, lt=1, description="That it is worse, over all looks."
    )
    least_pairs: int = Field(
        default=settings().rollback_least_pairs,
        ge=2,
        description="Fewer cars with a set price decide nothing.",
    )
    most_messages: int = Field(
        default=settings().rollback_most_messages, ge=1, description="Requests and prices that are read."
    )
    timeout_seconds: float = Field(
        default=settings().rollout_timeout_seconds, gt=0, description="How long to wait for answers."
    )


@asset(
    name="live_comparison",
    deps=[AssetKey("serving_rollout")],
    description="The version in service against the former one on live requests; rolls back by evidence.",
    group_name="rollout",
    owners=OWNERS,
    tags={"layer": "serving"},
    kinds={"kafka", "mlflow", "spark"},
    code_version="1",
    retry_policy=OUTAGE_RETRIES,
)
def live_comparison(
    context: AssetExecutionContext,
    config: ComparisonConfig,
    kafka_spark: SharedSpark,
    mlflow: MlflowTracking,
    deployment: ServingDeployment,
    topics: Topics,
) -> MaterializeResult[Any]:
    """Lets the former version price what the one in service has priced, and compares the errors."""
    from usedcars_assets.pipeline.paired_comparison import chance_of_no_excess, is_worse, paired_errors

    with clear_failures("comparing the version in service with the former one"):
        client, name = mlflow.client(), mlflow.registered_model
        watched = version_under_watch(read_promotions(topics))
        if watched is None or watched.former is None:
            return _verdict(
                "There is no version to judge: none has replaced another since the last rollback."
            )
        version, former = watched.version, watched.former
        if version_with_alias(client, name, mlflow.serving_alias) != version:
            return _verdict(f"Version {version} is not in service any more.")
        requests, predictions = (
            span_since(topics, topic, watched.milliseconds, config.most_messages)
            for topic in (topics.requests, topics.predictions)
        )
        with kafka_spark.step(context) as session:
            prices = set_prices(session, topics, requests).cache()
            # Under a load without prices the rest would be read, and priced, for nothing.
            if (few := prices.count()) < config.least_pairs:
                prices.unpersist()
                return _verdict(f"Version {version} stays, too few to judge: {few} cars have a set price.")
            pairs = live_pairs(session, topics, requests, predictions, version, prices).cache()
            priced = load_version(mlflow, name, former).transform(pairs)
            found = paired_errors(
                priced.selectExpr("answered AS price", "price AS former_price", "set_price"), config.margin
            )
            example = pairs.select("listing").first()
            pairs.unpersist()
            prices.unpersist()
        evidence = {
            "pairs": float(found.pairs),
            "error": found.error,
            "former_error": found.former_error,
            "chance": chance_of_no_excess(found),
        }
        first_look = 2 * config.least_pairs
        worse = is_worse(
            found, config.confidence, looks(first_look, config.most_messages), config.least_pairs
        )
        told = (
            f"on {found.pairs} cars version {version} is off by {found.error:.2%}, version {former} by "
            f"{found.former_error:.2%}"
        )
        if not worse or example is None:
            why = "too few to judge" if found.pairs < config.least_pairs else "not worse by evidence"
            return _verdict(f"Version {version} stays, {why}: {told}.", evidence)
        if not config.roll_back:
            return _verdict(f"Version {version} is worse, and rollback is switched off: {told}.", evidence)
        if version_with_alias(client, name, mlflow.serving_alias) != version:
            return _verdict(f"Version {version} is not in service any more.", evidence)

        def tell(entry: Entry) -> None:
            if problem := write_entry(topics, entry):
                context.log.warning(problem)

        with Answers(topics) as answers:
            service = Service(
                client=client,
                name=name,
                alias=mlflow.serving_alias,
                serving=deployment.connect(),
                answers=answers,
                listing=str(example.listing),
                timeout=config.timeout_seconds,
                tell=tell,
                run_id=context.run.run_id,
            )
            try:
                service.change("rollback", former, version, reason=told, evidence=evidence)
            except UndoneError as error:
                raise Failure(
                    f"Version {version} is worse, but version {former} did not come back: {error}. "
                    f"{error.outcome}",
                    allow_retries=False,
                ) from error
        client.set_model_version_tag(name, version, ROLLOUT_TAG, f"rolled back: {told}")
    return _verdict(f"Version {version} was rolled back: {told}.", evidence)


def _verdict(sentence: str, evidence: dict[str, float] | None = None) -> MaterializeResult[Any]:
    return MaterializeResult(metadata={"verdict": sentence, **(evidence or {})})


@sensor(
    name="live_evidence",
    job_name=_JOB,
    minimum_interval_seconds=settings().rollback_interval_seconds,
    default_status=DefaultSensorStatus.RUNNING,
    description="Starts a comparison each time the messages since the last rollout have doubled.",
)
def live_evidence(context: SensorEvaluationContext, topics: Topics) -> SensorResult:
    """One look at how much there is to judge by: each look is one run, whatever it finds."""
    if not settings().rollback:
        return SensorResult(skip_reason="Rollback by evidence is switched off (USEDCARS_ROLLBACK).")
    going_on = RunsFilter(job_name=_JOB, statuses=NOT_FINISHED_STATUSES)
    if context.instance.get_runs(going_on, limit=1):
        return SensorResult(skip_reason="A comparison goes on: the next look comes after it.")
    first, most = 2 * settings().rollback_least_pairs, settings().rollback_most_messages
    try:
        watched = version_under_watch(read_promotions(topics))
        if watched is None:
            return SensorResult(skip_reason="No version has replaced another since the last rollback.")
        messages = span_since(topics, topics.requests, watched.milliseconds, most).messages
    except Exception as error:
        return SensorResult(skip_reason=explain(error, "looking for live evidence")[0])
    look = look_reached(messages, first, most)
    if look is None:
        return SensorResult(
            skip_reason=f"{messages} messages since version {watched.version} came: {first} are the fewest."
        )
    return SensorResult(run_requests=[RunRequest(run_key=f"{watched.version} {watched.at} {look}")])
