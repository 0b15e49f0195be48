"""Usage as vendors report it, in disjoint counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.rate_card import TokenCounts
from carrel.wire.usage import (
    count,
    find_openai_usage,
    tier_of,
    usage_from_anthropic,
    usage_from_openai,
    usage_to_anthropic,
    usage_to_openai,
    usage_to_responses,
)
from tests.unit.wire.rounds import COUNTS

OPENAI: list[tuple[dict[str, Any], TokenCounts]] = [
    ({}, TokenCounts()),
    ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, TokenCounts(input=10, output=5)),
    ({"prompt_tokens": None, "completion_tokens": "5"}, TokenCounts()),
    (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        TokenCounts(input=30, cache_read=60, cache_write=10, output=20, reasoning=30),
    ),
    (
        {"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
        TokenCounts(input=36, cache_read=64, output=5),
    ),
    ({"prompt_tokens": 100, "completion_tokens": 5, "cached_tokens": 40}, TokenCounts(60, 40, 0, 5)),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 35,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        TokenCounts(input=10, output=5, reasoning=20),
    ),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 30,
            "total_tokens": 60,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        TokenCounts(input=10, output=30, reasoning=20),
    ),
    ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}, TokenCounts(cache_read=5)),
    (
        {"input_tokens": 8, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 3}},
        TokenCounts(5, 3, 0, 4),
    ),
]


@pytest.mark.parametrize(("usage", "expected"), OPENAI)
def test_openai_shapes(usage: dict[str, Any], expected: TokenCounts) -> None:
    assert usage_from_openai(usage) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "cached_tokens", "prompt_tokens_details", "usage"]),
        inner,
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*OPENAI[3][0], "cached_tokens", "prompt_cache_hit_tokens"]), JSON))
def test_no_usage_gives_a_negative_count_or_an_error(usage: dict[str, Any]) -> None:
    counts = usage_from_openai(usage)
    assert min(counts.input, counts.cache_read, counts.cache_write, counts.output, counts.reasoning) >= 0
    assert find_openai_usage({"usage": usage, "choices": usage}) in (usage, None)


def test_places() -> None:
    usage = {"prompt_tokens": 1}
    assert find_openai_usage({"usage": usage}) == usage
    assert find_openai_usage({"usage": None, "choices": [{"usage": usage}]}) == usage
    assert find_openai_usage({"choices": [], "x_groq": {"usage": usage}}) == usage
    assert find_openai_usage({"choices": [{"delta": {}}], "usage": {}}) is None


def test_anthropic() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 5,
        "output_tokens": 8,
        "output_tokens_details": {"thinking_tokens": 6},
    }
    assert usage_from_anthropic(usage) == TokenCounts(10, 20, 5, 2, 6)
    assert usage_from_anthropic({"input_tokens": None}) == TokenCounts()
    kept = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 4}
    assert usage_from_anthropic({**usage, "cache_creation": kept}) == TokenCounts(10, 20, 5, 2, 6, 4)
    assert usage_from_anthropic({"cache_creation": kept}) == TokenCounts(cache_write=5, cache_write_1h=4)
    assert usage_from_anthropic({**usage, "cache_creation": None}) == TokenCounts(10, 20, 5, 2, 6)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_back_and_forth(plain: int, cached: int, output: int, reasoning: int) -> None:
    counts = TokenCounts(plain, cached, 0, output, reasoning)
    assert usage_from_openai(usage_to_openai(counts)) == counts


def test_counts() -> None:
    assert [count(v) for v in (3, 3.0, 3.5, -1, True, None, "3", float("nan"))] == [3, 3, 0, 0, 0, 0, 0, 0]


@given(COUNTS)
def test_every_class_comes_back_from_every_dialect(counts: TokenCounts) -> None:
    assert usage_from_openai(usage_to_openai(counts)) == counts
    assert usage_from_openai(usage_to_responses(counts)) == counts
    hourly = TokenCounts(counts.input, counts.cache_read, counts.cache_write, counts.output, counts.reasoning,
                         cache_write_1h=counts.cache_write // 2)  # fmt: skip
    assert usage_from_anthropic(usage_to_anthropic(hourly)) == hourly


def test_the_tier_that_a_call_was_served_at() -> None:
    words = ("default", "standard", "flex", "batch", "priority", "auto", "new-word", None, 7, ["flex"])
    assert [tier_of({"service_tier": word}) for word in words] == [
        "standard", "standard", "batch", "batch", "priority", None, None, None, None, None
    ]  # fmt: skip
    assert usage_from_anthropic({"input_tokens": 1, "service_tier": "priority"}).served == "priority"
    assert usage_from_openai({"prompt_tokens": 1}, served="batch").served == "batch"
