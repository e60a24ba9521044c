"""What the scenarios ask Dagster's webserver, as its UI does."""

import time
from dataclasses import dataclass
from typing import Any

import requests
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}
LOOKED_WELL = {"SUCCESS", "SKIPPED"}

RUNS = """
query Runs { runsOrError(limit: 100) { ... on Runs { results {
  runId status jobName startTime endTime tags { key value }
  stepStats { stepKey status startTime endTime }
} } } }
"""
FAILURES = """
query Failures($run: ID!) { logsForRun(runId: $run, limit: 1000) { ... on EventConnection { events {
  ... on ExecutionStepFailureEvent { stepKey error { message causes { message } } }
  ... on RunFailureEvent { message }
} } } }
"""
SENSOR_TICKS = """
query Ticks {
  sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "usedcars"}) {
    ... on Sensors { results { name sensorState {
      status ticks(limit: 5) { timestamp status skipReason error { message } }
    } } }
  }
}
"""


# The webserver says 500 once for each connection to its database that a restart has cut.
once_it_answers = retry(
    retry=retry_if_exception_type(requests.RequestException),
    wait=wait_fixed(1),
    stop=stop_after_delay(30),
    reraise=True,
)


@dataclass(frozen=True)
class Run:
    """One Dagster run."""

    id: str
    job: str
    status: str
    tags: dict[str, str]
    started: float | None


class DagsterGraphQL:
    """The GraphQL interface of a running Dagster webserver."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/graphql"

    @once_it_answers
    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = requests.post(self.url, json={"query": query, "variables": variables}, timeout=30)
        answer.raise_for_status()
        document = answer.json()
        assert "errors" not in document, document
        return dict(document["data"])

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        return [
            Run(
                id=run["runId"],
                job=run["jobName"],
                status=run["status"],
                tags={tag["key"]: tag["value"] for tag in run["tags"]},
                started=run["startTime"],
            )
            for run in self.ask(RUNS)["runsOrError"]["results"]
        ]

    def run(self, run_id: str) -> Run:
        """One of them."""
        return next(run for run in self.runs() if run.id == run_id)

    def failure_sentences(self, run: str) -> list[str]:
        """What the failed steps of a run said."""
        events = self.ask(FAILURES, run=run)["logsForRun"]["events"]
        return [
            " ".join([event["error"]["message"], *(cause["message"] for cause in event["error"]["causes"])])
            for event in events
            if event.get("error")
        ]

    def wait_for_new_run(self, job: str, known: set[str], timeout_seconds: float = 120) -> Run:
        """The first run of a job that is not among the known ones."""
        until = time.monotonic() + timeout_seconds
        while time.monotonic() < until:
            for run in reversed(self.runs()):
                if run.job == job and run.id not in known:
                    return run
            time.sleep(1)
        raise AssertionError(f"no {job} started in {timeout_seconds} s; sensors: {self.ask(SENSOR_TICKS)}")

    def looked_well(self, sensor: str) -> float:
        """When a sensor last looked without an error (seconds since 1970); 0 while that is not known."""
        try:
            found = self.ask(SENSOR_TICKS)["sensorsOrError"].get("results", ())
        except (requests.RequestException, AssertionError):  # the code server is away
            return 0
        ticks = (tick for one in found if one["name"] == sensor for tick in one["sensorState"]["ticks"])
        return max((float(tick["timestamp"]) for tick in ticks if tick["status"] in LOOKED_WELL), default=0)

    def wait_until_finished(self, run_id: str, timeout_seconds: float = 1200) -> Run:
        """The run, once it has ended in whatever way."""
        until = time.monotonic() + timeout_seconds
        while time.monotonic() < until:
            run = self.run(run_id)
            if run.status in FINISHED:
                return run
            time.sleep(1)
        raise AssertionError(f"run {run_id} did not end in {timeout_seconds} s")
