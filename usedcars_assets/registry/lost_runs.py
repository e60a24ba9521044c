"""MLflow runs whose Dagster run is over (crashed, killed) are ended, never left RUNNING."""

import time

from dagster import DagsterInstance, DagsterRunStatus

from usedcars_assets.resources.mlflow import DAGSTER_RUN_TAG, MlflowTracking

_FORGOTTEN_SECONDS = 24 * 3600
_STATUS = {DagsterRunStatus.SUCCESS: "FINISHED", DagsterRunStatus.CANCELED: "KILLED"}


def end_lost_runs(instance: DagsterInstance, tracking: MlflowTracking) -> list[str]:
    """Ends them and returns their ids; what this Dagster does not know may be another's and has a day."""
    client = tracking.client()
    ended: list[str] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [tracking.experiment_id()], "attributes.status = 'RUNNING'", max_results=1000, page_token=token
        )
        for run in page:
            tags = run.data.tags
            dagster_run_id = tags.get(DAGSTER_RUN_TAG) or tags.get("dagster_run_id")
            if dagster_run_id is None:
                continue  # started by hand
            dagster_run = instance.get_run_by_id(dagster_run_id)
            if dagster_run is None:
                if time.time() - run.info.start_time / 1000 > _FORGOTTEN_SECONDS:
                    client.set_terminated(run.info.run_id, "KILLED")
                    ended.append(run.info.run_id)
            elif dagster_run.is_finished:
                client.set_terminated(run.info.run_id, _STATUS.get(dagster_run.status, "FAILED"))
                ended.append(run.info.run_id)
        token = page.token
        if not token:
            return ended
