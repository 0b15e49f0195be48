"""Patience: tried again what may succeed, never what will not; and a lost answer is told from another's write."""

from collections.abc import Callable
from pathlib import Path

import pytest

from carrel.objects.directory import DirectoryStore
from carrel.objects.pace import Cancelled, Pace
from carrel.objects.protocol import ObjectChanged, StoreRefused, StoreUnavailable
from carrel.objects.retry import Patience, PatientStore

QUICK = Patience(attempts=3, first=0.0, most=0.0)


class Failing(DirectoryStore):
    """Does ``after`` a write, or ``before`` it, as often as ``times`` says."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.tries = 0

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        self.tries += 1
        self.before()
        tag = super().put(key, data, replaces=replaces, absent=absent)
        self.after()
        return tag


def failing(*errors: Exception | None) -> Callable[[], None]:
    left = list(errors)

    def fail() -> None:
        error = left.pop(0) if left else None
        if error is not None:
            raise error

    return fail


def test_tried_again_until_it_works(tmp_path: Path) -> None:
    inner = Failing(tmp_path)
    inner.before = failing(StoreUnavailable("x"), StoreUnavailable("x"))
    PatientStore(inner, pace=Pace(), patience=QUICK).put("a/b", b"1")
    assert inner.tries == 3


def test_given_up_after_so_many_tries(tmp_path: Path) -> None:
    inner = Failing(tmp_path)
    inner.before = failing(*[StoreUnavailable("x")] * 9)
    with pytest.raises(StoreUnavailable):
        PatientStore(inner, pace=Pace(), patience=QUICK).put("a/b", b"1")
    assert inner.tries == 3


def test_what_is_refused_is_not_tried_again(tmp_path: Path) -> None:
    inner = Failing(tmp_path)
    inner.before = failing(StoreRefused("x"))
    with pytest.raises(StoreRefused):
        PatientStore(inner, pace=Pace(), patience=QUICK).put("a/b", b"1")
    assert inner.tries == 1


def test_a_lost_answer_to_a_conditional_write(tmp_path: Path) -> None:
    inner = Failing(tmp_path)
    inner.after = failing(StoreUnavailable("lost"))
    store = PatientStore(inner, pace=Pace(), patience=QUICK)
    tag = store.put("a/head", b"mine", absent=True)
    assert store.get("a/head", most=10) == (b"mine", tag)
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"other", absent=True)
    # Another's write while the answer was lost is another's.
    inner.before = failing(StoreUnavailable("lost"))
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"other", absent=True)


def test_who_waits_to_try_again_can_be_stopped(tmp_path: Path) -> None:
    inner, pace = Failing(tmp_path), Pace()

    def stopped() -> None:
        pace.stop()
        raise StoreUnavailable("x")

    inner.before = stopped
    with pytest.raises(Cancelled):
        PatientStore(inner, pace=pace, patience=Patience(first=1000, most=1000)).put("a/b", b"1")
    assert inner.tries == 1


def test_the_wait_grows_and_is_bounded() -> None:
    class State:
        attempt_number = 1

    patience, state = Patience(first=1.0, most=4.0), State()
    waits = []
    for state.attempt_number in range(1, 6):
        waits.append(patience.wait(state))  # type: ignore[arg-type] # all that is asked of it
    assert all(half <= wait <= 2 * half for wait, half in zip(waits, (0.5, 1, 2, 2, 2), strict=True))


def test_the_rest_goes_through(tmp_path: Path) -> None:
    store = PatientStore(DirectoryStore(tmp_path), pace=Pace(), patience=QUICK)
    store.put("a/b/c", b"1")
    assert [one.key for one in store.list("a/")] == ["a/b/c"]
    assert list(store.folders()) == ["a"]
    store.delete(["a/b/c"])
    assert list(store.list("a/")) == []
    assert store.conditional
    store.close()
