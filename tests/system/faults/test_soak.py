"""A gateway under mixed work that goes on: what it holds does not grow for ever, and nothing is lost meanwhile."""

import os

from tests.fakes.sandboxed import reachable
from tests.system.faults.deaths import Figures, Life
from tests.system.faults.soak import slope, soak

LONG = bool(os.environ.get("CARREL_TEST_LONG"))


def test_what_is_held_does_not_grow() -> None:
    with reachable() as home:
        life = Life(home, "soak", Figures("soak"), faulty=False)
        try:
            life.start()
            found = soak(life, 600.0 if LONG else 5.0, "soak")
        finally:
            life.close()
    assert not found.problems
    assert found.done > 0
    assert not found.left
    if LONG:
        assert not found.grown, found


def test_a_slope_is_that_of_the_line() -> None:
    assert abs(slope([(x, 3 * x + 1) for x in range(9)]) - 3) < 1e-9
    assert slope([(1, 5), (1, 5)]) == 0
