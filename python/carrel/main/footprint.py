"""Keeps memory small: threads share it, and what only the start needed of programs and libraries is given back."""

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

GC_YOUNG: Final = 10_000
"""New objects before cycles are looked for: a call makes hundreds, and hardly one of them is in a cycle."""
SWITCH_SECONDS: Final = 0.0002
"""How long a thread that computes keeps the loop from the interpreter: a piece of a stream takes it several times.

A thread that lets go of it more often than this, if only for a look at a file, has it again before another is awake.
"""
_MADV_DONTNEED: Final = 4
_M_ARENA_MAX: Final = -8
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
LARGE: Final = 1 << 20
"""Bytes from which on a block of memory is mapped by itself, and given back whole."""
_HEAD: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+)")


def share_one_arena() -> bool:
    """Have all threads take memory from one place; False where the C library knows no such thing (musl).

    Called before there is a second thread. Else each of them gets a region of its own, of which what one of them once
    needed is never used by the others; the interpreter's lock keeps them from waiting for each other here.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    return setting is not None and setting(_M_ARENA_MAX, 1) == 1


def keep_large_apart() -> bool:
    """Have the C library map each block of `LARGE` bytes by itself, for good; False where it knows no such thing.

    Else it maps none any more that is as large as one that was given back once, and a table that is made anew from time
    to time, as that of interned strings is, leaves a hole of its size among all that is small.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    # What is free at the heap's end may stay there up to so much: each body of a request would move the end otherwise.
    return setting is not None and setting(_M_MMAP_THRESHOLD, LARGE) == 1 and setting(_M_TRIM_THRESHOLD, 2 * LARGE) == 1


def expect_to_keep() -> None:
    """Called before the gateway is imported: what a start makes stays, and hardly any of it is looked at for cycles."""
    gc.set_threshold(GC_YOUNG, 10, 10)


def settle_down() -> None:
    """What a start has made stays, and is not looked through for cycles again; threads switch sooner from now on."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)


def give_back() -> int:
    """Let go of every mapped page that is still what its file holds; how many bytes of them were resident.

    Nothing is lost by it: the kernel keeps such pages in its cache, and maps one again where it is next touched. So
    what stays in memory is what a running gateway uses, not what starting one did. A mapping in which a page was
    changed (by the linker, say) is left alone, for its changes would be.
    """
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    given = 0
    for start, end, resident in list(_unchanged()):
        if libc.madvise(start, end - start, _MADV_DONTNEED) == 0:
            given += resident
    return given


def _unchanged() -> Iterator[tuple[int, int, int]]:
    """Mappings of files that cannot be written and hold no page of our own: start, end, resident bytes."""
    head: re.Match[str] | None = None
    sizes: dict[str, int] = {}
    text = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace")
    for line in [*text.splitlines(), "0-0 ---- 0 0 0"]:
        found = _HEAD.match(line)
        if found is None:
            name, _, rest = line.partition(":")
            number = rest.split()[:1]
            sizes[name] = int(number[0]) << 10 if number and number[0].isdecimal() else 0
            continue
        if head is not None and _of_a_file(head) and sizes.get("Rss", 0) and sizes.get("Anonymous") == 0:
            yield int(head[1], 16), int(head[2], 16), sizes["Rss"]
        head, sizes = found, {}


def _of_a_file(head: re.Match[str]) -> bool:
    return head[3] in ("r-xp", "r--p") and head[4] != "0"
