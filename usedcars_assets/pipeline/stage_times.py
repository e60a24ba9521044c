"""Where the time of a Spark application goes, from the events that Spark logs.

https://spark.apache.org/docs/latest/monitoring.html#viewing-after-the-fact: one JSON object a line.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_METRICS = "internal.metrics."


@dataclass(frozen=True)
class StageTime:
    """One attempt of a stage.

    step: the job group of the job that asked for it first, behind the last slash; name: as Spark has it.
    started: seconds since the epoch. CPU seconds are the JVM's: what Python tasks use is not counted. Bytes
    are those read from files, handed on in shuffles, and written.
    """

    step: str
    name: str
    started: float
    seconds: float
    tasks: int
    cpu_seconds: float
    read_bytes: int
    shuffled_bytes: int
    written_bytes: int

    @property
    def ended(self) -> float:
        """Seconds since the epoch."""
        return self.started + self.seconds


@dataclass(frozen=True)
class StepTime:
    """All stages of a step; seconds: in which at least one of them ran."""

    step: str
    seconds: float
    stages: int
    tasks: int
    cpu_seconds: float
    read_bytes: int
    shuffled_bytes: int
    written_bytes: int


def stage_times(events: Iterable[str], group_prefix: str) -> list[StageTime]:
    """The ended stages of jobs whose group begins with `group_prefix`, in the order of their start.

    A last line that is not written to its end is passed over.
    """
    groups: dict[int, str] = {}
    found = []
    for line in events:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if event["Event"] == "SparkListenerJobStart":
            group = (event.get("Properties") or {}).get("spark.jobGroup.id", "")
            for stage in event["Stage IDs"]:
                groups.setdefault(stage, group)
        elif event["Event"] == "SparkListenerStageCompleted":
            stage = event["Stage Info"]
            group = groups.get(stage["Stage ID"], "")
            if group.startswith(group_prefix) and "Submission Time" in stage:
                found.append(_stage_time(group.rpartition("/")[2], stage))
    return sorted(found, key=lambda one: one.started)


def _stage_time(step: str, stage: dict[str, Any]) -> StageTime:
    measured = {
        each["Name"].removeprefix(_METRICS): int(each["Value"])
        for each in stage["Accumulables"]
        if str(each.get("Name")).startswith(_METRICS) and str(each.get("Value", "")).isdigit()
    }
    return StageTime(
        step=step,
        name=stage["Stage Name"],
        started=stage["Submission Time"] / 1000,
        seconds=(stage["Completion Time"] - stage["Submission Time"]) / 1000,
        tasks=stage["Number of Tasks"],
        cpu_seconds=measured.get("executorCpuTime", 0) / 1e9,
        read_bytes=measured.get("input.bytesRead", 0),
        shuffled_bytes=measured.get("shuffle.write.bytesWritten", 0),
        written_bytes=measured.get("output.bytesWritten", 0),
    )


def step_times(stages: Sequence[StageTime]) -> list[StepTime]:
    """The same by step, in the order of their first stages."""
    return [
        StepTime(
            step=step,
            seconds=busy_seconds(of_step),
            stages=len(of_step),
            tasks=sum(stage.tasks for stage in of_step),
            cpu_seconds=sum(stage.cpu_seconds for stage in of_step),
            read_bytes=sum(stage.read_bytes for stage in of_step),
            shuffled_bytes=sum(stage.shuffled_bytes for stage in of_step),
            written_bytes=sum(stage.written_bytes for stage in of_step),
        )
        for step in dict.fromkeys(stage.step for stage in stages)
        for of_step in ([stage for stage in stages if stage.step == step],)
    ]


def busy_seconds(stages: Iterable[StageTime]) -> float:
    """How long at least one of the stages ran."""
    busy, until = 0.0, float("-inf")
    for stage in sorted(stages, key=lambda one: one.started):
        busy += max(0.0, stage.ended - max(stage.started, until))
        until = max(until, stage.ended)
    return busy
