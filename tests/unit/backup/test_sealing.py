"""Sealed objects: opened in their own place alone, and never larger than they say."""

import os
import struct

import pytest

from carrel.backup.sealing import KEY_BYTES, Sealer
from carrel.objects.protocol import ObjectDamaged

KEY = bytes(range(KEY_BYTES))
SEALER = Sealer(KEY, "repository-1")


@pytest.mark.parametrize("content", [b"", b"short", b"text " * 10_000, os.urandom(100_000)])
def test_what_is_sealed_opens(content: bytes) -> None:
    sealed = SEALER.seal("piece", "n", content)
    assert SEALER.open("piece", "n", sealed) == content
    assert len(sealed) <= len(content) + 64
    assert SEALER.seal("piece", "n", content) != sealed


def test_S5_04_in_another_place_it_does_not_open() -> None:
    sealed = SEALER.seal("piece", "n", b"content of it")
    others = [
        (SEALER, "manifest", "n"), (SEALER, "piece", "m"), (Sealer(KEY, "repository-2"), "piece", "n"),
        (Sealer(bytes(KEY_BYTES), "repository-1"), "piece", "n"),
    ]  # fmt: skip
    for sealer, kind, name in others:
        with pytest.raises(ObjectDamaged):
            sealer.open(kind, name, sealed)


def test_S5_04_one_that_was_changed_anywhere_does_not_open() -> None:
    sealed = SEALER.seal("piece", "n", b"content of it" * 20)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(ObjectDamaged):
            SEALER.open("piece", "n", bytes(changed))
    for length in range(0, len(sealed), 7):
        with pytest.raises(ObjectDamaged):
            SEALER.open("piece", "n", sealed[:length])


def test_S9_01_who_has_the_key_cannot_make_it_unpack_to_more_than_it_says() -> None:
    import zstandard  # noqa: PLC0415 - as where it is used

    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    head = struct.pack(">3sBI12s", b"CB1", 1, 1000, b"n" * 12)
    sealed = head + SEALER._cipher.encrypt(b"n" * 12, bomb, SEALER._bound(head, "piece", "n"))
    with pytest.raises(ObjectDamaged):
        SEALER.open("piece", "n", sealed)


def test_names_are_the_contents_and_the_keys() -> None:
    assert SEALER.name(b"a") == SEALER.name(b"a") != SEALER.name(b"b")
    assert Sealer(bytes(KEY_BYTES), "repository-1").name(b"a") != SEALER.name(b"a")
