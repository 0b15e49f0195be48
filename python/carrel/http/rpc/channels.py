"""`channels.*`: how a tenant's channels stand, and who may write to them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from carrel.channels.protocol import Identity
from carrel.channels.service import AccountStatus, Channels
from carrel.errors import InvalidRequest, NotFound
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.wire import rpc_channels as wire
from carrel.wire.control import Actor


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("channels.status")(status)
    registry.method("channels.start", scope="admin", changes=True, target="channel")(start)
    registry.method("channels.stop", scope="admin", changes=True, target="channel")(stop)
    registry.method("channels.logout", scope="admin", changes=True, target="channel")(logout)
    registry.method("channels.pair", scope="admin", changes=True)(pair)


async def status(context: Context, params: wire.ChannelsStatusParams) -> wire.ChannelsStatus:
    """The tenant's channels and how each account of theirs stands."""
    found = await _channels(context).status(
        context.tenant, params.channel, probe=params.probe, seconds=params.timeout_ms / 1000
    )
    accounts: dict[str, list[wire.ChannelAccountStatus]] = {}
    for one in found:
        accounts.setdefault(one.channel, []).append(_account(one))
    declared = {one.channel: one.declared for one in found}
    return wire.ChannelsStatus(
        ts=_millis(context.services.clock.now()) or 0, channel_order=tuple(accounts),
        channel_labels={name: declared[name].kind.capitalize() for name in accounts},
        channels={name: _summary(declared[name].kind, of) for name, of in accounts.items()},
        channel_accounts={name: tuple(of) for name, of in accounts.items()},
        channel_default_account_id={name: of[0].account_id for name, of in accounts.items()},
    )  # fmt: skip


async def start(context: Context, params: wire.ChannelParams) -> wire.ChannelDone:
    """Run a channel's accounts that were stopped, or try anew those that fail; answers when that is known."""
    return _done(params.channel, await _channels(context).start(context.tenant, params.channel, params.account_id))


async def stop(context: Context, params: wire.ChannelParams) -> wire.ChannelDone:
    """Stop a channel's accounts until they are started."""
    return _done(params.channel, await _channels(context).stop(context.tenant, params.channel, params.account_id))


async def logout(context: Context, params: wire.ChannelParams) -> wire.ChannelDone:
    """Stop, take webhooks back and forget what waits; of a whole channel, who was let in too."""
    return _done(params.channel, await _channels(context).logout(context.tenant, params.channel, params.account_id))


async def pair(context: Context, params: wire.ChannelsPairParams) -> wire.ChannelPeople:
    """List who asks to be let in and who was, or decide about one; who is let in is told so."""
    service, tenant = _channels(context), context.tenant
    if (params.decision == "remove") != (params.sender is not None) or (params.code and params.sender):
        raise InvalidRequest("`remove` goes with `sender`; `approve` and `reject` go with `code`.", param="decision")
    if params.decision in ("approve", "reject") and params.code is None:
        raise InvalidRequest("Say whom by `code`; without a decision the codes are listed.", param="code")
    by = Actor(context.actor, context.request_id)
    try:
        if params.sender is not None:
            await service.remove(tenant, params.channel, params.sender, by=by)
        elif params.code is not None:
            approve = params.decision != "reject"
            await service.decide(tenant, params.channel, params.code, approve=approve, by=by)
    except NotFound:
        if not context.again:
            raise
    return await _people(context, params)


async def _people(context: Context, params: wire.ChannelsPairParams) -> wire.ChannelPeople:
    channel = params.channel
    pending, paired = await _channels(context).people(context.tenant, channel)
    page, following = paged(paired, lambda one: (one.sender,), params)
    declared = context.tenant.config.channels[channel]
    return wire.ChannelPeople(
        channel=channel, dm_policy=declared.dm_policy, allow_from=tuple(map(str, declared.allow_from)),
        pending=tuple(
            wire.PairingRequest(
                code=one.code, account_id=one.account.partition("/")[2], sender=one.sender, name=one.name,
                requested_at=_millis(one.asked) or 0, expires_at=_millis(one.expires) or 0,
            )
            for one in pending
        ),
        paired=tuple(
            wire.PairedPerson(sender=one.sender, name=one.name, approved_at=_millis(one.approved) or 0,
                              approved_by=one.by)
            for one in page
        ),
        next=following,
    )  # fmt: skip


def _channels(context: Context) -> Channels:
    return engines(context).channels


def _done(channel: str, found: Sequence[AccountStatus]) -> wire.ChannelDone:
    return wire.ChannelDone(ok=True, channel=channel, accounts=tuple(map(_account, found)))


def _account(one: AccountStatus) -> wire.ChannelAccountStatus:
    standing, probed = one.standing, one.probe
    return wire.ChannelAccountStatus(
        account_id=one.account, enabled=one.enabled, configured=True, linked=standing.linked, running=one.running,
        connected=one.connected, stopped=standing.stopped, delivery=one.declared.accounts[one.account].delivery,
        bot=standing.name or None, last_error=one.error, last_inbound_at=_millis(standing.last_inbound),
        last_outbound_at=_millis(standing.last_outbound), last_probe_at=_millis(standing.last_probe),
        dm_policy=one.declared.dm_policy, probe_ok=None if probed is None else isinstance(probed, Identity),
        probe_error=probed if isinstance(probed, str) else None,
    )  # fmt: skip


def _summary(kind: str, accounts: Sequence[wire.ChannelAccountStatus]) -> wire.ChannelSummary:
    return wire.ChannelSummary(
        kind=kind, enabled=any(a.enabled for a in accounts), configured=any(a.configured for a in accounts),
        linked=any(a.linked for a in accounts), running=any(a.running for a in accounts),
        connected=any(a.connected for a in accounts),
        last_error=next((a.last_error for a in accounts if a.last_error is not None), None),
    )  # fmt: skip


def _millis(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.astimezone(UTC).timestamp() * 1000)
