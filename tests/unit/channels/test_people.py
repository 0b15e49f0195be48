from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from carrel.channels import people
from carrel.channels.inbound import Chat, Inbound
from carrel.errors import NotFound
from carrel.store.sqlite import open_database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def kept(tmp_path: Path) -> apsw.Connection:
    return open_database(tmp_path / "x.sqlite", schema=people.upgrade)


def ask(kept: apsw.Connection, sender: str, *, channel: str = "t", now: datetime = NOW) -> people.Asking | None:
    message = Inbound(number=1, chat=Chat(id=sender, kind="direct"), sender=sender, name="Ada")
    return people.ask(kept, channel, f"{channel}/main", message, now=now)


def test_a_code_lets_its_own_sender_in_and_is_used_up(kept: apsw.Connection) -> None:
    asking = ask(kept, "42")
    assert asking is not None
    assert (len(asking.code), set(asking.code) <= set(people.ALPHABET)) == (8, True)
    assert asking.code in asking.told
    said = f" {asking.code[:4]}-{asking.code[4:]} ".lower()
    assert people.decide(kept, "t", said, approve=True, by="ops", now=NOW).sender == "42"
    assert people.is_paired(kept, "t", "42")
    assert not people.is_paired(kept, "other", "42")
    assert [(one.sender, one.by) for one in people.paired(kept, "t")] == [("42", "ops")]
    with pytest.raises(NotFound):
        people.decide(kept, "t", asking.code, approve=True, by="ops", now=NOW)
    people.remove(kept, "t", "42")
    assert not people.is_paired(kept, "t", "42")
    with pytest.raises(NotFound):
        people.remove(kept, "t", "42")


def test_three_wait_at_most_each_once_and_for_an_hour(kept: apsw.Connection) -> None:
    made = [ask(kept, str(n)) for n in (1, 1, 2, 3, 4)]
    assert [one is not None for one in made] == [True, False, True, True, False]
    assert ask(kept, "4", channel="other") is not None
    later = NOW + timedelta(hours=1)
    assert people.pending(kept, "t", now=later) == []
    assert made[0] is not None
    with pytest.raises(NotFound):
        people.decide(kept, "t", made[0].code, approve=True, by="ops", now=later)
    again = ask(kept, "1", now=later)
    assert again is not None
    assert again.code != made[0].code


def test_who_is_rejected_may_ask_again_and_a_code_is_one_channel_s(kept: apsw.Connection) -> None:
    asking = ask(kept, "42")
    assert asking is not None
    with pytest.raises(NotFound):
        people.decide(kept, "other", asking.code, approve=True, by="ops", now=NOW)
    people.decide(kept, "t", asking.code, approve=False, by="ops", now=NOW)
    assert not people.is_paired(kept, "t", "42")
    assert ask(kept, "42") is not None
    people.forget(kept, "t")
    assert people.pending(kept, "t", now=NOW) == []
