"""Runs a command behind those that answer: `python -m local_platform.yielding COMMAND [ARGUMENT ...]`.

Where Linux groups processes by session, a nice value counts only within a session (sched(7), "The autogroup
feature"): a training in the session of the platform would keep whoever asks for a price in another one
waiting as if it were not nice at all. So the command gets a session of its own, and that has the nice value
too.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

_NICE = 19


def lead_yielding_session() -> None:
    """Lead a new session, the nicest there can be; the process id stays, and names the process group."""
    if os.getpgrp() == os.getpid():
        os.setpgid(0, os.getpgid(os.getppid()))  # the leader of a group can't leave its session
    os.setsid()
    os.nice(_NICE)
    with suppress(OSError):  # of systems without such groups
        Path("/proc/self/autogroup").write_text(str(_NICE))


if __name__ == "__main__":
    lead_yielding_session()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
