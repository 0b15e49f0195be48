"""The models of the bill: an invoice whose lines explain themselves, and the recount of what it rests on."""

from pydantic import Field, JsonValue

from carrel.wire.control import Answer


class InvoicePart(Answer):
    """One multiplication of a charge. Numbers are exact text."""

    token_class: str = Field(description="`input`, `cache_read`, `cache_write`, `cache_write_1h`, `output`, ...")
    tokens: int
    rate_usd_per_million: str
    factor: str = Field(description="What the rate is multiplied by: the markup, or 1 where it is passed through.")
    amount_usd: str
    text: str = Field(description="The multiplication in words.")


class InvoiceLine(Answer):
    """One charge: calls that were priced alike, or a fee. The amounts of its parts add up to its own, exactly."""

    text: str
    amount_usd: str
    calls: int = 0
    model: str | None = Field(None, description="Null for a fee.")
    byo: bool = Field(False, description="With the tenant's own key.")
    over_tokens: int = Field(0, description="Priced by the rates for prompts of more tokens than this; 0 for others.")
    plan: str = Field("", description="The plan that the tenant was on.")
    plan_hash: str = Field("", description="The SHA-256 of what the plan was.")
    rate_card_hash: str = Field("", description="The SHA-256 of the rate card that the rates are from.")
    parts: tuple[InvoicePart, ...] = ()


class Invoice(Answer):
    """What a tenant owes for a period. ``first`` and ``last`` are its UTC days, both included."""

    tenant: str
    period: str
    first: str
    last: str
    lines: tuple[InvoiceLine, ...]
    total_usd: str


class RatesView(Answer):
    """The operator's prices."""

    markup: str = "1"
    byo_markup: str = "0"
    otherwise: dict[str, JsonValue] | None = None
    models: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)


class RateCardView(Answer):
    """The prices in force, and the SHA-256 that ledger rows name them by."""

    hash: str
    rate_card: RatesView


class WrongDay(Answer):
    """A day whose sums are not what its calls make."""

    date: str
    model: str


class RecountView(Answer):
    """How far the recount of a ledger is, in rows. One that waits for another to end has a ``total`` of 0."""

    running: bool
    done: int = 0
    total: int = 0
    eta_seconds: float | None = None


class Recounted(Answer):
    """Every row of a ledger counted anew, and held against the sums that reports are made of."""

    tenant: str
    calls: int
    wrong: tuple[WrongDay, ...] = Field((), description="None where the sums are right.")
