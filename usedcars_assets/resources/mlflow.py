"""MLflow tracking: dagster-mlflow's resource, opened late, once a run, and always closed.

dagster-mlflow searches for the run of a Dagster run and starts it when its resource is set up, for each
thread or process anew. Here the first asset that needs the run opens it, others get its id in a record, and
everything is logged with explicit run ids, since MLflow's active run belongs to one thread.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from dagster import (
    ConfigurableResource,
    DagsterEvent,
    DagsterRunStatus,
    HookContext,
    HookExecutionResult,
    InitResourceContext,
)
from dagster._core.definitions.decorators.hook_decorator import event_list_hook
from pydantic import Field, PrivateAttr

if TYPE_CHECKING:
    from mlflow import MlflowClient

DAGSTER_RUN_TAG = "usedcars.dagster_run_id"
"""On nested runs; the parent has dagster-mlflow's own tag, by which that finds it again."""
_CLIENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # its default waits for minutes before it says who is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def _set_client_defaults() -> None:
    """What MLflow's client reads from the environment, unless it was set there by someone else."""
    for name, value in _CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)


class MlflowTracking(ConfigurableResource[Any]):
    """The tracking server, and the MLflow run of this Dagster run once an asset asked for it."""

    tracking_uri: str = Field(description="MLflow's tracking server.")
    url: str = Field(default="", description="MLflow as a browser reaches it, if that differs.")
    experiment: str = Field(description="MLflow experiment of the trainings.")
    registered_model: str = Field(description="Name of the registered model.")
    serving_alias: str = Field(description="Alias of the version that serving must run.")
    dagster_url: str = Field(description="Dagster as a browser reaches it.")

    _context: Any = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=Lock)
    _opened: ExitStack = PrivateAttr(default_factory=ExitStack)
    _run_id: str | None = PrivateAttr(default=None)
    _failed: bool = PrivateAttr(default=False)

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Nothing is asked of the server yet: assets that come before it is needed go on without it."""
        self._context = context

    def client(self) -> "MlflowClient":
        """A client; safe to use from any thread."""
        _set_client_defaults()
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    def experiment_id(self) -> str:
        """The id of the experiment, which is made if there is none."""
        client = self.client()
        found = client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id if found else client.create_experiment(self.experiment))

    @property
    def started_run(self) -> str | None:
        """The MLflow run that this Dagster run started."""
        return self._run_id

    def start_training_run(self) -> str:
        """Opens dagster-mlflow's resource, which starts the run; the same run for every later call."""
        with self._lock:
            if self._run_id is None:
                _set_client_defaults()
                from dagster_mlflow import mlflow_tracking

                configuration = {
                    "experiment_name": self.experiment,
                    "mlflow_tracking_uri": self.tracking_uri,
                    "extra_tags": {"dagster_run_url": self.dagster_run_url(self._context.run.run_id)},
                }
                context = self._context.replace_config(configuration)
                tracking = self._opened.enter_context(contextmanager(mlflow_tracking.resource_fn)(context))
                self._run_id = str(tracking.mlflow_run_id or tracking.active_run().info.run_id)
            return self._run_id

    def end_run(self, status: str = "FINISHED") -> None:
        """Ends the run and what runs below it, as dagster-mlflow's hook asks; failed stays failed."""
        if self._run_id is None:
            return
        self._failed = self._failed or status != "FINISHED"
        if self._failed and status == "FINISHED":
            return
        client = self.client()
        for run in client.search_runs([self.experiment_id()], f"tags.mlflow.parentRunId = '{self._run_id}'"):
            if run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, status)
        client.set_terminated(self._run_id, status)

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """However the run ended, its MLflow run ends too; what a killed process leaves, the sweep ends."""
        if self._run_id is None:
            return
        try:
            self.end_run(self._status())
        finally:
            self._opened.close()
            self._leave_active_run()
            self._run_id = None

    def _status(self) -> str:
        instance, run_id = self._context.instance, self._context.run.run_id
        run = instance.get_run_by_id(run_id)
        if run is not None and run.status == DagsterRunStatus.CANCELING:
            return "KILLED"
        return "FAILED" if instance.get_run_stats(run_id).steps_failed else "FINISHED"

    def _leave_active_run(self) -> None:
        """dagster-mlflow makes the run MLflow's active one, and leaves it so for whoever logs next."""
        import mlflow

        active = mlflow.active_run()
        if active is not None and active.info.run_id == self._run_id:
            mlflow.end_run("FAILED" if self._failed else "FINISHED")

    def run_url(self, run_id: str, experiment_id: str) -> str:
        """A run's page."""
        return f"{self.url or self.tracking_uri}/#/experiments/{experiment_id}/runs/{run_id}"

    def version_url(self, name: str, version: str) -> str:
        """A model version's page."""
        return f"{self.url or self.tracking_uri}/#/models/{name}/versions/{version}"

    def dagster_run_url(self, run_id: str) -> str:
        """The page of a Dagster run."""
        return f"{self.dagster_url}/runs/{run_id}"


_HOOK = "end_mlflow_on_run_finished"


@event_list_hook(name=_HOOK, required_resource_keys={"mlflow"})
def end_mlflow_on_run_finished(
    context: HookContext, event_list: Sequence[DagsterEvent]
) -> HookExecutionResult:
    """dagster-mlflow's hook, imported only once there is an MLflow run: importing MLflow takes seconds."""
    tracking: MlflowTracking = context.resources.mlflow
    if tracking.started_run is None:
        return HookExecutionResult(hook_name=_HOOK, is_skipped=True)
    from dagster_mlflow import end_mlflow_on_run_finished as hook

    result: HookExecutionResult = hook.hook_fn(context, event_list)
    return result
