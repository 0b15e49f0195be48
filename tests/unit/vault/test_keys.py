"""Where the master key comes from, and what is no key."""

import base64
import os
import threading
from pathlib import Path

import pytest

from carrel.vault.keys import CREDENTIAL, OWN, MasterKeys, MasterKeyUnusable, load

ONE, TWO = base64.b64encode(b"1" * 32).decode(), base64.b64encode(b"2" * 32).decode()


def loaded(tmp_path: Path, **places: Path) -> MasterKeys:
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    return load(**{"credentials_dir": None, "secrets_dir": None, "state_dir": state, **places})  # type: ignore[arg-type]


def test_a_credential_goes_before_the_secrets_directory_and_that_before_the_gateways_own(tmp_path: Path) -> None:
    own = loaded(tmp_path)
    assert own.source.endswith(OWN)
    for name, text in (("secrets", ONE), ("credentials", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / CREDENTIAL).write_text(text + "\n")
    secrets, credentials = tmp_path / "secrets", tmp_path / "credentials"
    assert loaded(tmp_path, secrets_dir=secrets).of(1) == b"1" * 32
    assert loaded(tmp_path, secrets_dir=secrets, credentials_dir=credentials).of(1) == b"2" * 32
    assert loaded(tmp_path).of(1) == own.of(1)


def test_the_gateways_own_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(loaded(tmp_path).of(1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    path = tmp_path / "state" / OWN
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [OWN]
    path.chmod(0o640)
    with pytest.raises(MasterKeyUnusable, match="chmod 600"):
        loaded(tmp_path)


def test_versions_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_text(f"1 {ONE}\n\n3 {TWO}\n")
    keys = loaded(tmp_path, secrets_dir=tmp_path)
    assert (keys.newest, keys.of(1), keys.of(3)) == (3, b"1" * 32, b"2" * 32)
    with pytest.raises(MasterKeyUnusable, match="put it back"):
        keys.of(2)
    assert ONE not in repr(keys)


@pytest.mark.parametrize(
    "text",
    ["", "short", f"x {ONE}", f"0 {ONE}", f"1 {ONE}\n1 {TWO}", f"1 {ONE} more", base64.b64encode(b"x" * 31).decode(),
     f"{ONE}\n{TWO}"],
)  # fmt: skip
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    (tmp_path / CREDENTIAL).write_text(text)
    with pytest.raises(MasterKeyUnusable) as refused:
        loaded(tmp_path, secrets_dir=tmp_path)
    assert ONE not in refused.value.message


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.mkfifo(state / OWN)
    with pytest.raises(MasterKeyUnusable):
        loaded(tmp_path)
