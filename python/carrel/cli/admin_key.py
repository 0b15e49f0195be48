"""`carrel admin-key`: a new key of the control plane, with what declares it. It asks no gateway."""

import hashlib
import json
import secrets
from typing import Annotated

from cyclopts import Parameter
from pydantic import ValidationError

from carrel.cli import screen
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import Json
from carrel.cli.tokens import parse_expiry
from carrel.clock import SystemClock
from carrel.declare.admin_keys import EVERY, AdminKey
from carrel.wire.wording import wording


def admin_key(
    name: Annotated[str, Parameter(name="NAME", help="What the key is called in the audit log.")],
    /,
    *,
    scopes: Annotated[
        tuple[str, ...] | None,
        Parameter(name="--scope", negative=(), help="What it may do, as `billing:read`; said once for each. `read` is "
                  "everything to look at, `write` everything to change; both where it is left out."),
    ] = None,
    tenants: Annotated[
        tuple[str, ...] | None,
        Parameter(name="--tenant", negative=(), help="Only for this tenant, or for ids that begin so, as `shop-*`; "
                  "said once for each."),
    ] = None,
    expires: Annotated[
        str | None, Parameter(help="When it ends: a time as 2030-01-31T12:00Z, or after 30m, 12h, 90d, 8w.")
    ] = None,
    json: Json = False,
) -> int:  # fmt: skip
    """Make a key of the control plane, and show what `admin_keys` of _gateway.yaml is to have for it."""
    key = f"ak_{name}_{secrets.token_hex(16)}"
    given: dict[str, object] = {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}
    if scopes:
        given["scopes"] = scopes
    if tenants:
        given["tenants"] = tenants
    if expires is not None:
        given["expires"] = parse_expiry(expires, SystemClock().now())
    try:
        declared = AdminKey.model_validate(given)
    except ValidationError as error:
        raise WrongUsage(_wrong(error)) from None
    entry = declared.model_dump(mode="json", exclude_unset=True)
    if json:
        screen.show_json({"key": key, "declare": entry})
        return DONE
    screen.note("The key, shown this once:")
    screen.say(key)
    screen.note("It works once this is in tenants.d/_gateway.yaml, under admin_keys:")
    screen.say(_line(entry))
    return DONE


def _wrong(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = first["loc"][0]
    if where == "scopes":
        return f"{first['input']!r} is no scope: there are read, write, {', '.join(sorted(EVERY))}."
    return f"{'NAME' if where == 'name' else f'--{str(where)[:-1]}'} {first['input']!r}: {wording(first)}."


def _line(entry: dict[str, object]) -> str:
    """One entry of a list in YAML, whose flow style JSON is."""
    return "  - {" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in entry.items()) + "}"
