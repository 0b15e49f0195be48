"""The vendors' APIs as programs in a sandbox find them: at their usual hosts, with a placeholder for a key.

What is asked there is a call like any other of the tenant's: of a declared model, within its quotas, in its ledger.
"""

import asyncio
import hmac
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from carrel.declare.gateway import Gateway
from carrel.declare.hosts import BadHost, Host, canonical
from carrel.egress.visitor import Standing, Visitor
from carrel.errors import CarrelError, InternalError, InvalidRequest, ModelNotFound, NotFound, TooLarge, Unauthorized
from carrel.http.absent import no_websocket
from carrel.http.errors import render
from carrel.http.model_calls import model_in
from carrel.http.models import Vendor, listed, shown
from carrel.http.services import Metering, Relay
from carrel.ids import new_request_id
from carrel.policy.egress.rules import Asked
from carrel.policy.models import allowed
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.dialects.embeddings import EmbeddingsFields
from carrel.relay.dialects.messages import CountFields, MessagesFields
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.dialects.responses import ResponsesFields
from carrel.tenancy.handle import Directory, Tenant

_USUAL: Final[Mapping[str, tuple[str, str, str]]] = {
    "openai": ("api.openai.com", "OPENAI_API_KEY", "sk-"),
    "anthropic": ("api.anthropic.com", "ANTHROPIC_API_KEY", "sk-ant-api03-"),
}
"""For each kind of provider: its host, the variable that programs read a key from, and what a key begins with."""
_DIALECTS: Final[Mapping[str, type[CallFields]]] = {
    "/v1/chat/completions": ChatFields,
    "/v1/responses": ResponsesFields,
    "/v1/embeddings": EmbeddingsFields,
    "/v1/messages": MessagesFields,
    "/v1/messages/count_tokens": CountFields,
}
"""What is served. Whatever else a vendor has (files, batches, assistants) would be shared by all who use its key."""
_MODELS: Final = "/v1/models"
HTTPS: Final = 443
BODY_SECONDS: Final = 60.0
_log = structlog.get_logger(__name__)


class ModelHosts:
    """Answers in the place of the vendors; see `egress.service.Models`."""

    def __init__(self, *, directory: Directory, relay: Relay, meter: Metering) -> None:
        self._directory = directory
        self._relay = relay
        self._meter = meter
        self._known: tuple[Gateway, frozenset[tuple[Host, int]]] | None = None

    def variables(self, tenant: Tenant, /) -> Mapping[str, str]:
        """The variables of the kinds of providers that there are."""
        kinds = {config.kind for config in self._directory.current.gateway.providers.values()}
        return {variable: prefix for kind, (_, variable, prefix) in _USUAL.items() if kind in kinds}

    def serves(self, asked: Asked, /) -> bool:
        """Whether a declared provider's API is there: at its vendor's usual host, or at its own `base_url`."""
        gateway = self._directory.current.gateway
        if self._known is None or self._known[0] is not gateway:
            self._known = gateway, _places(gateway)
        return (asked.host, asked.port) in self._known[1]

    async def call(
        self, request: web.BaseRequest, standing: Standing, visitor: Visitor, marks: Mapping[str, str], /
    ) -> web.StreamResponse:
        """Answer one request, or say in the vendor's own form why not."""
        request_id = new_request_id()
        vendor = _vendor_of(request)
        try:
            _require_mark(request, marks)
            return await self._answer(request, standing, vendor)
        except CarrelError as error:
            return render(error, dialect=vendor, request_id=request_id)
        except Exception:  # noqa: BLE001 - the root of a call that a sandbox made
            _log.exception("a sandbox's model call failed", tenant=visitor.tenant_id)
            failure = InternalError("The gateway failed; its operator finds it in the log.")
            return render(failure, dialect=vendor, request_id=request_id)

    async def _answer(self, request: web.BaseRequest, standing: Standing, vendor: Vendor) -> web.StreamResponse:
        path = request.path.rstrip("/")
        dialect = _DIALECTS.get(path)
        if request.method == "POST" and dialect is not None:
            return await self._pass_on(request, standing, dialect)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            raise no_websocket()
        if request.method == "GET" and path == _MODELS:
            return web.json_response(listed(standing.snapshot, standing.tenant, vendor))
        if request.method == "GET" and path.startswith(f"{_MODELS}/"):
            name = path.removeprefix(f"{_MODELS}/")
            return web.json_response(shown(standing.snapshot, standing.tenant, vendor, name))
        raise NotFound(f"This is not served to sandboxes: POST {', '.join(_DIALECTS)} and GET {_MODELS} are.")

    async def _pass_on(
        self, request: web.BaseRequest, standing: Standing, dialect: type[CallFields]
    ) -> web.StreamResponse:
        tenant, snapshot = standing.tenant, standing.snapshot
        await self._meter.admit_request(tenant)
        body = await _body(request, snapshot.gateway.max_body_bytes)
        name = model_in(body)
        if name not in snapshot.gateway.models:
            raise ModelNotFound(f"There is no model {name[:80]!r}; GET /v1/models lists what there is.")
        allowed(snapshot, tenant, name)
        return await self._relay.handle(request, tenant, snapshot, new_request_id(), body, dialect=dialect)


def _vendor_of(request: web.BaseRequest) -> Vendor:
    """In whose form the caller wants its answer."""
    anthropic = (
        request.path.startswith("/v1/messages")
        or "anthropic-version" in request.headers
        or request.host.partition(":")[0] == _USUAL["anthropic"][0]
    )
    return "anthropic" if anthropic else "openai"


def _places(gateway: Gateway) -> frozenset[tuple[Host, int]]:
    places = set()
    for config in gateway.providers.values():
        usual = _USUAL.get(config.kind)
        if usual is not None:
            places.add((canonical(usual[0]), HTTPS))
        parts = urlsplit(config.base_url or "")
        if parts.scheme == "https" and parts.hostname:
            try:
                places.add((canonical(parts.hostname), parts.port or HTTPS))
            except (BadHost, ValueError):
                continue
    return frozenset(places)


def _require_mark(request: web.BaseRequest, marks: Mapping[str, str]) -> None:
    """Raise Unauthorized but for the placeholder of this very sandbox's agent."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    good = [hmac.compare_digest(given.encode("utf-8", "replace"), mark.encode()) for mark in marks.values()]
    if not any(good):
        raise Unauthorized("In this sandbox the key of a model provider is what its variable holds, as OPENAI_API_KEY.")


async def _body(request: web.BaseRequest, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise TooLarge(f"The body is over {limit} bytes.")
    except TimeoutError:
        raise InvalidRequest("The body did not come in time.") from None
    body = b"".join(pieces)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidRequest("A compressed body is not taken here.")
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not JSON.") from None
    return body
