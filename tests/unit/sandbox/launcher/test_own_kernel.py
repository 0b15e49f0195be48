"""What the launcher makes of an order for a kernel of its own, and of how that ended. Runs are in tests/contract."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carrel.sandbox.bwrap import Files
from carrel.sandbox.launcher import KEEPS_NOTHING, own_kernel
from carrel.sandbox.oci import bundle
from carrel.sandbox.oci.runtimes import Runtime
from tests.fakes.sandboxed import shell


def order(engine: str = "", **change: Any) -> dict[str, Any]:
    runtime = Runtime("runsc", "/usr/bin/runsc", 0, engine=engine)
    return bundle.order(replace(shell("true"), **change), Files(filters=2), runtime, uid=60987)


def test_the_order_is_made_to_fit() -> None:
    plain = order()
    made = own_kernel.fitted(plain, root="/r")
    config = made["config"]
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 0, "size": 1}]
    assert plain["config"]["linux"]["uidMappings"][0]["hostID"] == 60987, "what was told is left as it is"
    assert {one["type"] for one in config["process"]["rlimits"]} >= {"RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CPU"}
    assert (made["rlimits"], config["process"]["args"][-1]) == (plain["kernel"]["around"], "true")
    mounts = {mount["destination"]: mount for mount in config["mounts"]}
    assert "ro" not in mounts["/dev"]["options"]
    assert (mounts["/workspace"]["source"], "ro" in mounts["/workspace"]["options"]) == ("/r/workspace", False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine": "/usr/bin/podman"}, "leave out the mode's `engine`"),
        ({"keep": "main"}, KEEPS_NOTHING),
        ({"limits": shell("true", memory_bytes=1 << 20).limits}, "whole GiB of memory"),
    ],
)
def test_what_it_cannot_do_is_not_done(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(OSError, match=reason):
        own_kernel.fitted(order(**change), root="/r")


@pytest.mark.parametrize(("taken", "code", "end"), [(64, 139, "killed"), (64, 0, "said"), (8, 139, ""), (8, 0, "")])
def test_an_end_is_judged_by_the_memory_that_was_seen_to_be_taken(taken: int, code: int, end: str) -> None:
    take = f"import os; fd = os.memfd_create('m'); os.write(fd, bytes({taken} << 20)); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", take], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holding:
        assert holding.stdout is not None
        assert holding.stdin is not None
        holding.stdout.readline()
        memory = own_kernel.Memory(holding.pid, 64 << 20)
        memory.look()
        holding.stdin.close()
        memory.watch()
    assert "".join(memory.judged(code)) == end


def test_its_last_words_are_a_sentence(tmp_path: Path) -> None:
    log = tmp_path / "panics"
    assert own_kernel.last_words(str(log)) == ""
    for said, told in (
        ("", ""),
        ("runtime: failed to create new OS thread (have 9 already; errno=11)\n", "Resource temporarily unavailable"),
        ("fatal error: runtime: out of memory\n", "out of memory"),
        ("\npanic: something\n\ngoroutine 1\n", "ended: panic: something"),
    ):
        log.write_text(said)
        assert told in own_kernel.last_words(str(log))
        assert bool(own_kernel.last_words(str(log))) is bool(said)
    assert os.sep not in own_kernel.last_words(str(log))
