from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.channels.protocol import Identity
from carrel.channels.telegram_wire import MOST, batch, inbound, pieces

ME = Identity("99", "Carrel_Bot")
ADA = {"id": 42, "is_bot": False, "first_name": "Ada\n", "last_name": "L\u202e."}


def update(text: str = "hello", *, kind: str = "private", **more: Any) -> dict[str, Any]:
    message = {"message_id": 5, "from": ADA, "chat": {"id": -7 if kind != "private" else 42, "type": kind}, "date": 1}
    return {"update_id": 10, "message": {**message, **({"text": text} if text else {}), **more}}


def entity(text: str, part: str, kind: str, **more: Any) -> dict[str, Any]:
    """As Telegram counts: in UTF-16 code units."""
    before = text[: text.index(part)]
    return {"type": kind, "offset": len(before.encode("utf-16-le")) // 2, "length": len(part), **more}


def test_a_direct_message() -> None:
    found = inbound(update(), ME)
    assert found is not None
    assert (found.number, found.sender, found.text, found.message) == (10, "42", "hello", "5")
    assert (found.name, found.chat.key, found.addressed) == ("Ada L.", "dm/42", True)


@pytest.mark.parametrize(
    ("text", "more", "addressed"),
    [
        ("hello all", {}, False),
        ("\U0001f600 hi @carrel_bot!", {"entities": "mention:@carrel_bot"}, True),
        ("hi @carrel_bot_2", {"entities": "mention:@carrel_bot_2"}, False),
        ("/new@Carrel_Bot", {"entities": "bot_command:/new@Carrel_Bot"}, True),
        ("/new", {"entities": "bot_command:/new"}, False),
        ("you there", {"reply_to_message": {"message_id": 1, "from": {"id": 99, "is_bot": True}}}, True),
        ("you there", {"reply_to_message": {"message_id": 1, "from": {"id": 98, "is_bot": True}}}, False),
    ],
)
def test_when_a_group_means_the_bot(text: str, more: dict[str, Any], addressed: bool) -> None:
    if "entities" in more:
        kind, _, part = more["entities"].partition(":")
        more = {"entities": [entity(text, part, kind)]}
    found = inbound(update(text, kind="supergroup", **more), ME)
    assert found is not None
    assert found.addressed is addressed
    assert found.chat.kind == "group"


def test_a_topic_is_a_chat_of_its_own_and_a_reply_s_thread_is_none() -> None:
    topic = inbound(update(kind="supergroup", message_thread_id=3, is_topic_message=True), ME)
    reply = inbound(update(kind="supergroup", message_thread_id=3), ME)
    assert topic is not None
    assert reply is not None
    assert (topic.chat.key, reply.chat.key) == ("group/-7/3", "group/-7")


def test_what_is_no_text_is_named_and_what_nobody_said_is_left_out() -> None:
    voice = inbound(update("", voice={"file_id": "x"}), ME)
    photo = inbound(update("", photo=[{}], caption="look"), ME)
    assert voice is not None
    assert photo is not None
    assert (voice.unread, voice.text) == ("voice", "")
    assert (photo.unread, photo.text) == ("photo", "look")
    assert inbound(update("", new_chat_members=[ADA], kind="group"), ME) is None
    other_bot: dict[str, Any] = {"from": {**ADA, "is_bot": True}}
    assert inbound(update(**other_bot), ME) is None
    assert inbound(update(kind="channel"), ME) is None
    assert inbound({"update_id": 1, "poll_answer": {}}, ME) is None
    assert inbound({"update_id": 1, "message": {"chat": 5}}, ME) is None


def test_what_cannot_be_read_is_behind_us_all_the_same() -> None:
    found = batch([{"update_id": 10, "message": {"chat": "?"}}, update(), "x", {"no": 1}], ME)
    assert (len(found.messages), found.following) == (1, 11)
    assert batch([], ME).following is None


@given(st.text(max_size=20_000))
def test_pieces_hold_all_words_and_none_is_too_long(text: str) -> None:
    made = pieces(text)
    assert all(0 < len(piece.encode("utf-16-le", "surrogatepass")) // 2 <= MOST for piece in made)
    assert "".join("".join(made).split()) == "".join(text.split())


def test_pieces_end_where_something_ends() -> None:
    assert pieces("  \n ") == ()
    lines = "a line of some words\n" * 400
    assert all(piece.endswith("words") for piece in pieces(lines))
    assert [len(piece) for piece in pieces("x" * 5000)] == [4096, 904]
    assert [len(piece) for piece in pieces("\U0001f600" * 3000)] == [2048, 952]
