"""When it may be done."""

import pytest

from carrel.backup.progress import Progress


def test_an_estimate_by_the_pace_so_far() -> None:
    now = [0.0]
    progress = Progress(total=1000, now=lambda: now[0])
    assert progress.eta is None
    now[0] = 0.5
    progress.done = 100
    assert progress.eta is None
    now[0] = 10.0
    assert progress.eta == pytest.approx(90)
    progress.done = 2000
    assert progress.eta == 0


def test_what_waits_to_be_sent_is_not_done() -> None:
    now = [0.0]
    progress = Progress(total=1000, now=lambda: now[0])
    now[0], progress.done, progress.flying = 10.0, 900, 400
    assert progress.settled == 500
    assert progress.eta == pytest.approx(10)


def test_each_phase_has_its_own_pace() -> None:
    now = [0.0]
    progress = Progress(total=1000, now=lambda: now[0])
    now[0], progress.done = 100.0, 1000
    progress.begin("sending", 300)
    assert (progress.phase, progress.total, progress.done, progress.eta) == ("sending", 300, 0, None)
    now[0], progress.done = 110.0, 100
    assert progress.eta == pytest.approx(20)
