import re
import subprocess
from pathlib import Path

import pytest

from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound
from carrel.vcs.keys import Keys, parse_key, read_key_file
from tests.fakes.repositories import keypair


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "authorized_keys", program="/opt/it's here/carrel", state=tmp_path / "state")


def public(path: Path) -> str:
    return keypair(path).with_suffix(".pub").read_text()


def test_a_key_is_let_in_listed_and_taken_away(keys: Keys, tmp_path: Path) -> None:
    assert keys.list() == ()
    key = parse_key(public(tmp_path / "a"), "alice")
    keys.authorize(key)
    keys.authorize(key)
    assert keys.list() == (key,)
    told = subprocess.run(["ssh-keygen", "-lf", f"{tmp_path / 'a'}.pub"], check=True, capture_output=True, text=True)
    assert key.fingerprint in told.stdout
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert keys.revoke("alice") == 1
    assert keys.list() == ()
    with pytest.raises(NotFound):
        keys.revoke("alice")


def test_the_line_gives_one_command_and_no_more(keys: Keys, tmp_path: Path) -> None:
    keys.authorize(parse_key(public(tmp_path / "a"), "alice"))
    (line,) = keys.path.read_text().splitlines()
    assert line.startswith('restrict,command="')
    assert re.search(r"git serve alice --state-dir \S+\" ssh-ed25519 \S+ alice$", line)


def test_one_of_two_keys_of_a_name(keys: Keys, tmp_path: Path) -> None:
    one, two = (parse_key(public(tmp_path / name), "alice") for name in "ab")
    keys.authorize(one)
    keys.authorize(two)
    assert keys.revoke("alice", one.fingerprint) == 1
    assert keys.list() == (two,)


def test_a_key_is_one_persons(keys: Keys, tmp_path: Path) -> None:
    text = public(tmp_path / "a")
    keys.authorize(parse_key(text, "alice"))
    with pytest.raises(Conflict, match="alice's already"):
        keys.authorize(parse_key(text, "bob"))


def test_lines_are_written_again_for_a_program_elsewhere(keys: Keys, tmp_path: Path) -> None:
    keys.authorize(parse_key(public(tmp_path / "a"), "alice"))
    Keys(keys.path, program="/new/carrel", state=tmp_path).renew()
    assert 'command="/new/carrel git serve' in keys.path.read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: "", "there are 0"),
        (lambda text: text + text, "there are 2"),
        (lambda text: 'command="sh" ' + text, "options are not taken"),
        (lambda text: text.replace("AAAA", "A*AA"), "damaged"),
        (lambda text: text[:40], "damaged"),
        (lambda text: text.replace("ssh-ed25519", "ecdsa-sha2-nistp256", 1), "another type"),
        (lambda text: "-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
    ],
)
def test_what_is_no_public_key_is_said_to_be_none(tmp_path: Path, change: object, told: str) -> None:
    assert callable(change)
    with pytest.raises(InvalidRequest, match=told):
        parse_key(change(public(tmp_path / "a")), "alice")


@pytest.mark.parametrize("name", ["", "Alice", 'a" ssh', "a b", "-x", "a\nb"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="no name for a key"):
        parse_key(public(tmp_path / "a"), name)


def test_a_short_rsa_key_is_not_taken(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(tmp_path / "r")], check=True)
    with pytest.raises(InvalidRequest, match="2048 bits"):
        parse_key(read_key_file(tmp_path / "r.pub"), "alice")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(CarrelError, match=r"no\.pub cannot be read"):
        read_key_file(tmp_path / "no.pub")
