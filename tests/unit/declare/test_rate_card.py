from decimal import Decimal

import pytest
from pydantic import ValidationError

from carrel.declare.rate_card import LongPrompt, Rates, TokenCounts


def longer(over: int) -> LongPrompt:
    return LongPrompt(over_tokens=over, input=Decimal(2), output=Decimal(4))


def test_long_prompts_are_in_their_order() -> None:
    assert len(Rates(input=Decimal(1), output=Decimal(1), long_prompts=(longer(1), longer(2))).long_prompts) == 2
    for wrong in ((longer(2), longer(1)), (longer(1), longer(1))):
        with pytest.raises(ValidationError, match="more `over_tokens` than the one before"):
            Rates(input=Decimal(1), output=Decimal(1), long_prompts=wrong)


def test_writes_for_an_hour_are_among_the_writes() -> None:
    counts = TokenCounts(1, 2, 4, 8, 16, 3) + TokenCounts(cache_write=1, cache_write_1h=1)
    assert (counts.prompt, counts.total, counts.cache_write_1h) == (8, 32, 4)
