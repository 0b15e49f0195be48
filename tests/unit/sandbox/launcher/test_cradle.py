"""The cradle of a container: who is told what, and that nothing outlives its end. Runs are in tests/contract."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from carrel.sandbox.launcher import cradle


def test_the_workspace_is_found_again_by_what_it_is() -> None:
    with tempfile.TemporaryDirectory() as made:
        fd = os.open(made, os.O_PATH | os.O_DIRECTORY)
        try:
            again = cradle._again(fd)
            assert os.path.samestat(os.fstat(fd), os.fstat(again))
            os.close(again)
            moved = Path(made, "moved")
            moved.mkdir()
            held = os.open(moved, os.O_PATH | os.O_DIRECTORY)
            moved.rmdir()
            with pytest.raises(OSError, match="No such file"):
                cradle._again(held)
            os.close(held)
        finally:
            os.close(fd)


def test_ends_are_kept_for_whoever_asks_later() -> None:
    ended: dict[int, int] = {}
    first, second = os.posix_spawn("/bin/true", ["true"], {}), os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], {})
    assert cradle._wait(second, ended) == 3
    assert cradle._wait(first, ended) == 0
    killed = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -9 $$"], {})
    assert (cradle._wait(killed, ended), ended) == (-9, {})


def test_the_bundle_is_beneath_what_hides_the_place() -> None:
    for path in (cradle.BUNDLE, cradle.ROOT, cradle.STATE, cradle.LOG):
        assert path.startswith(cradle.PLACE + "/")
    assert json.loads(json.dumps({"root": cradle.ROOT}))["root"] == f"{cradle.BUNDLE}/root"
