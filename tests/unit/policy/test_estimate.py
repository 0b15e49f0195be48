import pytest

from carrel.declare.rate_card import TokenCounts
from carrel.policy.estimate import (
    IMAGE_TOKENS,
    TEMPLATE_TOKENS,
    believable,
    filled,
    likely,
    worst_input,
    worst_output,
)


@pytest.mark.parametrize(
    ("size", "images", "window", "expected"),
    [
        (0, 0, 100_000, TEMPLATE_TOKENS),
        (500, 0, 100_000, 500 + TEMPLATE_TOKENS),
        (500, 2, 100_000, 500 + TEMPLATE_TOKENS + 2 * IMAGE_TOKENS),
        (10_000_000, 0, 100_000, 100_000),
        (10, 1 << 20, 8_000, 8_000),
    ],
)
def test_the_bound_on_input(size: int, images: int, window: int, expected: int) -> None:
    assert worst_input(size, images=images, context_window=window) == expected


@pytest.mark.parametrize(("asked", "choices", "expected"), [(None, 1, 400), (None, 3, 1200), (7, 1, 7), (7, 2, 14)])
def test_the_bound_on_output(asked: int | None, choices: int, expected: int) -> None:
    assert worst_output(asked, max_output=400, choices=choices) == expected


@pytest.mark.parametrize(("size", "tokens"), [(-1, 0), (0, 0), (1, 1), (4, 1), (5, 2)])
def test_the_estimate(size: int, tokens: int) -> None:
    assert likely(size) == tokens


@pytest.mark.parametrize(("said", "expected", "estimated"), [
    (None, TokenCounts(input=9, output=5, reasoning=2), True),
    (TokenCounts(), TokenCounts(input=9, output=5, reasoning=2), True),
    (TokenCounts(output=3), TokenCounts(input=9, output=3), True),
    (TokenCounts(input=3), TokenCounts(input=3, output=5, reasoning=2), True),
    (TokenCounts(cache_read=3, reasoning=1), TokenCounts(cache_read=3, reasoning=1), False),
    (TokenCounts(input=3, output=1), TokenCounts(input=3, output=1), False),
])  # fmt: skip
def test_what_a_vendor_leaves_out_is_estimated(
    said: TokenCounts | None, expected: TokenCounts, estimated: bool
) -> None:
    assert filled(said, prompt=9, output=5, reasoning=2) == (expected, estimated)


def test_an_answer_of_nothing_is_free_where_its_prompt_is_counted() -> None:
    assert filled(TokenCounts(input=3), prompt=9, output=0) == (TokenCounts(input=3), False)
    assert filled(TokenCounts(input=3), prompt=0, output=0) == (TokenCounts(input=3), False)


def test_a_tier_that_was_named_beside_is_in_it_unless_the_counts_name_one() -> None:
    for said, served in (
        (None, "priority"),
        (TokenCounts(input=3), "priority"),
        (TokenCounts(served="batch"), "batch"),
    ):
        assert filled(said, prompt=9, output=0, served="priority")[0].served == served
    assert filled(TokenCounts(served="batch"), prompt=9, output=0)[0].served == "batch"


@pytest.mark.parametrize(("said", "charged"), [
    (TokenCounts(input=500_000, output=99_000), TokenCounts(input=500_000, output=99_000)),
    (TokenCounts(cache_read=1 << 50, output=7), TokenCounts(input=10_000, output=7)),
    (TokenCounts(cache_read=7, reasoning=1 << 50), TokenCounts(cache_read=7, output=50)),
])  # fmt: skip
def test_a_usage_that_no_call_can_have_is_the_worst_case(said: TokenCounts, charged: TokenCounts) -> None:
    assert believable(said, max_input=10_000, max_output=50) == charged
