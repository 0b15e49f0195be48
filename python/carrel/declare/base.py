"""The strict frozen base of every declared model, and the field types they share."""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from carrel.secrets import SECRET_NAME_PATTERN

_DECIMAL = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?")


def _exact(value: object) -> object:
    """Whole numbers and decimal text are dollars too; a float never is, for it lost its text already."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return Decimal(value)
    return value


def _duration(value: object) -> object:
    """The loader gives every fraction as an exact Decimal; durations may be floats."""
    return float(value) if isinstance(value, Decimal) else value


def _plain(value: object) -> object:
    """What a later version reads is kept as JSON holds it: lists, and numbers that are no Decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _moment(value: object) -> object:
    """A date and time with its offset, from the text that YAML holds."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _day(value: object) -> object:
    """A UTC day, from the text that YAML holds."""
    return date.fromisoformat(value) if isinstance(value, str) else value


Day = Annotated[date, BeforeValidator(_day)]
"""A UTC day, as `2027-01-31`."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""The name of an agent, a plan, a provider or a key."""
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]
"""A model's name as callers say it."""
PACKAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
"""What a package can be called: to be matched whole."""
PackageName = Annotated[str, Field(pattern=f"^{PACKAGE_NAME.pattern}$")]
"""A package's attribute name."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in lower-case hex."""
Factor = Annotated[Decimal, Field(ge=0, le=100, allow_inf_nan=False), BeforeValidator(_exact)]
"""An exact multiplier."""
MOST_DOLLARS: Final = 1_000_000_000
Money = Annotated[Decimal, Field(ge=0, le=Decimal(MOST_DOLLARS), allow_inf_nan=False), BeforeValidator(_exact)]
"""US dollars, exact."""
Bytes = Annotated[int, Field(ge=0, le=1 << 50)]
"""A size in bytes."""
Seconds = Annotated[float, Field(gt=0, le=7 * 86400), BeforeValidator(_duration)]
"""A duration in seconds."""
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
"""A point in time, with its offset."""
Kept = Annotated[JsonValue, BeforeValidator(_plain)]
"""Anything that JSON can hold, kept for a later version."""
Scope = Literal["chat", "rpc", "admin", "node"]
"""What a tenant token may do: ``chat`` the model endpoints, ``rpc`` the methods, ``admin`` rotate and delete too.

``node``: be a node, that is to say connect and be asked to run commands, and nothing else.
"""


class Declared(BaseModel):
    """Base of what YAML may hold: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=True, defer_build=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: it is frozen. Pydantic copies every default that cannot be hashed, for every tenant."""
        return self


class SecretRef(Declared):
    """A secret by name; the value is never in YAML."""

    secret: Annotated[str, Field(pattern=SECRET_NAME_PATTERN)] = Field(
        description="The secret's name: a file in the credentials or secrets directory, or `CARREL_SECRET_<NAME>`."
    )


class DeclaredToken(Declared):
    """A tenant token declared by its digest, beside those that commands issue."""

    name: Name = Field(description="What the token is called in lists and logs.")
    sha256: Digest = Field(description="The SHA-256 of the token's text, in lower-case hex; never the token itself.")
    scopes: tuple[Scope, ...] = Field(
        ("chat", "rpc"),
        description="`chat`: the model endpoints; `rpc`: the methods; `admin`: rotate and delete too; `node`: a node.",
    )
    expires: Moment | None = Field(None, description="When it stops working, with its offset: `2027-01-31T00:00:00Z`.")
    member: Name | None = Field(
        None, description="The person of `members` whose it is; with `sandbox.scope: member` it sees only theirs."
    )
