"""In one step into the live directory's place, and back."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from carrel.backup import swap
from carrel.errors import Conflict, NotFound
from carrel.ids import TenantId

ACME = TenantId("acme")


def laid(home: Path, text: str) -> None:
    swap.staged(home, ACME).mkdir(parents=True)
    (swap.staged(home, ACME) / "file").write_text(text)


def test_there_confirmed_and_back(tmp_path: Path) -> None:
    laid(tmp_path, "one")
    assert not swap.swap_in(tmp_path, ACME)
    assert (tmp_path / "acme/file").read_text() == "one"
    laid(tmp_path, "two")
    assert swap.swap_in(tmp_path, ACME)
    assert (tmp_path / "acme/file").read_text() == "two"
    laid(tmp_path, "three")
    with pytest.raises(Conflict):
        swap.swap_in(tmp_path, ACME)
    swap.undo(tmp_path, ACME)
    assert (tmp_path / "acme/file").read_text() == "one"
    assert swap.swap_in(tmp_path, ACME)
    swap.confirm(tmp_path, ACME)
    assert [path.name for path in tmp_path.iterdir()] == ["acme"]
    assert (tmp_path / "acme/file").read_text() == "three"
    for work in (swap.undo, swap.confirm):
        with pytest.raises(NotFound):
            work(tmp_path, ACME)


def test_directories_without_a_file_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "acme/sessions").mkdir(parents=True)
    assert swap.is_empty(tmp_path, ACME)
    assert swap.is_empty(tmp_path, TenantId("none"))
    laid(tmp_path, "one")
    assert not swap.swap_in(tmp_path, ACME)
    assert not swap.is_empty(tmp_path, ACME)


def test_what_killed_restores_left_goes_and_nothing_else(tmp_path: Path) -> None:
    for name in (".acme.restore", ".acme.before", ".other-thing.restore.x", "acme", "..restore"):
        (tmp_path / name).mkdir()
    swap.clear_staged(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".acme.before", ".other-thing.restore.x", "acme", "..restore"}
    swap.clear_staged(tmp_path / "none")


class Killed(BaseException):
    """Ends what runs at a chosen step, as a kill would: nothing tidies up after it."""


@pytest.mark.parametrize("step", range(18))
@pytest.mark.parametrize("work", ["swap_in", "undo", "confirm"])
def test_killed_at_any_step_the_tenant_is_whole_and_what_was_there_is_never_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, step: int
) -> None:
    (tmp_path / "acme/snapshots/one").mkdir(parents=True)
    (tmp_path / "acme/file").write_text("own")
    laid(tmp_path, "restored")
    if work != "swap_in":
        swap.swap_in(tmp_path, ACME)
        (tmp_path / "acme/snapshots/since").mkdir()
    left = step

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            nonlocal left
            if left <= 0:
                raise Killed
            left -= 1
            real(*args)

        return call

    with monkeypatch.context() as patch:
        for name in ("_rename", "_sync", "remove_tree"):
            patch.setattr(swap, name, counted(getattr(swap, name)))
        with contextlib.suppress(Killed):
            getattr(swap, work)(tmp_path, ACME)
    swap.clear_staged(tmp_path)
    made = {"one"} if work == "swap_in" else {"one", "since"}
    assert {path.name for path in (tmp_path / "acme/snapshots").iterdir()} == made
    assert swap.snapshots(tmp_path, ACME) == len(made)
    found = {path.name: (path / "file").read_text() for path in tmp_path.iterdir()}
    own, both = {"acme": "own"}, {"acme": "restored", ".acme.before": "own"}
    outcomes = {"swap_in": (own, both), "undo": (both, own), "confirm": (both, {"acme": "restored"})}[work]
    assert found in outcomes
    if step == 0:
        assert found == outcomes[0]
    if step == 17:
        assert found == outcomes[1]


def test_what_cannot_be_taken_away_is_told_and_the_rest_is(tmp_path: Path) -> None:
    (tmp_path / ".acme.restore").write_text("no directory")
    (tmp_path / ".beta.restore").mkdir()
    (tmp_path / ".beta.restore/half").write_text("half")
    [told] = swap.clear_staged(tmp_path)
    assert (str(tmp_path / ".acme.restore") in told, "by hand" in told) == (True, True)
    assert [path.name for path in tmp_path.iterdir()] == [".acme.restore"]


def test_what_cannot_go_on_holds_no_start_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".acme.before/snapshots/one", ".gone.before/snapshots/two", "acme"):
        (tmp_path / name).mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        [told] = swap.clear_staged(tmp_path)
    assert (".acme.before" in told, "next start" in told, "by hand" in told) == (True, True, False)
    assert swap.clear_staged(tmp_path) == []
    assert (tmp_path / "acme/snapshots/one").is_dir()
    # There is nothing for it to go on in, until it is undone.
    assert (tmp_path / ".gone.before/snapshots/two").is_dir()
    assert not (tmp_path / "gone").exists()


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
