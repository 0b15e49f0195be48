"""How a plan is billed: the model calls of a tenant on it, and what it pays each month besides."""

from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from carrel.declare.base import Declared, Factor, Money


class PlanBilling(Declared):
    """``markup``: the rates times a factor. ``pass_through``: what the vendor takes, and a fee for the platform."""

    rule: Literal["markup", "pass_through"] = Field(
        "markup",
        description="`markup`: the rates times `markup`. `pass_through`: the rates as they are, beside a fee.",
    )
    markup: Factor | None = Field(None, description="The factor of this plan. Default: `markup` of `_rate-card.yaml`.")
    byo_markup: Factor | None = Field(
        None, description="The factor for calls with the tenant's own key. Default: `byo_markup` of `_rate-card.yaml`."
    )
    platform_fee_usd: Money = Field(
        Decimal(0),
        description="US dollars for each UTC month, owed on its first day; of the month of a tenant's `billed_from` "
        "the days that are left. A line of the invoice; no quota counts it.",
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.rule == "pass_through" and self.markup is not None:
            raise ValueError("`pass_through` takes the rates as they are: leave `markup` out, or say `rule: markup`")
        return self
