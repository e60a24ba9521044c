"""A version that is worse on live requests gives way to the one before it: real serving, Kafka and MLflow."""

import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    Failure,
    SensorResult,
    build_asset_context,
    build_sensor_context,
    instance_for_test,
    materialize,
)
from dagster._core.test_utils import create_run_for_test

from tests.rollouts import deployment, registered_version, supervised, tracking
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.ledger import read_promotions
from usedcars_assets.rollout.live_comparison import ComparisonConfig, live_comparison, live_evidence
from usedcars_assets.rollout.serving_rollout import RolloutConfig, serving_rollout

pytestmark = pytest.mark.services

CARS = 250
SERVING = """
[program:serving]
command={python} -m streaming_app.serving
autostart=false
stopasgroup=true
killasgroup=true
stdout_logfile={folder}/serving.log
redirect_stderr=true
"""


class Platform:
    """A serving process under Supervisor, its topics and model, and the assets that drive it."""

    def __init__(self, room: Any, registry: Any, folder: Path, instance: DagsterInstance) -> None:
        self.room, self.registry, self.instance = room, registry, instance
        self.name = str(room.environment["USEDCARS_REGISTERED_MODEL"])
        self.topics = Topics(
            bootstrap_servers=room.brokers,
            requests=room.requests,
            predictions=room.predictions,
            live_metrics=room.live_metrics,
            input_drift=room.input_drift,
            takeovers=room.takeovers,
            promotions=room.promotions,
        )
        self.mlflow = tracking(room.environment["USEDCARS_MLFLOW_TRACKING_URI"], self.name)
        self.deployment = deployment(folder, room.port)
        self.answered = 0

    def roll_out(self, version: str) -> None:
        # Closed here: one that is left to the garbage collector brings back an instance that is gone.
        with build_asset_context() as context:
            serving_rollout(
                context,
                config=RolloutConfig(timeout_seconds=240),
                registered_model=registered_version(self.name, version, '{"year": 2010}'),
                mlflow=self.mlflow,
                deployment=self.deployment,
                topics=self.topics,
            )

    def sell(self, seed: int) -> None:
        """Ask for the prices of cars, and set them later: near to what the good pipeline says."""
        chance = random.Random(seed)
        years = {f"{seed}-{n}": chance.randrange(2000, 2020) for n in range(CARS)}
        self.room.send(
            *(
                {"type": "price_request", "request_id": name, "listing": {"year": year, "mileage": 0}}
                for name, year in years.items()
            )
        )
        self.answered += CARS
        self.room.answers(self.answered)  # and those to the probes
        self.room.send(
            *(
                {
                    "type": "price_set",
                    "request_id": name,
                    "price": round((5_000 + 800 * (year - 2000)) * math.exp(chance.gauss(0, 0.1)), 2),
                }
                for name, year in years.items()
            )
        )

    def judge(self) -> dict[str, Any]:
        """Materialise the comparison; its metadata."""
        done = materialize(
            [live_comparison],
            instance=self.instance,
            resources={
                "kafka_spark": SharedSpark(),
                "mlflow": self.mlflow,
                "deployment": self.deployment,
                "topics": self.topics,
            },
            run_config={
                "ops": {
                    "live_comparison": {
                        "config": ComparisonConfig(
                            roll_back=True, least_pairs=200, timeout_seconds=240
                        ).model_dump()
                    }
                }
            },
        )
        (shown,) = done.asset_materializations_for_node("live_comparison")
        return {name: value.value for name, value in shown.metadata.items()}

    def evidence(self) -> SensorResult:
        with build_sensor_context(instance=self.instance) as context:
            found: Any = live_evidence(context, topics=self.topics)
        assert isinstance(found, SensorResult)
        return found

    def served(self) -> str:
        return str(self.registry.client.get_model_version_by_alias(self.name, "serving").version)


@pytest.fixture
def platform_in_service(room: Any, registry: Any, tmp_path: Path) -> Iterator[Platform]:
    room.environment["USEDCARS_REGISTERED_MODEL"] = f"price-{uuid4().hex[:8]}"
    room.environment["USEDCARS_SERVING_PORT"] = str(room.port)
    programs = SERVING.format(folder=tmp_path, python=sys.executable)
    with supervised(tmp_path, programs, room.environment), instance_for_test() as instance:
        yield Platform(room, registry, tmp_path, instance)


def test_a_worse_version_is_rolled_back_with_its_reason_and_an_equal_one_stays(
    platform_in_service: Platform,
) -> None:
    here, registry = platform_in_service, platform_in_service.registry
    first, equal = registry.register(here.name), registry.register(here.name)
    worse = registry.register_other(here.name, registry.pipeline(price="raw_price * 1.3"))

    here.roll_out(first)
    assert str(here.judge()["verdict"]).startswith("There is no version to judge")
    assert here.evidence().run_requests == []

    here.roll_out(equal)
    assert "too few to judge: 0 cars have a set price" in str(here.judge()["verdict"])
    here.sell(1)
    (asked,) = here.evidence().run_requests or []
    going_on = create_run_for_test(here.instance, job_name="comparison", status=DagsterRunStatus.STARTED)
    assert here.evidence().run_requests == [], "one comparison at a time"
    here.instance.delete_run(going_on.run_id)
    told = here.judge()
    assert told["pairs"] == CARS
    assert str(told["verdict"]).startswith(f"Version {equal} stays, not worse by evidence")
    assert here.served() == equal
    assert [again.run_key for again in here.evidence().run_requests or []] == [asked.run_key]

    here.roll_out(worse)
    here.sell(2)
    told = here.judge()
    print(f"\n{json.dumps(told)}")
    assert str(told["verdict"]).startswith(f"Version {worse} was rolled back")
    assert here.served() == equal
    begun, answered = read_promotions(here.topics)[-2:]
    assert (begun.kind, begun.outcome, begun.version, begun.former) == ("rollback", "begun", equal, worse)
    assert (answered.outcome, answered.version, answered.former) == ("answered", equal, worse)
    assert answered.reason.startswith(f"on {CARS} cars version {worse} is off by")
    assert answered.evidence["pairs"] == CARS
    assert answered.seconds is not None

    assert str(here.judge()["verdict"]).startswith("There is no version to judge"), "no flapping"
    assert here.evidence().run_requests == []
    with pytest.raises(Failure, match=r"was rolled back: .* it is not rolled out again"):
        here.roll_out(worse)
    assert here.served() == equal
