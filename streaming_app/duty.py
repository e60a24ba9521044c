"""The duty of the process that holds the lease: to answer.

One that holds it and comes to a stand, in Spark, in its JVM or in a client of Kafka, would keep every other
from answering. It is ended instead: a standby succeeds it at once, and it is started anew.
"""

import threading
from collections.abc import Callable
from threading import Event

from streaming_app.lease import Lease

_SECONDS_BETWEEN_LOOKS = 1.0


class Duty:
    """Watches the holder of the lease from a thread of its own."""

    def __init__(self, lease: Lease, within: float, stop: Event, end: Callable[[str], None]) -> None:
        """`end` is called with the reason when the holder has been at a stand for `within` seconds."""
        self._lease, self._within, self._stop, self._end = lease, within, stop, end
        self._looks = 0  # since the query was last known to run; counted, as a clock goes on in a freeze
        self._thread = threading.Thread(target=self._watch, name="duty", daemon=True)

    def watch(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def done(self) -> None:
        """Say that the query runs; to be called all the while."""
        self._looks = 0

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            self._looks = self._looks + 1 if self._lease.held() else 0
            if self._looks * _SECONDS_BETWEEN_LOOKS > self._within:
                self._end(
                    f"this process holds the lease and has not answered for {self._within:g} s: it ends, so "
                    "that a standby takes over; what it waits for is in the log above"
                )
