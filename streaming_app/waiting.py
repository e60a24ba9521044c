"""Patient waiting for services that are not there yet, ended at once by a stop signal."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

import structlog
import tenacity
from tenacity.nap import sleep_using_event

log = structlog.get_logger()
Result = TypeVar("Result")

SECONDS_BETWEEN_LINES = 30.0


class NotYetError(Exception):
    """What is waited for is not there yet; the text says what is missing."""


class StoppedError(Exception):
    """The process was told to stop while it waited."""


def wait_for(
    attempt: Callable[[], Result],
    stop: Event,
    transient: tuple[type[BaseException], ...],
    longest_pause: float = 5.0,
    report: Callable[[str], None] = lambda reason: None,
) -> Result:
    """Call `attempt` until it returns, with growing pauses (0.25 s up to `longest_pause` seconds).

    NotYetError and the `transient` errors mean "again later"; `report` gets the reason each time, the log
    a line when it changes and every 30 s. Raises StoppedError as soon as `stop` is set.
    """
    said_at = 0.0
    said = ""

    def say(state: tenacity.RetryCallState) -> None:
        nonlocal said, said_at
        error = state.outcome.exception() if state.outcome else None
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        report(reason)
        if reason != said or time.monotonic() - said_at > SECONDS_BETWEEN_LINES:
            said, said_at = reason, time.monotonic()
            log.info("waiting", reason=reason)

    try:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((NotYetError, *transient)),
            wait=tenacity.wait_exponential(multiplier=0.25, max=longest_pause),
            sleep=sleep_using_event(stop),
            stop=tenacity.stop_when_event_set(stop),
            before_sleep=say,
        )(attempt)
    except tenacity.RetryError as stopped:
        raise StoppedError from stopped
