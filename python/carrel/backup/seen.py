"""Which names came out of an archive, and with what: 16 bytes for each, however many and long they are.

A name and what it came with are told by keyed hashes of 64 bits. The key is random and never leaves this process, so
that nobody can make two that are one here. Pure.
"""

import hashlib
import os
from array import array
from typing import Final

_SMALLEST: Final = 1 << 10


class Seen:
    """A table of what came; `take` each once, and ``left`` says how many nobody took."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._names, self._whats = _table(_SMALLEST), _table(_SMALLEST)
        self._count = 0
        self.left = 0

    def __len__(self) -> int:
        """How many came."""
        return self._count

    def add(self, name: str, what: object) -> bool:
        """Note that ``name`` came with ``what``; False where it came before."""
        told = self._told(name)
        at = self._place(told)
        if self._names[at]:
            return False
        self._names[at], self._whats[at] = told, self._told(what)
        self._count += 1
        self.left += 1
        if 2 * self._count > len(self._names):
            self._grow()
        return True

    def has(self, name: str) -> bool:
        """Whether ``name`` came."""
        return bool(self._names[self._place(self._told(name))])

    def take(self, name: str, what: object) -> bool:
        """Whether ``name`` came with ``what`` and was not taken yet."""
        at = self._place(self._told(name))
        if not self._names[at] or self._whats[at] != self._told(what):
            return False
        self._whats[at] = 0
        self.left -= 1
        return True

    def _told(self, what: object) -> int:
        """Never 0, which is nothing."""
        data = (what if isinstance(what, str) else repr(what)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(data, key=self._key, digest_size=8).digest()) or 1

    def _place(self, told: int) -> int:
        last = len(self._names) - 1
        at = told & last
        while self._names[at] not in (0, told):
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        names, whats = self._names, self._whats
        self._names, self._whats = _table(2 * len(names)), _table(2 * len(names))
        for told, what in zip(names, whats, strict=True):
            if told:
                at = self._place(told)
                self._names[at], self._whats[at] = told, what


def _table(size: int) -> "array[int]":
    return array("Q", bytes(8 * size))
