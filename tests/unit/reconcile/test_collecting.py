"""What comes in at once is left out of the search for garbage, and goes all the same when it is replaced."""

import gc
import weakref

from carrel.reconcile.collecting import many_come_in


class Held:
    """Something that a weak reference may refer to."""


def test_what_came_in_is_not_looked_at_and_goes_when_nobody_has_it() -> None:
    frozen = gc.get_freeze_count()
    try:
        with many_come_in():
            assert not gc.isenabled()
            kept = [Held() for _ in range(100)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= frozen + 100
        seen = weakref.ref(kept[0])
        del kept
        assert seen() is None
    finally:
        gc.unfreeze()


def test_where_nothing_is_collected_nothing_is_begun() -> None:
    gc.disable()
    try:
        with many_come_in():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
