"""``_rate-card.yaml``: US dollars per 1,000,000 tokens by model and token class, and the markup."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pydantic import Field

from carrel.declare.base import Declared, Factor, ModelName, Money


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one model call by class. The classes are disjoint: their sum is what was processed.

    ``input`` is prompt tokens neither read from nor written to a cache; ``output`` is completion tokens that are
    not ``reasoning``. Vendors that report one inside the other are split where their usage is read.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.output + self.reasoning

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


class Rates(Declared):
    """US dollars per 1,000,000 tokens. A class left out costs what its nearest relative does."""

    input: Money = Field(description="Prompt tokens neither read from nor written to a cache.")
    output: Money = Field(description="Completion tokens that are not reasoning.")
    cache_read: Money | None = Field(None, description="Prompt tokens read from a cache. Default: the rate of `input`.")
    cache_write: Money | None = Field(None, description="Prompt tokens written to one. Default: that of `input`.")
    reasoning: Money | None = Field(None, description="Reasoning tokens. Default: the rate of `output`.")


class RateCard(Declared):
    """The operator's prices. ``markup`` multiplies: 1.20 adds twenty per cent."""

    currency: Literal["USD"] = Field("USD", description="What the rates are in.")
    markup: Factor = Field(Decimal(1), description="What a tenant pays is the rate times this: 1.20 adds 20 %.")
    byo_markup: Factor = Field(
        Decimal(0), description="The factor for calls made with a tenant's own provider key; 0 bills nothing."
    )
    models: dict[ModelName, Rates] = Field(
        default_factory=dict, description="US dollars per 1,000,000 tokens, by the model's name in `_gateway.yaml`."
    )
