"""The whole asset graph as one picture: a change of it is seen in the review of asset_graph.json.

Renew it with: RENEW_ASSET_GRAPH=1 .venv/bin/pytest tests/unit/usedcars_assets/test_asset_graph.py
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dagster import AssetKey, DefaultScheduleStatus, DefaultSensorStatus

from usedcars_assets.definitions import defs
from usedcars_assets.training.members import CONFIGS

SNAPSHOT = Path(__file__).with_name("asset_graph.json")


def picture() -> dict[str, Any]:
    repository = defs.get_repository_def()
    graph = repository.asset_graph
    checks: dict[str, list[dict[str, Any]]] = {}
    for key in sorted(graph.asset_check_keys, key=lambda key: (key.asset_key.path, key.name)):
        spec = graph.get_check_spec(key)
        checks.setdefault(key.asset_key.to_user_string(), []).append(
            {"name": key.name, "blocking": spec.blocking, "description": spec.description}
        )
    assets = {}
    for key in sorted(graph.get_all_asset_keys(), key=AssetKey.to_user_string):
        node = graph.get(key)
        name = key.to_user_string()
        assets[name] = {
            "description": node.description,
            "group": node.group_name,
            "external": node.is_external,
            "depends_on": sorted(parent.to_user_string() for parent in node.parent_keys),
            "owners": sorted(node.owners),
            "tags": dict(sorted(node.tags.items())),
            "kinds": sorted(node.kinds),
            "code_version": node.code_version,
            "partitions": node.partitions_def.name if node.partitions_def else None,
            "backfill": str(node.backfill_policy.policy_type.name) if node.backfill_policy else None,
            "automation": str(node.automation_condition) if node.automation_condition else None,
            "checks": checks.get(name, []),
        }
    jobs = {
        job.name: {
            "description": job.description,
            "assets": sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys),
            "tags": dict(sorted(job.tags.items())),
            "hooks": sorted(hook.name for hook in job.hook_defs),
            "executor": job.executor_def.name,
            "partitions": job.partitions_def.name if job.partitions_def else None,  # type: ignore[attr-defined]
        }
        for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
        if not job.name.startswith("__")
    }
    sensors = {
        sensor.name: {
            "description": sensor.description,
            "running": sensor.default_status is DefaultSensorStatus.RUNNING,
            "interval_seconds": sensor.minimum_interval_seconds,
            "jobs": sorted(target.job_name for target in sensor.targets),
        }
        for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
    }
    schedules = {
        schedule.name: {
            "description": schedule.description,
            "running": schedule.default_status is DefaultScheduleStatus.RUNNING,
            "cron": schedule.cron_schedule,
            "job": schedule.job_name,
        }
        for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name)
    }
    return {"assets": assets, "jobs": jobs, "sensors": sensors, "schedules": schedules}


def test_the_asset_graph_is_the_one_that_was_reviewed() -> None:
    found = json.dumps(picture(), indent=1) + "\n"
    if os.environ.get("RENEW_ASSET_GRAPH"):
        SNAPSHOT.write_text(found)
    assert json.loads(found) == json.loads(SNAPSHOT.read_text()), f"renew it as said in {__file__}"


def test_every_asset_says_what_it_is_and_who_owns_it() -> None:
    for name, asset in picture()["assets"].items():
        assert asset["description"], name
        assert asset["owners"], name
        assert asset["kinds"], name
        assert asset["group"] != "default", name


def test_a_member_shows_the_pipelines_own_defaults_in_the_launchpad() -> None:
    from usedcars_assets.pipeline.members import MEMBERS

    assert set(CONFIGS) == set(MEMBERS)
    for name, config in CONFIGS.items():
        shown = config().model_dump(exclude={"tuned", "warm_start_share"})
        assert shown == dict(MEMBERS[name].defaults), name


def test_loading_the_code_location_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; import usedcars_assets.definitions;"
        "heavy = {'mlflow', 'xgboost', 'pandas', 'pyspark.ml', 'matplotlib', 'kafka', 'sklearn'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_dagster_finds_the_code_location_by_the_workspace_and_dg_by_the_project() -> None:
    """Both commands take what they load from the folder they are called in."""

    def call(command: str) -> "subprocess.CompletedProcess[str]":
        name, *arguments = command.split()
        done = subprocess.run(
            [str(Path(sys.executable).with_name(name)), *arguments],
            cwd=Path(__file__).parents[3],
            env={key: value for key, value in os.environ.items() if key != "DAGSTER_HOME"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done

    with ThreadPoolExecutor() as threads:
        validated, listed = threads.map(call, ("dagster definitions validate", "dg list defs --json"))
    assert "Validation successful for code location usedcars" in validated.stdout + validated.stderr
    assert {asset["asset_key"] for asset in json.loads(listed.stdout)["assets"]} == set(picture()["assets"])
