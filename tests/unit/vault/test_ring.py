"""Where the keys are looked for, and that another key than the right one is told from it."""

import base64
from pathlib import Path

import pytest

from carrel.secrets import MASTER_KEY
from carrel.vault.keys import MasterKeyUnusable
from carrel.vault.ring import MARKS, OWN, KeyRing

ONE, TWO = base64.b64encode(b"1" * 32).decode(), base64.b64encode(b"2" * 32).decode()


class Places:
    """A state directory and the two that an operator may give."""

    def __init__(self, tmp_path: Path) -> None:
        self.state, self.secrets, self.credentials = (tmp_path / name for name in ("state", "secrets", "credentials"))
        self.state.mkdir()

    def ring(self, *, makes: bool = True) -> KeyRing:
        return KeyRing(
            credentials_dir=self.credentials, secrets_dir=self.secrets, state_dir=self.state, makes=makes
        )  # fmt: skip

    def put(self, place: Path, text: str) -> None:
        place.mkdir(exist_ok=True)
        path = place / (OWN if place is self.state else MASTER_KEY)
        path.write_text(text + "\n")
        path.chmod(0o600)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def test_a_credential_goes_before_the_secrets_directory_and_that_before_the_gateways_own(places: Places) -> None:
    ring = places.ring()
    for place, text, version in ((places.state, f"1 {ONE}", 1), (places.secrets, f"2 {TWO}", 2),
                                 (places.credentials, f"3 {ONE}", 3)):  # fmt: skip
        places.put(place, text)
        assert ring.current().newest == version
        assert Path(ring.source() or "").parent == place


def test_one_is_made_when_something_is_to_be_sealed_and_not_before(places: Places) -> None:
    ring = places.ring()
    assert ring.source() is None
    with pytest.raises(MasterKeyUnusable, match="no master key"):
        ring.current()
    assert list(places.state.iterdir()) == []
    assert ring.current(to_seal=True).of(1) == places.ring().current().of(1)
    assert {path.name for path in places.state.iterdir()} == {OWN, MARKS}


def test_none_is_made_where_the_operator_is_to_give_it(places: Places) -> None:
    with pytest.raises(MasterKeyUnusable, match="openssl rand"):
        places.ring(makes=False).current(to_seal=True)
    assert list(places.state.iterdir()) == []


def test_no_new_one_is_made_for_one_that_went_missing(places: Places) -> None:
    places.ring().current(to_seal=True)
    (places.state / OWN).unlink()
    for ask in (lambda: places.ring().current(to_seal=True), lambda: places.ring().current(), places.ring().source):
        with pytest.raises(MasterKeyUnusable, match="is gone"):
            ask()
    assert not (places.state / OWN).exists()


def test_another_key_under_the_same_version_is_told_from_the_right_one(places: Places) -> None:
    places.put(places.state, f"1 {ONE}")
    ring = places.ring()
    ring.current(to_seal=True)
    places.put(places.state, f"1 {TWO}")
    with pytest.raises(MasterKeyUnusable, match="another key"):
        places.ring().current()
    # Who had the right one goes on opening with it, and seals nothing.
    assert ring.current().of(1) == b"1" * 32
    with pytest.raises(MasterKeyUnusable, match="another key"):
        ring.current(to_seal=True)


def test_a_further_version_counts_without_a_restart(places: Places) -> None:
    places.put(places.state, f"1 {ONE}")
    ring = places.ring()
    assert ring.current(to_seal=True).newest == 1
    places.put(places.state, f"1 {ONE}\n2 {TWO}")
    assert ring.current(to_seal=True).newest == 2
    places.put(places.state, f"2 {TWO}")
    assert ring.current().newest == 2


def test_damaged_marks_are_named_with_what_mends_them(places: Places) -> None:
    places.ring().current(to_seal=True)
    for text in ("[]", "{", '{"x": 1}'):
        (places.state / MARKS).write_text(text)
        with pytest.raises(MasterKeyUnusable, match="made anew"):
            places.ring().current()
    (places.state / MARKS).unlink()
    assert places.ring().current(to_seal=True).newest == 1
