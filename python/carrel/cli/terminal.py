"""`carrel terminal`: a shell in a tenant's sandbox, on this terminal."""

import os
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.attached import Attached, Ended, Keyboard, Lost
from carrel.cli.client import Client, ask
from carrel.cli.failures import DONE, FAILED, Refused, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import tenant_path
from carrel.cli.rpc import called_whole
from carrel.cli.tenants import TenantArgument
from carrel.tasks import Tasks
from carrel.terminal.recording import Recording

DETACH: Final = "ctrl-]"
_RECORD_BYTES: Final = 1 << 40


def terminal(
    tenant: TenantArgument,
    /,
    *,
    attach: Annotated[str | None, Parameter(help="Come back to this one (`--list` shows those that run).")] = None,
    list_: Annotated[
        bool, Parameter(name="--list", negative=(), show_default=False, help="Show the terminals that run.")
    ] = False,
    shell: Annotated[str | None, Parameter(help="A program of the sandbox in place of its shell.")] = None,
    agent: Annotated[str | None, Parameter(help="The agent whose ways out of the sandbox it has.")] = None,
    session: Annotated[
        str | None, Parameter(help="The session whose workspace it is in, where sessions have their own.")
    ] = None,
    member: Annotated[str | None, Parameter(help="The person of the tenant's `members` to be.")] = None,
    record: Annotated[Path | None, Parameter(help="Write what is shown into this new file, as an asciicast.")] = None,
    detach_key: Annotated[
        str,
        Parameter(help="What leaves the terminal running and comes back here: `ctrl-` and a letter or one of []\\^_."),
    ] = DETACH,
    target: Target = HERE,
) -> int:
    """Open a shell in a tenant's sandbox, or come back to one. Its exit status is the command's own.

    It goes on where it is left by the detach key, or by a lost connection.
    """
    key = _control(detach_key)
    if list_:
        return _list(target, tenant, member)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise WrongUsage("`carrel terminal` needs a terminal; `carrel sandboxes exec` runs a single command.")
    wanted = {"shell": shell, "agentId": agent, "sessionId": session}
    given = {name: value for name, value in wanted.items() if value is not None}
    if attach is not None and given:
        raise WrongUsage("--attach goes to one that runs: --shell, --agent and --session are for a new one.")
    return ask(_hold(target, tenant, member, attach=attach, given=given, key=key, record=record))


async def _hold(
    target: Target, tenant: str, member: str | None, *, attach: str | None, given: dict[str, Any], key: bytes,
    record: Path | None,
) -> int:  # fmt: skip
    query = {"events": "none", **({"member": member} if member is not None else {})}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(target))
        # What is wrong with the tenant is said here, in words.
        await _said(client, tenant, query)
        socket = await stack.enter_async_context(client.socket(tenant_path(tenant, "ws"), query))
        recording = _recording(record, tenant)
        if recording is not None:
            tasks = Tasks("carrel")
            stack.push_async_callback(recording.close)
            stack.push_async_callback(tasks.close)
            recording.write_along(tasks)
        held = Attached(socket, Keyboard(sys.stdin.fileno()), detach=key, recording=recording)
        terminal_id = await held.begin(attach, given)
        screen.note(f"{terminal_id}: {_named(key)} leaves it running.")
        ended = await held.run()
    return _told(tenant, terminal_id, ended)


async def _said(client: Client, tenant: str, query: dict[str, str]) -> None:
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "health"}'
    member = {"member": query["member"]} if "member" in query else None
    await client.send("POST", tenant_path(tenant, "rpc"), body, member)


def _recording(path: Path | None, tenant: str) -> Recording | None:
    if path is None:
        return None
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WrongUsage(f"{path} cannot be made for the recording: {error.strerror}.") from None
    return Recording.into(
        fd, Keyboard(sys.stdin.fileno()).size, title=tenant, moment=datetime.now(UTC), now=time.monotonic,
        most=_RECORD_BYTES,
    )  # fmt: skip


def _told(tenant: str, terminal_id: str, ended: Ended | Lost | None) -> int:
    """What is said at the end, and the exit status."""
    back = f"`carrel terminal {tenant} --attach {terminal_id}` comes back."
    match ended:
        case None:
            screen.note(f"Left running: {back}")
            return DONE
        case Lost(why):
            raise Refused(f"The connection was lost ({why}). The terminal goes on: {back}", code="connection_lost")
        case Ended(reason, code, signal):
            if reason != "exit":
                screen.complain(f"The terminal ended: {reason.replace('_', ' ')}.")
            if code is not None:
                return code
            return FAILED if signal is None else 128 + signal


def _list(target: Target, tenant: str, member: str | None) -> int:
    if member is not None:
        raise WrongUsage("--list shows all members' terminals.")
    found = called_whole(target, tenant, "terminal.list", "sessions")
    if target.json:
        screen.show_json(found)
        return DONE
    rows = [
        (
            one["terminalId"], one.get("member") or "", _moment(one["createdAt"]), _moment(one["lastActivityAt"]),
            f"{one['cols']}x{one['rows']}", str(one["viewers"]),
        )
        for one in found["sessions"]
    ]  # fmt: skip
    if rows:
        screen.table(("TERMINAL", "MEMBER", "SINCE", "ACTIVE", "SIZE", "WATCHED BY"), rows)
    else:
        screen.note("No terminal runs.")
    return DONE


def _moment(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _control(text: str) -> bytes:
    """The byte that a key like `ctrl-]` sends."""
    name = text.lower().removeprefix("ctrl-")
    if text.lower() == name or len(name) != 1 or not ("a" <= name <= "z" or name in "[]\\^_"):
        raise WrongUsage(f"--detach-key takes `ctrl-` and a letter or one of []\\^_, not {text!r}.")
    return bytes([ord(name.upper()) & 0x1F])


def _named(key: bytes) -> str:
    return f"Ctrl-{chr(key[0] | 0x40)}"
