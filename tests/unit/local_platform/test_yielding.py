import os
import subprocess
import sys
from pathlib import Path

import pytest

AUTOGROUP = Path("/proc/self/autogroup")  # only of kernels that group processes by session
TELL = "import os; print(os.getpid(), os.getpgrp(), os.getsid(0), os.nice(0))"


def told(command: str, *options: str, leader: bool = True) -> list[str]:
    started = subprocess.Popen(
        [sys.executable, "-m", "local_platform.yielding", *options, sys.executable, "-c", command],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0 if leader else None,
    )
    output, _ = started.communicate(timeout=30)
    assert started.returncode == 0
    return [str(started.pid), *output.split()]


@pytest.mark.parametrize("leader", [True, False], ids=["as Supervisor starts it", "from a shell"])
def test_what_yields_leads_a_session_of_its_own_under_the_process_id_that_it_was_started_with(
    leader: bool,
) -> None:
    pid, own, group, session, nice = told(TELL, leader=leader)
    assert pid == own == group == session != str(os.getsid(0))
    assert nice == "19"


def test_the_session_is_nice_to_other_sessions_as_well_where_the_kernel_knows_that() -> None:
    _, *words = told("import subprocess; subprocess.run(['cat', '/proc/self/autogroup'])")
    assert words[1:] == ["nice", "19"] * AUTOGROUP.exists()


CORES = "import os; print(*sorted(os.sched_getaffinity(0)))"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system knows no affinity")
def test_what_yields_leaves_half_of_the_cores_to_who_answers_unless_it_works_on_all() -> None:
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
    _, *kept = told(CORES)
    _, *all_of_them = told(CORES, "--all-cores")
    assert kept == cores[len(cores) // 2 :]
    assert all_of_them == cores
