"""`carrel secrets`: what a tenant's agents use and never have."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand, whole
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order, tenant_path
from carrel.cli.tenants import TenantArgument
from carrel.secrets import MAX_SECRET_BYTES
from carrel.wire import control

NameArgument = Annotated[str, Parameter(name="NAME", help="The secret's name, as `{secret: NAME}` has it.")]
FromFile = Annotated[
    Path | None, Parameter(name="--from-file", help="Read the value from a file; else it is read from the terminal, "
                                                    "where it is not shown, or from standard input.")
]  # fmt: skip


def list_(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """List a tenant's secrets. Their values are shown nowhere."""
    document = whole(target, tenant_path(tenant, "secrets"), "secrets")
    if target.json:
        screen.show_json(document)
        return DONE
    kept = understand(control.SecretList, document).secrets
    if not kept:
        screen.note(f"{tenant} has no secret in its vault.")
        return DONE
    rows = [
        (one.name, str(one.version), str(one.key_version), screen.moment(one.created), screen.moment(one.updated))
        for one in kept
    ]
    screen.table(("NAME", "VERSION", "KEY", "CREATED", "UPDATED"), rows)
    return DONE


def set_(tenant: TenantArgument, name: NameArgument, /, *, from_file: FromFile = None, target: Target = HERE) -> int:
    """Keep a secret's value, in place of the one before."""
    return _put(tenant, name, _value(from_file), must_exist=False, target=target)


def rotate(tenant: TenantArgument, name: NameArgument, /, *, from_file: FromFile = None, target: Target = HERE) -> int:
    """Give a secret that there is a new value; the next request that uses it has it."""
    return _put(tenant, name, _value(from_file), must_exist=True, target=target)


def remove(tenant: TenantArgument, name: NameArgument, /, *, target: Target = HERE) -> int:
    """Forget a secret."""
    request(target, "DELETE", tenant_path(tenant, "secrets", name))
    if target.json:
        screen.show_json({"name": name, "removed": True})
    else:
        screen.say(f"{name} is removed.")
    return DONE


def reseal(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """Seal with the newest master key what is sealed with an older one."""
    document = request(target, "POST", tenant_path(tenant, "secrets"))
    if target.json:
        screen.show_json(document)
    else:
        screen.say(f"{understand(control.SecretsResealed, document).count} sealed anew.")
    return DONE


def _put(tenant: str, name: str, value: str, *, must_exist: bool, target: Target) -> int:
    wanted = order(control.SecretPut, {"value": value, "must_exist": must_exist})
    document = request(target, "PUT", tenant_path(tenant, "secrets", name), wanted)
    if target.json:
        screen.show_json(document)
    else:
        kept = understand(control.SecretView, document)
        screen.say(f"{kept.name} is kept, version {kept.version}.")
    return DONE


def _value(file: Path | None) -> str:
    """The value, never from the command's words: those are for every process to read."""
    try:
        if file is not None:
            with file.open("rb") as opened:
                data = opened.read(MAX_SECRET_BYTES + 1)
        elif sys.stdin.isatty():
            return getpass.getpass("Value: ")
        else:
            data = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1)
        text = data.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise WrongUsage(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise WrongUsage("A secret is text in UTF-8.") from error
    if len(data) > MAX_SECRET_BYTES:
        raise WrongUsage(f"A secret is {MAX_SECRET_BYTES} bytes at most.")
    if not text:
        raise WrongUsage("A secret is not empty: give its value on standard input, or --from-file.")
    return text
