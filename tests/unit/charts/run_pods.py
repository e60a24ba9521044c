"""The job that Dagster's launcher makes of a run, from the instance that the chart configures."""

from typing import Any
from unittest.mock import patch

import yaml
from dagster import DagsterRun
from dagster._config import process_config
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job
from kubernetes import client

from tests.unit.charts.rendering import rendered


def instance(size: str = "usual") -> dict[str, Any]:
    """Dagster's dagster.yaml."""
    config_map = rendered("dagster", size).one(client.V1ConfigMap, "dagster-instance")
    document: dict[str, Any] = yaml.safe_load(config_map.data["dagster.yaml"])
    return document


def run_job(size: str = "usual") -> Any:
    """The job of a run, a client.V1Job."""
    section = instance(size)["run_launcher"]
    assert (section["module"], section["class"]) == ("dagster_k8s", "K8sRunLauncher")
    launchers: Any = K8sRunLauncher  # has no types
    config = process_config(launchers.config_type(), section["config"])
    assert config.success, config.errors
    with patch("kubernetes.config.load_incluster_config"):
        launcher = launchers.from_config_value(None, config.value)
    run = DagsterRun(job_name="training")
    context = K8sContainerContext.create_for_run(run, launcher, include_run_tags=True)
    return construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config("usedcars/assets:0.1.0", launcher),
        args=["dagster", "api", "execute_run"],
        job_name=f"dagster-run-{run.run_id}",
        user_defined_k8s_config=context.run_k8s_config,
        component="run_worker",
    )
