import subprocess
import sys
from pathlib import Path

from carrel.priority import step_back

TELL = (
    "import os,pathlib;group=pathlib.Path('/proc/self/autogroup');"
    "print(os.getpriority(os.PRIO_PROCESS,0),os.sched_getscheduler(0)==os.SCHED_BATCH,"
    "group.read_text().strip() if group.exists() else '')"
)


def test_a_process_steps_back_and_what_it_starts_with_it() -> None:
    child = f"import subprocess,sys;subprocess.run([sys.executable,'-c',{TELL!r}])"
    program = f"from carrel.priority import step_back;step_back();{TELL};{child}"
    told = subprocess.run(
        [sys.executable, "-uc", program], capture_output=True, text=True, check=True, start_new_session=True
    ).stdout.splitlines()
    assert [line.split()[:2] for line in told] == [["10", "True"]] * 2
    # A kernel with groups: the whole session's goes with it. It lets who is not root say so ten times a second.
    assert all(line.split()[-1] in ("10", "0", "True") for line in told)


def test_a_session_that_is_shared_keeps_its_place() -> None:
    """Somebody's terminal, say: what runs in it besides is not ours."""
    group = Path("/proc/self/autogroup")
    before = group.read_text() if group.exists() else ""
    program = f"from carrel.priority import step_back;step_back();{TELL}"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split()[:2] == ["10", "True"]
    assert (group.read_text() if group.exists() else "") == before


def test_what_is_gone_already_is_no_error() -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    step_back(done.pid)
