"""Keeps the interpreter's search for garbage away from many configurations that come in at once, and stay.

A search goes through all objects that it knows, with the interpreter's lock held: among those of thousands of tenants
it takes a tenth of a second, in which no stream goes on. What stays is therefore put where it does not look. Objects
there still go when nothing refers to them any more; only rings of such would stay, and configurations hold none.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def many_come_in() -> Iterator[None]:
    """While this lasts nothing is looked for; what was made meanwhile, and is there, is not looked at later."""
    collecting = gc.isenabled()
    # What is garbage among the young ones goes now: it would stay for good otherwise.
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
