"""The periodic checks from outside of Dagster's daemon, as Kubernetes' CronJobs run them.

    python -m usedcars_assets.checks uploads    new batches in incoming/ get one training
    python -m usedcars_assets.checks models     a version that someone has registered gets one rollout

Each is one look of the sensor with the same duty, which may run as well: what either starts, it claims first.
"""

from enum import StrEnum
from urllib.parse import urlsplit

import structlog
import typer
from dagster import DagsterInstance, RunRequest, SensorDefinition, SensorResult, build_sensor_context

from usedcars_assets.definitions import defs
from usedcars_assets.ingestion.sensor import incoming_batches
from usedcars_assets.resources.configured import configured_resources
from usedcars_assets.rollout.new_versions import new_versions
from usedcars_assets.settings import settings

app = typer.Typer(add_completion=False)
log = structlog.get_logger()


class Check(StrEnum):
    """What is looked for."""

    UPLOADS = "uploads"
    MODELS = "models"


_DUTIES: dict[Check, tuple[SensorDefinition, str]] = {
    Check.UPLOADS: (incoming_batches, "training"),
    Check.MODELS: (new_versions, "rollout"),
}


@app.command()
def check(what: Check) -> None:
    """Look once, and start the run that is due."""
    sensor, job = _DUTIES[what]
    with DagsterInstance.get() as instance:
        for request in look(instance, sensor):
            log.info("started", check=what.value, run=launch(job, request))


def look(instance: DagsterInstance, sensor: SensorDefinition) -> list[RunRequest]:
    """The runs that are due; they are claimed."""
    resources = {name: configured_resources()[name] for name in sensor.required_resource_keys}
    with build_sensor_context(instance=instance, resources=resources, definitions=defs) as context:
        result = sensor(context)
    assert isinstance(result, SensorResult)  # noqa: S101 (both sensors return one)
    if result.skip_reason is not None:
        log.info("nothing_to_start", sensor=sensor.name, reason=str(result.skip_reason.skip_message))
    return list(result.run_requests or [])


def launch(job: str, request: RunRequest) -> str:
    """Have Dagster start a run, in its queue; the run's id."""
    from dagster_graphql import DagsterGraphQLClient

    address = urlsplit(settings().dagster_api_url or settings().dagster_url)
    client = DagsterGraphQLClient(
        address.hostname or "", port_number=address.port, use_https=address.scheme == "https"
    )
    return client.submit_job_execution(job, run_config=request.run_config, tags=dict(request.tags))


if __name__ == "__main__":
    app()
