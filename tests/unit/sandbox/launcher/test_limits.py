"""Limits are set on another process, and none is ever raised."""

import os
import resource
import signal
import subprocess

from carrel.sandbox.launcher import limits


def test_a_process_is_limited_from_outside() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeping:
        most = resource.prlimit(sleeping.pid, resource.RLIMIT_NOFILE)[1]
        limits.set_on(sleeping.pid, {"NOFILE": [32, 64], "CORE": [0, 0]})
        assert resource.prlimit(sleeping.pid, resource.RLIMIT_NOFILE) == (32, 64)
        limits.set_on(sleeping.pid, {"NOFILE": [1 << 30, 1 << 30]})
        assert resource.prlimit(sleeping.pid, resource.RLIMIT_NOFILE) == (64, 64)
        assert most > 64
        assert os.getpriority(os.PRIO_PROCESS, sleeping.pid) >= 5
        os.setpriority(os.PRIO_PROCESS, sleeping.pid, 15)
        limits.set_on(sleeping.pid, {})
        assert os.getpriority(os.PRIO_PROCESS, sleeping.pid) == 15, "who is nicer already stays so"
        sleeping.send_signal(signal.SIGKILL)
