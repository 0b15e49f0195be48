"""The key that signs: made once, private, or given by systemd."""

import errno
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from carrel.audit.keys import NAME, PUBLIC, SigningKeyUnusable, open_signer, publish, trusted_keys


def test_it_is_made_once_and_is_the_gateways_alone(tmp_path: Path) -> None:
    first, made = open_signer(tmp_path, None)
    again, anew = open_signer(tmp_path, None)
    assert (made, anew, first.id) == (True, False, again.id)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    publish(tmp_path, again)
    assert list(trusted_keys([tmp_path / PUBLIC])) == [first.id]


def test_a_disk_that_is_full_leaves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, *_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        disk.setattr(os, "fsync", full)
        with pytest.raises(SigningKeyUnusable, match="No space left on device"):
            open_signer(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert open_signer(tmp_path)[1], "made once there is room"


def test_a_place_of_secrets_that_is_none_holds_up_no_start(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("a file")
    assert open_signer(tmp_path, tmp_path / "secrets")[1]


def test_a_credential_comes_first_and_nothing_is_made(tmp_path: Path) -> None:
    given, state = tmp_path / "credentials", tmp_path / "state"
    given.mkdir()
    state.mkdir()
    theirs, _ = open_signer(given, None)
    (given / NAME).chmod(0o440)
    signer, made = open_signer(state, given)
    publish(state, signer)
    assert (signer.id, made) == (theirs.id, False)
    assert sorted(path.name for path in state.iterdir()) == [PUBLIC]


def test_a_file_among_the_secrets_comes_before_the_gateways_own(tmp_path: Path) -> None:
    credentials, secrets, state = (tmp_path / name for name in ("credentials", "secrets", "state"))
    for place in (credentials, secrets, state):
        place.mkdir()
    own, _ = open_signer(state)
    theirs, _ = open_signer(secrets)
    assert open_signer(state, credentials, secrets)[0].id == theirs.id != own.id
    first, _ = open_signer(credentials)
    assert open_signer(state, credentials, secrets)[0].id == first.id
    assert open_signer(state, None, None)[0].id == own.id


def test_a_key_in_another_form_signs_as_well(tmp_path: Path) -> None:
    first, _ = open_signer(tmp_path, None)
    written = (tmp_path / NAME).read_text()
    (tmp_path / NAME).write_text("Of the record of house one\n" + written)
    again, _ = open_signer(tmp_path, None)
    assert again.id == first.id


def test_one_that_others_may_read_is_refused(tmp_path: Path) -> None:
    open_signer(tmp_path, None)
    (tmp_path / NAME).chmod(0o640)
    with pytest.raises(SigningKeyUnusable, match="chmod 600"):
        open_signer(tmp_path, None)


def test_what_is_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("hello")
    (tmp_path / NAME).chmod(0o600)
    with pytest.raises(SigningKeyUnusable, match="openssl genpkey -algorithm ed25519"):
        open_signer(tmp_path, None)
    other = X25519PrivateKey.generate()
    (tmp_path / NAME).write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SigningKeyUnusable, match="not one of Ed25519"):
        open_signer(tmp_path, None)
    (tmp_path / "pub").write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SigningKeyUnusable, match="not one of Ed25519"):
        trusted_keys([tmp_path / "pub"])
    with pytest.raises(SigningKeyUnusable, match="cannot be read"):
        trusted_keys([tmp_path / "none"])
