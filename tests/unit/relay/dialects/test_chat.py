import json
from dataclasses import replace
from typing import Any

import pytest

from carrel.errors import InvalidRequest
from carrel.relay.dialects.chat import ChatFields

TALK: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


def read(**fields: Any) -> ChatFields:
    return ChatFields.read(json.dumps({"model": "m", "messages": TALK, **fields}).encode())


def test_what_is_left_out() -> None:
    assert read() == ChatFields(model="m", stream=False, stream_options=None, max_output=None, choices=1, images=0)


def test_what_is_said() -> None:
    found = read(stream=True, stream_options={"include_usage": True}, max_tokens=5, max_completion_tokens=9, n=3)
    assert (found.stream, found.include_usage, found.max_output, found.choices) == (True, True, 9, 3)
    assert not read(stream=True, stream_options={"include_usage": False}).include_usage
    nulls = read(stream=None, max_tokens=None, n=None, stream_options=None)
    assert nulls == replace(read(), adds_options=False)


@pytest.mark.parametrize(
    ("part", "images"),
    [({"type": "text", "text": "x"}, 0), ({"type": "image_url", "image_url": {"url": "u"}}, 1),
     ({"type": "file", "file": {"file_id": "f"}}, 1 << 20), ("text", 1 << 20)],
)  # fmt: skip
def test_parts_that_are_larger_than_their_bytes_are_counted(part: object, images: int) -> None:
    assert read(messages=[{"role": "user", "content": [part]}]).images == images


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"web_search_options": {}}, "web_search_options"),
     ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "messages")],
)  # fmt: skip
def test_what_is_shared_or_has_a_fee_of_its_own_is_for_the_tenants_own_key(fields: dict[str, Any], param: str) -> None:
    refused = read(**fields).own_key_only
    assert refused is not None
    assert refused.refusal().param == param
    inline = [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:,x", "filename": "x"}}]}]
    assert read(web_search_options=None, messages=inline).own_key_only is None


def test_a_search_may_fill_the_window() -> None:
    assert read(web_search_options={}).images == 1 << 20


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"), ({"model": 7}, "model"), ({"model": ""}, "model"),
        ({"messages": None}, "messages"), ({"messages": "hi"}, "messages"), ({"messages": ["hi"]}, "messages[0]"),
        ({"stream": "yes"}, "stream"), ({"stream": 1}, "stream"), ({"stream_options": []}, "stream_options"),
        ({"stream_options": {}}, "stream_options"), ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"), ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"), ({"n": 129}, "n"), ({"n": 10**30}, "n"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_used_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**fields)
    assert refused.value.param == param


def test_the_tier_that_is_asked_for() -> None:
    tiers = ("flex", "priority", "default", "auto", ["flex"], None)
    assert [read(service_tier=tier).tier for tier in tiers] == ["batch", "priority", "standard", None, None, None]


@pytest.mark.parametrize(("fields", "where"), [
    ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages[0].content"),
    ({"modalities": ["text", "audio"]}, "modalities"), ({"audio": {"voice": "x"}}, "audio"),
    ({"modalities": ["text"], "audio": None}, ""), ({"modalities": None}, ""), ({}, ""),
])  # fmt: skip
def test_sound_is_seen_where_it_is_sent_and_where_it_is_asked_for(fields: dict[str, Any], where: str) -> None:
    assert read(**fields).sound == where
    assert read(**fields).images == 0


def said(**more: Any) -> dict[str, Any]:
    """A conversation in which the model's last answer has ``more``."""
    return {"messages": [*TALK, {"role": "assistant", "content": "hi", **more}, *TALK]}


def test_an_answer_in_sound_that_the_vendor_stores_is_for_the_tenants_own_key_and_is_sound() -> None:
    for more in ({}, {"max_tokens": 5}):
        found = read(**said(audio={"id": "audio_1"}), **more)
        assert found.own_key_only is not None
        assert found.own_key_only.refusal().param == "messages[1].audio"
        assert (found.sound, found.images) == ("messages[1].audio", 1 << 20)
        for plain in (said(), said(audio=None)):
            twin = read(**plain, **more)
            assert (twin.own_key_only, twin.sound, twin.images) == (None, "", 0)
