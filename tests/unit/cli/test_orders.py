import re

import pytest
from pydantic import BaseModel

from carrel.cli.failures import WrongUsage
from carrel.cli.orders import order, tenant_path
from carrel.wire.control import ChatOrder, QuotaUpdate, TenantCreate, TokenIssue


def test_what_can_be_asked_for() -> None:
    assert order(TenantCreate, {"id": "acme"}).id == "acme"
    assert order(QuotaUpdate, {"tokens_per_day": "5", "cost_per_day_usd": "0.10"}).model_dump_json(
        exclude_unset=True
    ) == ('{"tokens_per_day":5,"cost_per_day_usd":"0.10"}')


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (QuotaUpdate, {"tokens_per_day": "many"}, "--tokens-per-day takes a whole number, not 'many'."),
        (QuotaUpdate, {"tokens_per_day": "-1"}, "--tokens-per-day takes 0 or more, not '-1'."),
        (QuotaUpdate, {"cost_per_day_usd": "1.5x"}, "--cost-per-day-usd takes a number, not '1.5x'."),
        (QuotaUpdate, {"cost_per_day_usd": "nan"}, "--cost-per-day-usd takes a number, not 'nan'."),
        (TenantCreate, {"id": "../x"}, "'../x' is not a tenant id: 1 to 32 of"),
        (TenantCreate, {"id": "x", "plan": "A B"}, "--plan takes a name (lower-case letters, digits, `-`, `_`)"),
        (TokenIssue, {"name": "x", "scopes": ("root",)}, "--scope takes 'chat', 'rpc', 'admin' or 'node', not 'root'."),
        (ChatOrder, {"message": "x", "session": "../x"}, "A session id is 1 to 128 of"),
    ],
)
def test_what_cannot_names_the_option(model: type[BaseModel], given: dict[str, object], said: str) -> None:
    with pytest.raises(WrongUsage, match=f"^{re.escape(said)}"):
        order(model, given)


def test_paths_of_tenants() -> None:
    assert tenant_path("acme", "tokens", "a/b") == "/v1/tenants/acme/tokens/a%2Fb"
    for wrong in ("", "../status", "ACME", "a" * 33):
        with pytest.raises(WrongUsage, match="is not a tenant id"):
            tenant_path(wrong)
