from decimal import Decimal

import pytest
from pydantic import ValidationError

from carrel.declare.billing import PlanBilling


def test_what_is_passed_through_has_no_factor_of_its_own() -> None:
    assert PlanBilling(rule="pass_through", platform_fee_usd=Decimal(49)).platform_fee_usd == 49
    with pytest.raises(ValidationError, match="as they are"):
        PlanBilling(rule="pass_through", markup=Decimal("1.2"))
