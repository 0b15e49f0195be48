from decimal import Decimal

import pytest
from pydantic import ValidationError

from carrel.declare.base import DeclaredToken
from carrel.declare.quotas import MoneyLimit
from carrel.declare.tenant import SandboxConfig, Tenant


@pytest.mark.parametrize("value", [3, Decimal(3), "3", "3.0"])
def test_money_is_whole_or_exact(value: object) -> None:
    assert MoneyLimit.model_validate({"hard": value}).hard == Decimal(3)


@pytest.mark.parametrize("value", [3.5, True, "3,5", " 3", "1e9", "NaN", Decimal("NaN"), Decimal("Infinity"), -1])
def test_money_is_never_a_float_nor_something_else(value: object) -> None:
    with pytest.raises(ValidationError):
        MoneyLimit.model_validate({"hard": value})


def test_money_survives_json() -> None:
    limit = MoneyLimit(hard=Decimal("0.10"))
    assert MoneyLimit.model_validate_json(limit.model_dump_json()).hard == Decimal("0.10")


def test_a_duration_may_be_a_fraction() -> None:
    assert SandboxConfig.model_validate({"wall_seconds": Decimal("1.5")}).wall_seconds == 1.5
    with pytest.raises(ValidationError):
        SandboxConfig.model_validate({"wall_seconds": 0})


def test_a_moment_needs_its_offset() -> None:
    whole = {"name": "ci", "sha256": "0" * 64, "expires": "2030-01-01T00:00:00Z"}
    found = DeclaredToken.model_validate(whole).expires
    assert found is not None
    assert found.utcoffset() is not None
    with pytest.raises(ValidationError):
        DeclaredToken.model_validate({**whole, "expires": "2030-01-01T00:00:00"})


def test_what_is_kept_for_later_is_kept_as_json() -> None:
    kept = Tenant.model_validate({"voice": {"list": (1, Decimal("1.5")), "on": True}}).voice
    assert kept == {"list": [1, 1.5], "on": True}
