"""The control plane of snapshots."""

from typing import Final

from aiohttp import web

from carrel.errors import NotFound
from carrel.http.control_tenants import reply
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, page
from carrel.http.routes import Route
from carrel.http.services import SnapshotKeeping
from carrel.wire import control


async def list_snapshots(exchange: Exchange) -> web.StreamResponse:
    """A tenant's snapshots."""
    found = await _keeping(exchange).list(exchange.subject())
    return page(exchange, found, "snapshots", lambda one: (one.made.isoformat(), one.id))


async def make_snapshot(exchange: Exchange) -> web.StreamResponse:
    """Copy a workspace."""
    order = await exchange.model(control.SnapshotOrder)
    work = _keeping(exchange).make(exchange.subject(), order, by=exchange.actor)
    return reply(await exchange.finish(work, name="snapshot"), status=201)


async def roll_back(exchange: Exchange) -> web.StreamResponse:
    """Go back to one."""
    work = _keeping(exchange).roll_back(exchange.subject(), _named(exchange), by=exchange.actor)
    return reply(await exchange.finish(work, name="roll back"))


async def remove_snapshot(exchange: Exchange) -> web.StreamResponse:
    """Forget one."""
    work = _keeping(exchange).remove(exchange.subject(), _named(exchange), by=exchange.actor)
    await exchange.finish(work, name="remove snapshot")
    return web.Response(status=204)


def _named(exchange: Exchange) -> str:
    return exchange.request.match_info["snapshot"]


def _keeping(exchange: Exchange) -> SnapshotKeeping:
    if exchange.services.snapshots is None:
        raise NotFound("No snapshots are kept here.")
    return exchange.services.snapshots


ROUTES: Final = (
    Route("GET", "/v1/tenants/{id}/snapshots", list_snapshots, "sandboxes:read", "Snapshots of workspaces.",
          result=control.SnapshotList, query=PAGING),
    Route("POST", "/v1/tenants/{id}/snapshots", make_snapshot, "sandboxes:write", "Copy a workspace.",
          body=control.SnapshotOrder, result=control.SnapshotView, status=201),
    Route("POST", "/v1/tenants/{id}/snapshots/{snapshot}/rollback", roll_back, "sandboxes:write",
          "Put a snapshot in its workspace's place.", result=control.RolledBack),
    Route("DELETE", "/v1/tenants/{id}/snapshots/{snapshot}", remove_snapshot, "sandboxes:write", "Forget a snapshot.",
          status=204),
)  # fmt: skip
