"""`carrel channels`: the bots through which people talk to a tenant's agents."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import understand
from carrel.cli.failures import DONE, FAILED
from carrel.cli.options import HERE, Target
from carrel.cli.packages import TenantOption
from carrel.cli.rpc import called
from carrel.wire import rpc_channels as wire

ChannelArgument = Annotated[str, Parameter(name="CHANNEL", help="Its name, as the tenant's file declares it.")]
AccountOption = Annotated[str | None, Parameter(help="Only this account; all of the channel's without it.")]
_HEADS = ("CHANNEL", "ACCOUNT", "BOT", "STATE", "POLICY", "LAST IN", "LAST OUT", "ERROR")


def status(
    channel: Annotated[str | None, Parameter(name="CHANNEL", help="Only this one.")] = None,
    /,
    *,
    tenant: TenantOption,
    probe: Annotated[bool, Parameter(help="Ask the platforms too.", negative="")] = False,
    target: Target = HERE,
) -> int:
    """Show how a tenant's channels stand; 1 where a probe was refused."""
    params: dict[str, Any] = {"probe": probe, **({} if channel is None else {"channel": channel})}
    document = called(target, tenant, "channels.status", params)
    found = understand(wire.ChannelsStatus, document)
    failed = any(one.probe_ok is False for of in found.channel_accounts.values() for one in of)
    if target.json:
        screen.show_json(document)
    elif not found.channel_order:
        screen.note(f"{tenant} has no channel: `channels` in its file declares one.")
    else:
        screen.table(_HEADS, [_row(name, one) for name in found.channel_order for one in found.channel_accounts[name]])
    return FAILED if failed else DONE


def start(
    channel: ChannelArgument, /, *, tenant: TenantOption, account: AccountOption = None, target: Target = HERE
) -> int:
    """Run a channel's accounts that were stopped, or try anew those that fail; 1 where one cannot be connected."""
    return _moved("channels.start", channel, tenant, account, target, wanted=True)


def stop(
    channel: ChannelArgument, /, *, tenant: TenantOption, account: AccountOption = None, target: Target = HERE
) -> int:
    """Stop a channel's accounts until they are started, also over a restart."""
    return _moved("channels.stop", channel, tenant, account, target, wanted=False)


def logout(
    channel: ChannelArgument, /, *, tenant: TenantOption, account: AccountOption = None, target: Target = HERE
) -> int:
    """Stop, take webhooks back and forget what waits; of a whole channel, who was let in too."""
    return _moved("channels.logout", channel, tenant, account, target, wanted=False)


def pair(
    channel: ChannelArgument,
    code: Annotated[
        str | None, Parameter(name="CODE", help="The code that somebody got; without one, they are listed.")
    ] = None,
    /,
    *,
    tenant: TenantOption,
    reject: Annotated[bool, Parameter(help="Do not let them in.", negative="")] = False,
    remove: Annotated[str | None, Parameter(help="Let this person in no more, by their number.")] = None,
    target: Target = HERE,
) -> int:
    """Let somebody in by the code that they got, or list who waits and who was let in."""
    decision: Literal["approve", "reject", "remove"] | None = None
    if remove is not None:
        decision = "remove"
    elif reject:
        decision = "reject"
    given = {"code": code, "sender": remove, "decision": decision}
    params: dict[str, Any] = {"channel": channel, "limit": 1000}
    params |= {name: value for name, value in given.items() if value is not None}
    document = called(target, tenant, "channels.pair", params)
    if target.json:
        screen.show_json(document)
        return DONE
    found = understand(wire.ChannelPeople, document)
    if code is not None or remove is not None:
        done = "is let in no more" if remove is not None else "was rejected" if reject else "is let in, and told so"
        screen.say(f"{remove or code} {done}.")
        return DONE
    rows = [(one.code, one.sender, one.name, "waits", _moment(one.expires_at)) for one in found.pending]
    rows += [("", one.sender, one.name, f"let in by {one.approved_by}", None) for one in found.paired]
    rows += [("", sender, "", "declared", None) for sender in found.allow_from]
    if not rows:
        screen.note(f"Nobody may write to {channel} and nobody asks to: who writes to the bot gets a code.")
    else:
        screen.table(("CODE", "NUMBER", "NAME", "STATE", "UNTIL"), rows)
    return DONE


def _moved(method: str, channel: str, tenant: str, account: str | None, target: Target, *, wanted: bool) -> int:
    params = {"channel": channel, **({} if account is None else {"accountId": account})}
    document = called(target, tenant, method, params)
    accounts = understand(wire.ChannelDone, document).accounts
    if target.json:
        screen.show_json(document)
    else:
        screen.table(_HEADS, [_row(channel, one) for one in accounts])
    return FAILED if wanted and any(one.enabled and not one.connected for one in accounts) else DONE


def _row(channel: str, one: wire.ChannelAccountStatus) -> tuple[str | None, ...]:
    if one.connected:
        state = "connected"
    elif one.running:
        state = "fails" if one.last_error else "connecting"
    else:
        state = "off" if not one.enabled else "stopped"
    bot = f"@{one.bot}" if one.bot else None
    return (
        channel, one.account_id, bot, state, one.dm_policy, _moment(one.last_inbound_at), _moment(one.last_outbound_at),
        one.probe_error or one.last_error,
    )  # fmt: skip


def _moment(millis: int | None) -> str | None:
    return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")
