"""`/v1/devices/…`: how a device that has no token yet is paired by a code, and fetches its token."""

import os
from typing import Final

from aiohttp import web

from carrel.errors import NotFound, RateLimited, Unavailable
from carrel.http.exchange import Exchange
from carrel.http.routes import Route
from carrel.http.rpc.devices import claimed
from carrel.wire import rpc_devices as wire


async def pair_device(exchange: Exchange) -> web.StreamResponse:
    """Ask to be paired, by a code."""
    order = await exchange.model(wire.PairOrder)
    if exchange.services.engines is None:
        raise Unavailable("No device is paired here.")
    try:
        asked, secret = exchange.services.engines.devices.use_code(
            order.code, request_id=f"pair_{os.urandom(12).hex()}", name=order.name, platform=order.platform
        )
    except NotFound:
        _failed(exchange)
        raise
    await _note(exchange, "device.pair.ask", asked.id, asked.tenant, asked.name)
    made = wire.PairAsked(request_id=asked.id, secret=secret, expires_at=int(asked.expires.timestamp() * 1000))
    return web.Response(text=made.model_dump_json(by_alias=True), content_type="application/json", status=201)


async def claim_device(exchange: Exchange) -> web.StreamResponse:
    """How a request stands; where it is approved, the device's token."""
    order = await exchange.model(wire.ClaimOrder)
    if exchange.services.engines is None:
        raise Unavailable("No device is paired here.")
    try:
        status, device, token = await exchange.services.engines.devices.claim(order.request_id, order.secret)
    except NotFound:
        _failed(exchange)
        raise
    if device is not None:
        whose = exchange.services.engines.devices.whose(order.request_id)
        await _note(exchange, "device.pair.claim", device.id, whose, device.name)
    body = claimed(status, device, token).model_dump_json(by_alias=True, exclude_none=True)
    return web.Response(text=body, content_type="application/json", headers={"Cache-Control": "no-store"})


async def _note(exchange: Exchange, action: str, target: str, tenant: str | None, name: str) -> None:
    """A line of the audit log before the answer: what was asked for or handed out, and from where."""
    await exchange.services.audit.record(
        actor=f"device@{exchange.address}", action=action, target=target, tenant=tenant,
        request_id=exchange.request_id, after={"name": name}, outcome="ok",
    )  # fmt: skip


def _failed(exchange: Exchange) -> None:
    """Count a wrong guess of the address; raises RateLimited after too many."""
    wait = exchange.authenticator.failed(exchange.address)
    if wait is not None:
        raise RateLimited("Too many failed attempts from this address.", retry_after=wait)


ROUTES: Final = (
    Route("POST", "/v1/devices/pair", pair_device, "public", "A device asks to be paired, by a short code.",
          body=wire.PairOrder, result=wire.PairAsked, status=201),
    Route("POST", "/v1/devices/claim", claim_device, "public", "A device fetches its token, once it is approved.",
          body=wire.ClaimOrder, result=wire.PairClaimed),
)  # fmt: skip
