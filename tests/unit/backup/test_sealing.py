"""Sealed objects: opened in their own place alone, and never larger than they say."""

import base64
import hashlib
import hmac
import json
import os
import struct
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from carrel.backup.progress import Progress
from carrel.backup.run import back_up
from carrel.backup.sealing import KEY_BYTES, Sealer
from carrel.objects.protocol import ObjectDamaged
from tests.fakes.backups import full_tenant, means, subject

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


def test_a_backup_opens_by_what_the_docs_say_alone(tmp_path: Path) -> None:
    """With nothing of the package: docs/explanation/backup.md has the format, and this follows it."""
    tenant = full_tenant(tmp_path)
    made = back_up(subject(tenant), means(tmp_path), Progress())
    tenant.root.close()
    place = tmp_path / "store/acme"
    about = json.loads((place / "repository.json").read_text())
    sealed = base64.b64decode(about["key"]["sealed"])
    magic, version = struct.unpack(">3sH", sealed[:5])
    assert (magic, version) == (b"CV1", 1)
    bound = b"\0".join((b"carrel vault", b"acme", f"/backup/{about['id']}".encode(), str(version).encode()))
    key = AESGCM(b"1" * 32).decrypt(sealed[5:17], sealed[17:], bound)
    encryption, names = (
        hmac.digest(key, f"carrel backup: {what}".encode(), "sha256") for what in ("encryption", "names")
    )

    def opened(path: Path, kind: str) -> bytes:
        data = path.read_bytes()
        magic, packed, length, nonce = struct.unpack(">3sBI12s", data[:20])
        assert magic == b"CB1"
        words = (b"carrel backup", data[:20], about["id"].encode(), kind.encode(), path.name.encode())
        content = AESGCM(encryption).decrypt(nonce, data[20:], b"\0".join(words))
        if packed:
            content = zstandard.ZstdDecompressor().decompress(content, max_output_size=length)
        assert len(content) == length
        return content

    def piece(name: str) -> bytes:
        content = opened(place / "pieces" / name[:2] / name, "piece")
        assert hmac.digest(names, content, "sha256").hex() == name
        return content

    newest = json.loads(opened(place / "head", "head"))["backups"][-1]["id"]
    assert newest == made.id
    manifest = json.loads(opened(place / "manifests" / newest, "manifest"))
    entries = [json.loads(line) for name in manifest["index"] for line in piece(name).splitlines()]
    files = [entry for entry in entries if entry["kind"] == "file"]
    assert (len(entries), len(files)) == (manifest["entries"], made.files)
    for entry in files:
        parts = [(piece(part["piece"]), part.get("offset", 0), part["length"]) for part in entry.get("parts", ())]
        content = b"".join(whole[offset : offset + length] for whole, offset, length in parts)
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["path"]
        if entry["path"].startswith("sandbox/"):
            assert content == (tmp_path / "tenants/acme" / entry["path"]).read_bytes()
