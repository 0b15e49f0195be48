from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from carrel.channels import book, people
from carrel.channels.inbound import Batch, Chat, Inbound
from carrel.store.sqlite import open_database
from tests.fakes.channels import telegram

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLACE = "t/main@99"
OPEN = telegram(dm_policy="open")


@pytest.fixture
def kept(tmp_path: Path) -> apsw.Connection:
    return open_database(tmp_path / "x.sqlite", schema=book.upgrade)


def said(number: int, *, sender: str = "42", **more: Any) -> Inbound:
    return Inbound(number=number, chat=Chat(id=sender, kind="direct"), sender=sender, text=f"m{number}", **more)


def take(kept: apsw.Connection, *messages: Inbound, channel: Any = OPEN, now: datetime = NOW) -> book.Taken:
    following = max(one.number for one in messages) + 1
    found = Batch(messages=messages, following=following)
    return book.take_in(kept, "t/main", PLACE, channel, found, now=now)


def test_a_message_is_kept_once_and_answered_step_by_step(kept: apsw.Connection) -> None:
    assert take(kept, said(1), said(2)).chats == {"dm/42"}
    assert take(kept, said(1), said(2)).chats == frozenset()
    assert book.following(kept, PLACE) == 3
    first = book.begin(kept, PLACE, "dm/42", now=NOW)
    assert first is not None
    assert (first.message.number, first.again, first.answer) == (1, False, None)
    again = book.begin(kept, PLACE, "dm/42", now=NOW)
    assert again is not None
    assert (again.message.number, again.again) == (1, True)
    book.answered(kept, PLACE, 1, "yes")
    book.sent(kept, PLACE, 1, 1)
    told = book.begin(kept, PLACE, "dm/42", now=NOW)
    assert told is not None
    assert (told.answer, told.sent) == ("yes", 1)
    book.finish(kept, "t/main", PLACE, 1, last_outbound=NOW)
    following = book.begin(kept, PLACE, "dm/42", now=NOW)
    assert following is not None
    assert following.message.number == 2
    assert take(kept, said(1)).chats == frozenset(), "what is done is known too"
    standing = book.standing(kept, "t/main")
    assert (standing.last_inbound, standing.last_outbound) == (NOW, NOW)


def test_what_is_said_stays_nowhere_once_it_is_answered(kept: apsw.Connection) -> None:
    take(kept, said(1))
    book.answered(kept, PLACE, 1, "an answer")
    book.finish(kept, "t/main", PLACE, 1)
    assert kept.execute("SELECT body, answer FROM inbox").fetchall() == [("", None)]


def test_a_stranger_gets_a_code_by_the_same_way_and_no_agent(kept: apsw.Connection) -> None:
    taken = take(kept, said(1), said(2), channel=telegram())
    assert [one.sender for one in taken.asked] == ["42"]
    told = book.begin(kept, PLACE, "dm/42", now=NOW)
    assert told is not None
    assert told.answer == taken.asked[0].told
    book.finish(kept, "t/main", PLACE, 1)
    assert book.begin(kept, PLACE, "dm/42", now=NOW) is None
    people.decide(kept, "t", taken.asked[0].code, approve=True, by="ops", now=NOW)
    take(kept, said(3), channel=telegram())
    admitted = book.begin(kept, PLACE, "dm/42", now=NOW)
    assert admitted is not None
    assert admitted.answer is None


def test_nobody_fills_the_inbox(kept: apsw.Connection) -> None:
    take(kept, *(said(number) for number in range(1, 40)))
    assert book.waiting(kept, PLACE) == book.MOST_OF_CHAT + 1
    last = kept.execute("SELECT answer FROM inbox WHERE number = 21").fetchall()
    assert "wait already" in str(last[0][0])
    assert take(kept, said(100, sender="43")).chats == {"dm/43"}


def test_what_waits_too_long_is_given_up_and_what_is_no_text_is_told(kept: apsw.Connection) -> None:
    take(kept, said(1))
    later = NOW + book.LIFE + timedelta(seconds=1)
    assert book.begin(kept, PLACE, "dm/42", now=later) is None
    take(kept, said(2).model_copy(update={"text": "", "unread": "video_note"}))
    told = book.begin(kept, PLACE, "dm/42", now=NOW)
    assert told is not None
    assert told.answer == "Only text is understood here, and that was a video note."


def test_an_account_is_forgotten_and_no_other(kept: apsw.Connection) -> None:
    take(kept, said(1))
    book.take_in(kept, "t/main_2", "t/main_2@99", OPEN, Batch(messages=(said(1),), following=2), now=NOW)
    book.forget(kept, "t/main")
    assert (book.following(kept, PLACE), book.waiting(kept, PLACE)) == (None, 0)
    assert book.following(kept, "t/main_2@99") == 2
    assert book.standing(kept, "t/main").stopped
    assert book.note(kept, "t/main", stopped=False).stopped is False
    assert book.chats(kept, "t/main_2@99") == ["dm/42"]
