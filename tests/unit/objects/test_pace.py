"""A bound on bytes a second, and an end to all waiting."""

import threading

import pytest

from carrel.objects.pace import Cancelled, Pace


def test_what_is_over_the_bound_waits_its_turn() -> None:
    now = [100.0]

    class Waited(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            now[0] += timeout or 0
            return False

    pace = Pace(1000, now=lambda: now[0], stop=Waited())
    pace.spend(500)
    assert now[0] == 100.0
    pace.spend(2000)
    assert now[0] == pytest.approx(100.5)
    pace.spend(1)
    assert now[0] == pytest.approx(102.5)


def test_without_a_bound_nothing_waits() -> None:
    Pace().spend(1 << 40)


def test_who_is_stopped_ends() -> None:
    pace = Pace(1)
    pace.spend(10**9)
    ended = []

    def wait() -> None:
        with pytest.raises(Cancelled):
            pace.spend(1)
        ended.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    pace.stop()
    waiting.join(60)
    assert ended
    for work in (pace.check, lambda: pace.sleep(0), lambda: pace.spend(0)):
        with pytest.raises(Cancelled):
            work()
