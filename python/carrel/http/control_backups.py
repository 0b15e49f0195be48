"""The control plane of backups. Work goes on to its end where the caller goes away, unless the gateway stops."""

import asyncio
from typing import Final

from aiohttp import web

from carrel.errors import NotFound
from carrel.http.control_tenants import reply
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, page
from carrel.http.routes import Query, Route
from carrel.http.services import BackupKeeping
from carrel.ids import parse_tenant_id
from carrel.wire import backups

ARCHIVE: Final = "application/gzip"


async def back_up(exchange: Exchange) -> web.StreamResponse:
    """Back a tenant up now."""
    order = await exchange.model(backups.BackupOrder)
    work = _keeping(exchange).back_up(exchange.subject(), order, by=exchange.actor, local=exchange.control)
    return reply(await exchange.finish(work, name="back up"), status=201)


async def list_backups(exchange: Exchange) -> web.StreamResponse:
    """A tenant's backups."""
    place = exchange.request.query.get("place")
    found = await _keeping(exchange).list(exchange.subject(), place, local=exchange.control)
    return page(exchange, found, "backups", lambda one: (one.at.isoformat(), one.id), newest_first=True)


async def running(exchange: Exchange) -> web.StreamResponse:
    """What runs for the tenant now."""
    return reply(_keeping(exchange).running(exchange.subject()))


async def stop(exchange: Exchange) -> web.StreamResponse:
    """End what runs for the tenant now."""
    await _keeping(exchange).stop(exchange.subject(), by=exchange.actor)
    return web.Response(status=204)


async def verify(exchange: Exchange) -> web.StreamResponse:
    """Read a backup back."""
    order = await exchange.model(backups.VerifyOrder)
    work = _keeping(exchange).verify(exchange.subject(), order, by=exchange.actor, local=exchange.control)
    return reply(await exchange.finish(work, name="verify backup"))


async def collect(exchange: Exchange) -> web.StreamResponse:
    """Remove what need not stay."""
    order = await exchange.model(backups.CollectOrder)
    work = _keeping(exchange).collect(exchange.subject(), order, by=exchange.actor, local=exchange.control)
    return reply(await exchange.finish(work, name="collect backups"))


async def restore(exchange: Exchange) -> web.StreamResponse:
    """Bring a tenant or one session back."""
    order = await exchange.model(backups.RestoreOrder)
    if order.source is not None and not exchange.sees(parse_tenant_id(order.source)):
        raise NotFound("No such tenant.")
    work = _keeping(exchange).restore(exchange.subject(), order, by=exchange.actor, local=exchange.control)
    return reply(await exchange.finish(work, name="restore"))


async def export(exchange: Exchange) -> web.StreamResponse:
    """A tenant as one file."""
    keeping, tenant = _keeping(exchange), exchange.subject()
    async with keeping.spool() as file:
        await exchange.finish(keeping.export(tenant, file, by=exchange.actor), name="export")
        answer = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{tenant.id}.tar.gz"'})
        answer.content_type = ARCHIVE
        answer.content_length = file.stat().st_size
        await answer.prepare(exchange.request)
        with file.open("rb") as content:
            while block := await asyncio.to_thread(content.read, 1 << 20):
                await answer.write(block)
        await answer.write_eof()
    return answer


async def send(exchange: Exchange) -> web.StreamResponse:
    """A tenant as one file, to a place."""
    order = await exchange.model(backups.ExportOrder)
    work = _keeping(exchange).send(exchange.subject(), order, by=exchange.actor, reach=exchange.reach)
    return reply(await exchange.finish(work, name="export"), status=201)


async def fetch(exchange: Exchange) -> web.StreamResponse:
    """Make an archive at a place the tenant's."""
    order = await exchange.model(backups.FetchOrder)
    work = _keeping(exchange).fetch(exchange.subject(), order, by=exchange.actor, reach=exchange.reach)
    return reply(await exchange.finish(work, name="import"))


async def look(exchange: Exchange) -> web.StreamResponse:
    """Judge an archive at a place."""
    order = await exchange.model(backups.LookOrder)
    if not exchange.sees(parse_tenant_id(order.tenant)):
        raise NotFound("No such tenant.")
    return reply(await exchange.finish(_keeping(exchange).look(order, reach=exchange.reach), name="look"))


async def take_in(exchange: Exchange) -> web.StreamResponse:
    """Make an archive the tenant's."""
    keeping, tenant = _keeping(exchange), exchange.subject()
    async with keeping.spool() as file:
        await exchange.spool(file)
        said = {name: exchange.request.query.get(name) == "true" for name in ("replace", "sealed", "dry_run")}
        order = backups.ImportOrder(**said)
        work = keeping.take_in(tenant, file, order, by=exchange.actor, reach=exchange.reach)
        return reply(await exchange.finish(work, name="import"))


async def decide(exchange: Exchange) -> web.StreamResponse:
    """Let go of what was there before the last restore, or bring it back."""
    order = await exchange.model(backups.RestoreDecision)
    work = _keeping(exchange).decide(exchange.subject(), order, by=exchange.actor)
    await exchange.finish(work, name="decide restore")
    return web.Response(status=204)


def _keeping(exchange: Exchange) -> BackupKeeping:
    if exchange.services.backups is None:
        raise NotFound("No backups are made here.")
    return exchange.services.backups


_PLACE: Final = Query("place", "Where they are; default: as declared.")

_TAKING_IN: Final = (
    Query("replace", "`true`: what the tenant has is kept beside, until it is decided on.", "^true$"),
    Query("sealed", "`true`: only with the seal of a master key that is here.", "^true$"),
    Query("dry_run", "`true`: all is judged, and nothing changed.", "^true$"),
)
ROUTES: Final = (
    Route("POST", "/v1/tenants/{id}/backups", back_up, "backups:write", "Back a tenant up now.",
          body=backups.BackupOrder, result=backups.BackupView, status=201),
    Route("GET", "/v1/tenants/{id}/backups", list_backups, "backups:read", "A tenant's backups, newest first.",
          result=backups.BackupList, query=(_PLACE, *PAGING)),
    Route("GET", "/v1/tenants/{id}/backups/running", running, "backups:read", "How far a backup or a restore is.",
          result=backups.JobView),
    Route("DELETE", "/v1/tenants/{id}/backups/running", stop, "backups:write",
          "End a backup, a look or a restore that runs; a swap that has begun is not stopped.", status=204),
    Route("POST", "/v1/tenants/{id}/backups/verify", verify, "backups:write", "Read a backup back, all of it.",
          body=backups.VerifyOrder, result=backups.Verified),
    Route("POST", "/v1/tenants/{id}/backups/collect", collect, "backups:write",
          "Remove backups that need not stay, and what only they needed.", body=backups.CollectOrder,
          result=backups.CollectedView),
    Route("POST", "/v1/tenants/{id}/restore", restore, "backups:restore", "Bring a tenant or one session back.",
          body=backups.RestoreOrder, result=backups.RestoreView),
    Route("GET", "/v1/tenants/{id}/export", export, "archives", "A tenant as one file, to carry elsewhere.",
          media=ARCHIVE),
    Route("POST", "/v1/tenants/{id}/import", take_in, "archives",
          "Make an archive the tenant's. The body is what an export gave.", result=backups.ImportView,
          query=_TAKING_IN),
    Route("POST", "/v1/tenants/{id}/export", send, "archives",
          "Send a tenant as one file to where backups go, or beneath.", body=backups.ExportOrder,
          result=backups.ExportView, status=201),
    Route("POST", "/v1/tenants/{id}/import/from", fetch, "archives",
          "Fetch an archive from where backups go, or beneath, and make it the tenant's.", body=backups.FetchOrder,
          result=backups.ImportView),
    Route("POST", "/v1/archives/look", look, "archives",
          "Fetch an archive and judge it, for a tenant that need not be declared. Nothing changes.",
          body=backups.LookOrder, result=backups.ImportView, narrows=True),
    Route("POST", "/v1/tenants/{id}/restore/decision", decide, "backups:restore",
          "Let go of what was there before the last restore, or bring it back.", body=backups.RestoreDecision,
          status=204),
)  # fmt: skip
