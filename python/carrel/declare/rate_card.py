"""``_rate-card.yaml``: US dollars per 1,000,000 tokens by model and token class, and the markup."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from carrel.declare.base import Declared, Factor, ModelName, Money

Tier = Literal["standard", "batch", "priority"]
"""How a vendor serves a call: as it serves all, when it has room, or before others."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one model call by class. The classes are disjoint: their sum is what was processed.

    ``input`` is prompt tokens neither read from nor written to a cache; ``output`` is completion tokens that are
    not ``reasoning``. Vendors that report one inside the other are split where their usage is read. ``cache_write_1h``
    is no class of its own but those of ``cache_write`` that the cache keeps for an hour. ``served`` is the tier that
    the vendor says it served the call at, None where it did not say, and of a sum.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0
    served: Tier | None = None

    @property
    def total(self) -> int:
        return self.prompt + self.output + self.reasoning

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.cache_write_1h + other.cache_write_1h,
        )


class ClassRates(Declared):
    """US dollars per 1,000,000 tokens of each class. A class left out costs what its nearest relative does."""

    input: Money = Field(description="Prompt tokens neither read from nor written to a cache.")
    output: Money = Field(description="Completion tokens that are not reasoning.")
    cache_read: Money | None = Field(None, description="Prompt tokens read from a cache. Default: the rate of `input`.")
    cache_write: Money | None = Field(None, description="Prompt tokens written to one. Default: that of `input`.")
    cache_write_1h: Money | None = Field(
        None, description="Those of them that are kept for an hour. Default: the rate of `cache_write`."
    )
    reasoning: Money | None = Field(None, description="Reasoning tokens. Default: the rate of `output`.")


class LongPrompt(ClassRates):
    """The rates of a whole call whose prompt is longer. A class left out follows from these rates, not from others."""

    over_tokens: Annotated[int, Field(ge=1, le=1 << 40)] = Field(
        description="Held for a call of more prompt tokens than this, those of caches among them."
    )


class PromptRates(ClassRates):
    """Rates, and those of calls with long prompts."""

    long_prompts: tuple[LongPrompt, ...] = Field(
        (), description="Other rates for the whole of a call with a longer prompt, shortest first."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        over = [one.over_tokens for one in self.long_prompts]
        if over != sorted(set(over)):
            raise ValueError("each of `long_prompts` has more `over_tokens` than the one before")
        return self


class Rates(PromptRates):
    """A model's rates, and those of its calls that the vendor serves at another tier."""

    batch: PromptRates | None = Field(
        None,
        description="The rates of calls that the vendor served when it had room (`service_tier: flex`), with "
        "`long_prompts` of their own. Default: the model's own.",
    )
    priority: PromptRates | None = Field(
        None,
        description="The rates of calls that the vendor served before others (`service_tier: priority`), with "
        "`long_prompts` of their own. Without them nobody asks for one with the operator's key, and one that is served "
        "so nevertheless has the model's own.",
    )


class RateCard(Declared):
    """The operator's prices. ``markup`` multiplies: 1.20 adds twenty per cent."""

    currency: Literal["USD"] = Field("USD", description="What the rates are in.")
    markup: Factor = Field(Decimal(1), description="What a tenant pays is the rate times this: 1.20 adds 20 %.")
    byo_markup: Factor = Field(
        Decimal(0), description="The factor for calls made with a tenant's own provider key; 0 bills nothing."
    )
    otherwise: Rates | None = Field(
        None, description="The rates of a model that `models` does not have. Default: such a model is refused."
    )
    models: dict[ModelName, Rates] = Field(
        default_factory=dict, description="US dollars per 1,000,000 tokens, by the model's name in `_gateway.yaml`."
    )
