"""What an evaluation may read is in the store by its hash, once for each state of it, by the real Nix."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from carrel.packages.farm import remove
from carrel.packages.inputs import Input, Inputs, fixed
from carrel.packages.nix_program import Caches, Limits, Lines, NixProgram
from carrel.packages.protocol import PackageError
from carrel.processes import Completed


class Counted(NixProgram):
    """Counts what is asked of Nix."""

    asked = 0

    async def build(self, command: Sequence[str], lines: Lines) -> Completed:
        self.asked += 1
        return await super().build(command, lines)


def made(state: Path) -> tuple[Inputs, Counted]:
    (state / "home" / "tmp").mkdir(parents=True, exist_ok=True)
    nix = Counted(str(state / "nix"), state / "home", Caches(), Limits())
    return Inputs(nix, state / "inputs", str(state / "nix")), nix


async def test_a_directory_is_added_once_for_each_state_of_it(tmp_path: Path) -> None:
    source, state = tmp_path / "some-source", tmp_path / "state"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_text("one")
    (source / "link").symlink_to("deep/file")
    inputs, nix = made(state)
    lines = Lines(print)
    (first,) = await inputs.given([source], lines)
    assert first.name == "some-source"
    assert Path(f"{state}/nix{first.stored}/deep/file").read_text() == "one"
    asked = nix.asked
    assert await inputs.given([source], lines) == [first]
    assert nix.asked == asked, "neither read nor added again"

    (source / "deep" / "file").write_text("two!")
    (second,) = await inputs.given([source], lines)
    assert (second.sha256 != first.sha256, second.stored != first.stored) == (True, True)
    assert Path(f"{state}/nix{second.stored}/link").read_text() == "two!"

    # A root holds the one that is in use, and none the one before.
    assert (await nix.build(["nix-store", "--gc"], lines)).returncode == 0
    assert [Path(f"{state}/nix{one.stored}").exists() for one in (first, second)] == [False, True]
    remove(Path(f"{state}/nix{second.stored}"))
    (state / "inputs").chmod(0o700)
    with pytest.raises(PackageError):
        await inputs.given([tmp_path / "none"], lines)
    for path in state.iterdir():
        remove(path)


def test_a_store_path_is_what_nix_makes_of_it() -> None:
    # By `nix-store --add-fixed --recursive sha256` of a directory whose one file, `f`, holds "hi" and a line's end.
    digest = "sha256:1jpg5v8rcf4d08rlpq51vnd1w800l64h34r0bw4vkb6z3qlk089k"
    assert fixed("data", digest) == "/nix/store/bmqzk764v2ippsmzzgddffks3h7h8qq3-data"
    assert fixed("other", digest) != fixed("data", digest)
    assert fixed("data", "error: no such path") != fixed("data", digest)
    assert Input(path="/x", stamp="", name="data", sha256=digest).stored.endswith("-data")
    assert os.sep not in fixed("data", "").removeprefix("/nix/store/")
