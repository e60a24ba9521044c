"""The duty of the process that holds the lease: to answer.

One that holds it and comes to a stand, in Spark, in its JVM or in a client of Kafka, would keep every other
from answering. It is ended instead: a standby succeeds it at once, and it is started anew.
"""

import threading
import time
from collections.abc import Callable
from threading import Event

from streaming_app.lease import Lease

_SECONDS_BETWEEN_LOOKS = 1.0


class Duty:
    """Watches the holder of the lease from a thread of its own."""

    def __init__(self, lease: Lease, within: float, stop: Event, end: Callable[[str], None]) -> None:
        """`end` is called with the reason when the holder has been at a stand for `within` seconds."""
        self._lease, self._within, self._stop, self._end = lease, within, stop, end
        self._done_at = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="duty", daemon=True)

    def watch(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def done(self) -> None:
        """Say that the query runs; to be called all the while."""
        self._done_at = time.monotonic()

    def _watch(self) -> None:
        looked_at = time.monotonic()
        while not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            before, looked_at = looked_at, time.monotonic()
            if not self._lease.held() or looked_at - before > self._within:  # it was frozen, whole
                self.done()
            elif looked_at - self._done_at > self._within:
                self._end(
                    f"this process holds the lease and has not answered for {self._within:g} s: it ends, so "
                    "that a standby takes over; what it waits for is in the log above"
                )
