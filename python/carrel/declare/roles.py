"""What a member of a tenant is, and which scopes of a token that is bound to the person that lets through."""

from typing import Literal

Role = Literal["owner", "admin", "member", "viewer"]


def role_allows(role: Role, scope: str) -> bool:
    """Whether a token that is bound to somebody of this role may have ``scope``. A viewer's methods only look."""
    match role:
        case "owner" | "admin":
            return True
        case "member":
            return scope != "admin"
        case "viewer":
            return scope == "rpc"
