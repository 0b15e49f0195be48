"""Embeddings on the pass-through path."""

import json
from typing import Any

import pytest

from carrel.declare.rate_card import TokenCounts
from carrel.errors import InvalidRequest
from carrel.relay.dialects.embeddings import MAX_INPUTS, EmbeddingsFields
from tests.fakes.vendor import openai_side
from tests.fakes.vendor.scripts import Script

FIELDS = EmbeddingsFields(model="m")


def read(given: Any) -> EmbeddingsFields:
    return EmbeddingsFields.read(json.dumps({"model": "m", "input": given}).encode())


@pytest.mark.parametrize(("given", "windows"), [("x", 1), (["x"], 1), (["x", "y"], 2), ([1, 2], 1), ([[1], [2, 3]], 2)])
def test_each_text_may_fill_the_window(given: Any, windows: int) -> None:
    assert read(given).windows == windows
    assert not read(given).generates


@pytest.mark.parametrize("given", ["", [], None, 7, {}, ["x"] * (MAX_INPUTS + 1)])
def test_an_input_that_cannot_be_used_is_named(given: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(given)
    assert refused.value.param == "input"


def test_only_the_input_is_counted() -> None:
    body = json.dumps(openai_side.vectors({"model": "m", "input": ["a", "b"]}, Script())).encode()
    assert FIELDS.seen_in(body).counts == TokenCounts(input=200)
    assert FIELDS.seen_in_ends(body[:30], body[-60:]).counts == TokenCounts(input=200)
    assert FIELDS.seen_in(b'{"error": {}}').counts is None
    assert FIELDS.seen_in(b'{"error": {"message": "x"}}').error
