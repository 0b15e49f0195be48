"""What is left early is closed."""

from collections.abc import AsyncIterator

import pytest

from carrel.agents.streams import closing


async def test_a_stream_that_is_left_early_is_closed() -> None:
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            closed.append(True)

    async with closing(numbers()) as events:
        async for number in events:
            if number == 3:
                break
    assert closed == [True]


async def test_its_own_error_goes_through() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        async with closing(failing()) as events:
            _ = [event async for event in events]


async def test_what_is_no_generator_needs_no_closing() -> None:
    class Plain:
        def __aiter__(self) -> "Plain":
            return self

        async def __anext__(self) -> int:
            raise StopAsyncIteration

    async with closing(Plain()) as events:
        assert [event async for event in events] == []
