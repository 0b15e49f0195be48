"""What holds for every dialect."""

import inspect

import pytest

from carrel.relay.dialects import chat, embeddings, messages, responses
from carrel.relay.dialects.protocol import CallFields, OwnKeyOnly, dearer_tier

DIALECTS: list[type[CallFields]] = [
    chat.ChatFields, responses.ResponsesFields, embeddings.EmbeddingsFields, messages.MessagesFields,
    messages.CountFields,
]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_model_may_have_another_name_with_the_vendor_and_the_rest_stays_as_it_came(dialect: type[CallFields]) -> None:
    assert not inspect.isabstract(dialect)
    sent = dialect(model="ours").outgoing(
        b'{ "x" : 1.50, "model": "ours" , "u":"\\u00e9"}', "theirs", asks_usage=False, byo=True
    )  # fmt: skip
    assert sent.body == b'{ "x" : 1.50, "model": "theirs" , "u":"\\u00e9"}'
    same = b'{"model":"ours"}'
    assert dialect(model="ours").outgoing(same, None, asks_usage=False, byo=True).body is same


def test_no_two_have_the_same_place() -> None:
    assert len({(dialect.kind, dialect.path) for dialect in DIALECTS}) == len(DIALECTS)


def test_a_refusal_names_the_field_and_the_mend() -> None:
    refusal = OwnKeyOnly("tools[0].type", "leave it out.").refusal()
    assert (refusal.param, refusal.details["reason"]) == ("tools[0].type", "own_key_only")
    assert "leave it out" in refusal.message


def test_dearer_tiers() -> None:
    assert dearer_tier({"service_tier": "flex"}) is None
    assert dearer_tier({"service_tier": ["priority"]}) is None
    assert dearer_tier({"service_tier": "priority"}) is not None
