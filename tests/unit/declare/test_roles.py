from typing import get_args

from carrel.declare.base import Scope
from carrel.declare.roles import Role, role_allows


def test_what_each_role_lets_through() -> None:
    table = {role: {scope for scope in get_args(Scope) if role_allows(role, scope)} for role in get_args(Role)}
    assert table["owner"] == table["admin"] == set(get_args(Scope))
    assert table["member"] == set(get_args(Scope)) - {"admin"}
    assert table["viewer"] == {"rpc"}
