"""What podman is told: nothing of its own defaults that is more than a runtime gives, and no text of a model's."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from carrel.sandbox.oci import podman
from carrel.sandbox.oci.runtimes import Runtime
from tests.fakes.sandboxed import shell

CRUN = Runtime("crun", "/usr/bin/crun", 1000, "crun", "/usr/bin/podman")


def test_the_command_is_an_argument_and_the_environment_none() -> None:
    hostile = "'; mount / #\n$(id)"
    told = podman.told(replace(shell(hostile), env={"TOKEN": "carrel_secret_x"}), CRUN)
    plain = podman.told(shell("true"), CRUN)
    assert told["options"] == plain["options"]
    assert told["argv"][:-1] == plain["argv"][:-1]
    assert told["argv"][-1] == hostile
    assert "carrel_secret_x" not in " ".join((*told["options"], *told["argv"]))
    assert "export TOKEN=carrel_secret_x\n" in told["environment"]


def test_limits_and_ids_are_the_jobs() -> None:
    options = podman.told(shell("true", tmp_bytes=123), replace(CRUN, uid=7))["options"]
    assert "--tmpfs=/tmp:rw,nosuid,nodev,exec,mode=1777,size=123" in options
    assert {"--uidmap=7:0:1", "--gidmap=7:0:1", "--user=7:7"} <= set(options)


@pytest.mark.parametrize("program", ["bash", "dash"])
def test_a_shell_reads_the_environment_as_it_was(program: str) -> None:
    wanted = {"PLAIN": "x", "LINES": "one\ntwo\n", "QUOTES": 'it\'s "$HOME" `id`\\', "no-name": "left out"}
    path = shutil.which(program)
    assert path is not None
    text = podman.exports(wanted) + '/usr/bin/printf "%s|" "$PLAIN" "$LINES" "$QUOTES"'
    done = subprocess.run([path, "-c", text], capture_output=True, check=True, env={})
    assert done.stdout.decode() == 'x|one\ntwo\n|it\'s "$HOME" `id`\\|'
