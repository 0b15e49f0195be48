"""Signed ends: what is signed, by whom, and what another program makes of it."""

import base64
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from carrel.audit.chain import Head
from carrel.audit.heads import SignedHead, Signer, key_id, public_pem

SEED = bytes(range(32))


def signer() -> Signer:
    return Signer(lambda: Ed25519PrivateKey.from_private_bytes(SEED))


def test_what_was_signed_is_believed_and_nothing_else() -> None:
    ours = signer()
    end = ours.sign("2026-03-01", Head("a" * 64, 7))
    assert end.problem({ours.id: ours.public}) is None
    for edited in (replace(end, number=6), replace(end, day="2026-03-02"), replace(end, hash="b" * 64)):
        assert edited.problem({ours.id: ours.public}) == "its signature does not match: it was edited"
    assert "not match" in str(replace(end, signature="!").problem({ours.id: ours.public}))
    assert "none of those trusted" in str(end.problem({}))


def test_a_line_comes_back_and_what_is_none_does_not() -> None:
    end = signer().sign("2026-03-01", Head("a" * 64, 7))
    assert SignedHead.parse(end.line()) == end
    for bad in (b"", b"[]", b"{}", b'{"day":1}', b"[" * 100_000):
        assert SignedHead.parse(bad) is None


def test_the_documented_text_verifies_with_openssl(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("this compares with openssl")
    ours = signer()
    end = ours.sign("2026-03-01", Head("a" * 64, 7))
    (tmp_path / "key").write_text(public_pem(ours.public))
    (tmp_path / "text").write_text(f"carrel audit head 1\n2026-03-01\n7\n{'a' * 64}\n")
    (tmp_path / "signature").write_bytes(base64.b64decode(end.signature))
    words = "pkeyutl -verify -pubin -inkey key -rawin -in text -sigfile signature"
    done = subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "Success" in done.stdout, done.stderr
    assert key_id(ours.public) == ours.id == end.key
