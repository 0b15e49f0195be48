"""`carrel tenants token`: what lets a tenant's programs in."""

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand, whole
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order, tenant_path
from carrel.cli.tenants import TenantArgument
from carrel.clock import SystemClock
from carrel.wire import control

_SPAN: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def show_prefixes(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """List a tenant's tokens by name and prefix. The tokens themselves are kept nowhere."""
    document = whole(target, tenant_path(tenant, "tokens"), "tokens")
    if target.json:
        screen.show_json(document)
        return DONE
    tokens = understand(control.TokenList, document).tokens
    rows = [
        (
            t.name,
            t.prefix,
            t.member or "-",
            " ".join(t.scopes),
            *map(screen.moment, (t.created_at, t.expires)),
            t.source,
        )
        for t in tokens
    ]
    screen.table(("NAME", "PREFIX", "MEMBER", "SCOPES", "CREATED", "EXPIRES", "SOURCE"), rows)
    return DONE


def issue(
    tenant: TenantArgument,
    /,
    *,
    name: Annotated[str | None, Parameter(help="What to call it; else a name is made up.")] = None,
    scopes: Annotated[
        list[str] | None,
        Parameter(
            name="--scope",
            negative=(),
            help="`chat`, `rpc`, `admin` (beside `rpc`) or `node`, said once for each; else `chat` and `rpc`.",
        ),
    ] = None,
    expires: Annotated[
        str | None, Parameter(help="When it ends: a time as 2030-01-31T12:00Z, or after 30m, 12h, 90d, 8w.")
    ] = None,
    member: Annotated[str | None, Parameter(help="The person of the tenant's `members` to bind it to.")] = None,
    target: Target = HERE,
) -> int:
    """Issue a token and show it, this once."""
    path = tenant_path(tenant, "tokens")
    given: dict[str, object] = {"name": name if name is not None else f"cli-{secrets.token_hex(3)}"}
    if scopes:
        given["scopes"] = tuple(scopes)
    if expires is not None:
        given["expires"] = parse_expiry(expires, SystemClock().now())
    if member is not None:
        given["member"] = member
    return _shown_once(target, request(target, "POST", path, order(control.TokenIssue, given)))


def rotate(
    tenant: TenantArgument,
    /,
    *,
    name: Annotated[str | None, Parameter(help="Which one; `default` unless said.")] = None,
    target: Target = HERE,
) -> int:
    """Replace a token by a new one, shown this once. The old one ends at once, with its streams."""
    wanted = order(control.TokenRotate, {} if name is None else {"name": name})
    return _shown_once(target, request(target, "POST", tenant_path(tenant, "tokens", "rotate"), wanted))


def revoke(
    tenant: TenantArgument,
    name: Annotated[str, Parameter(name="NAME", help="The token's name.")],
    /,
    *,
    target: Target = HERE,
) -> int:
    """End a token at once, with its streams."""
    request(target, "DELETE", tenant_path(tenant, "tokens", name))
    if target.json:
        screen.show_json({"tenant": tenant, "name": name, "revoked": True})
    else:
        screen.say(f"The token {name} of {tenant} is revoked.")
    return DONE


def _shown_once(target: Target, document: object) -> int:
    issued = understand(control.TokenIssued, document)
    if target.json:
        screen.show_json(document)
        return DONE
    until = f", until {screen.moment(issued.expires)}" if issued.expires is not None else ""
    whose = f", as {issued.member}" if issued.member is not None else ""
    may = f"{', '.join(issued.scopes)}{until}"
    screen.note(f"The token {issued.name} of {issued.tenant}{whose} ({may}), shown this once:")
    screen.say(issued.token)
    return DONE


def parse_expiry(text: str, now: datetime) -> datetime:
    """The moment that ``text`` names: a time with its offset, or a span from ``now``; raises WrongUsage."""
    span = _SPAN.fullmatch(text)
    try:
        when = now + timedelta(**{_UNITS[span[2]]: int(span[1])}) if span else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        when = None
    if when is None or when.tzinfo is None:
        raise WrongUsage(f"--expires takes a time as 2030-01-31T12:00Z or a span as 12h or 90d, not {text!r}.")
    if when <= now:
        raise WrongUsage(f"--expires {text} is over already.")
    return when.astimezone(UTC)
