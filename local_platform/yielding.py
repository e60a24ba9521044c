"""Runs a command behind those that answer.

    python -m local_platform.yielding [--all-cores] COMMAND [ARGUMENT ...]

Where Linux groups processes by session, a nice value counts only within a session (sched(7), "The autogroup
feature"): a training in the session of the platform would keep whoever asks for a price in another one
waiting as if it were not nice at all. So the command gets a session of its own, and that has the nice value
too.

And it keeps to half of the cores, so that on another one whoever answers need not wait for the kernel to take
a core away: with groups of so little weight Linux takes tenths of a second to do so
(docs/decisions/039). With --all-cores it does not: a training may have what nobody else uses.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

_NICE = 19


def lead_yielding_session(*, all_cores: bool) -> None:
    """Lead a new session, the nicest there can be; the process id stays, and names the process group."""
    if os.getpgrp() == os.getpid():
        os.setpgid(0, os.getpgid(os.getppid()))  # the leader of a group can't leave its session
    os.setsid()
    os.nice(_NICE)
    with suppress(OSError):  # of systems without such groups
        Path("/proc/self/autogroup").write_text(str(_NICE))
    if not all_cores and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[len(cores) // 2 :])


if __name__ == "__main__":
    command = sys.argv[1:]
    if all_cores := command[0] == "--all-cores":
        del command[0]
    lead_yielding_session(all_cores=all_cores)
    os.execvp(command[0], command)  # noqa: S606
