import pytest

from carrel.policy.estimate import IMAGE_TOKENS, TEMPLATE_TOKENS, likely, worst_input, worst_output


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
