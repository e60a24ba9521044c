"""Versions in and out of service: the alias moves, serving follows, answers are waited for."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from usedcars_assets.failures import explain
from usedcars_assets.resources.deployment import Deployment
from usedcars_assets.rollout.answers import Answers, NoAnswerError
from usedcars_assets.rollout.ledger import Entry, now

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PATIENCE_WITHOUT_RESTART = 30.0
_PATIENCE_OF_WHO_INTERRUPTS = 15.0
# However short the wait for answers: an alias that stays on a version that does not answer is the worst end.
_LEAST_PATIENCE_TO_PUT_BACK = 300.0
_PAUSE = 2.0


class UndoneError(Exception):
    """A change of the version in service was undone; the message says why, `outcome` what answers now."""

    def __init__(self, reason: str, outcome: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Service:
    """Serving, the alias that tells it which version to run, its answers, and the ledger of its changes."""

    client: "MlflowClient"
    name: str
    alias: str
    serving: Deployment
    answers: Answers
    listing: str  # JSON, sent as a probe
    timeout: float  # seconds to wait for an answer
    tell: Callable[[Entry], None]
    run_id: str

    def change(
        self,
        kind: Literal["rollout", "rollback"],
        version: str,
        former: str | None,
        reason: str = "",
        evidence: Mapping[str, float] | None = None,
    ) -> float:
        """Brings a version into service; the seconds until it answered. The ledger tells how it went.

        When it does not answer, the former version is put back: UndoneError. Who interrupts is not kept
        waiting for answers.
        """
        begun = Entry(
            kind=kind,
            outcome="begun",
            model=self.name,
            version=version,
            former=former,
            reason=reason,
            run_id=self.run_id,
            evidence=evidence or {},
        )
        self.tell(begun)
        try:
            seconds = self._bring(version)
        except BaseException as error:
            outcome = self._put_back(former, wait=isinstance(error, Exception))
            why = _reason(error) if isinstance(error, Exception) else f"interrupted ({type(error).__name__})"
            self._tell(begun, outcome="undone", reason=f"{why}. {outcome}")
            if not isinstance(error, Exception):
                raise
            raise UndoneError(why, outcome) from error
        self._tell(begun, outcome="answered", reason=reason, seconds=seconds)
        return seconds

    def _tell(
        self,
        begun: Entry,
        *,
        outcome: Literal["answered", "undone"],
        reason: str,
        seconds: float | None = None,
    ) -> None:
        self.tell(replace(begun, outcome=outcome, reason=reason, seconds=seconds, at=now()))

    def _bring(self, version: str) -> float:
        started = time.monotonic()
        self.client.set_registered_model_alias(self.name, self.alias, version)
        self.serving.start()
        self._await(version, self.timeout)
        return time.monotonic() - started

    def _put_back(self, previous: str | None, *, wait: bool) -> str:
        """Undoes a change and says how that went; an outage of MLflow is waited for, for minutes."""
        patient = retry(
            retry=retry_if_exception(_may_heal),
            wait=wait_fixed(_PAUSE),
            stop=stop_after_delay(
                max(self.timeout, _LEAST_PATIENCE_TO_PUT_BACK) if wait else _PATIENCE_OF_WHO_INTERRUPTS
            ),
            reraise=True,
        )
        try:
            if previous is None:
                patient(self.client.delete_registered_model_alias)(self.name, self.alias)
            else:
                patient(self.client.set_registered_model_alias)(self.name, self.alias, previous)
        except Exception as problem:
            return (
                f"The alias {self.alias} could not be moved back ({_reason(problem)}): "
                f"set it to version {previous or 'none'} in MLflow by hand."
            )
        try:
            if previous is None:
                self.serving.restart()
                return "There was no version before it: serving waits for the next."
            self.serving.start()
            if not wait:
                return f"Version {previous} is put back."
            try:
                self._await(previous, min(self.timeout, _PATIENCE_WITHOUT_RESTART))
            except NoAnswerError:  # serving may hang in the version that did not answer
                self.serving.restart()
                self._await(previous, self.timeout)
        except Exception as problem:
            return (
                f"Version {previous or 'none'} is put back but was not seen to answer ({_reason(problem)}): "
                "restart serving by hand if it does not answer."
            )
        return f"Version {previous} is back and answers."

    def _await(self, version: str, seconds: float) -> None:
        self.answers.wait_for(version, self.listing, seconds, self.serving.why_not)


def _may_heal(error: BaseException) -> bool:
    return isinstance(error, Exception) and explain(error, "rolling out")[1]


def _reason(error: Exception) -> str:
    sentence = str(error) if isinstance(error, NoAnswerError) else explain(error, "rolling out")[0]
    return sentence.rstrip(".")
