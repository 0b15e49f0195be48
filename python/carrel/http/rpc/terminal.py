"""`terminal.*`: shells in the tenant's sandbox. What one shows comes as notifications to the connections that look."""

import base64
import binascii
import codecs
from typing import Final

from carrel.agents.workspace import TENANT_WORKSPACE, member_workspace, session_workspace
from carrel.errors import Forbidden, InvalidRequest
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Peer, Registry, engines
from carrel.ids import parse_session_id
from carrel.policy.names import require_agent
from carrel.sandbox.bwrap import RESERVED_ENV
from carrel.sandbox.protocol import Size
from carrel.tenancy.handle import Tenant
from carrel.terminal.screen import End, Screen
from carrel.terminal.service import Order, Terminals
from carrel.wire import rpc_terminal as wire
from carrel.wire.rpc import Page

_TEXT: Final = "utf8"
_NOTHING_MORE: Final = "changes nothing more"
_LOOKS: Final = "only looks"


def register(registry: Registry) -> None:
    """Add these methods to ``registry``. What a page does by itself is not counted as a request."""
    registry.method("terminal.spawn", changes=True)(spawn)
    registry.method("terminal.attach", counted=False, repeated="shows what is kept of it once more")(attach)
    registry.method("terminal.detach", counted=False, repeated=_NOTHING_MORE)(detach)
    registry.method("terminal.ack", counted=False, repeated=_NOTHING_MORE)(ack)
    registry.method("terminal.write", counted=False, changes=True)(write)
    registry.method("terminal.resize", counted=False, repeated=_NOTHING_MORE)(resize)
    registry.method("terminal.close", counted=False, repeated=_NOTHING_MORE)(close)
    registry.method("terminal.list", counted=False)(list_)
    registry.method("terminal.read", repeated=_LOOKS)(read)
    registry.method("terminal.recordings", repeated=_LOOKS)(recordings)
    registry.method("terminal.recording", repeated=_LOOKS)(recording)


class PeerViewer:
    """A connection that looks at one terminal. Equal to any other of the same connection."""

    def __init__(self, peer: Peer, terminal_id: str, *, encoding: wire.Encoding = "utf8") -> None:
        self._peer = peer
        self._terminal_id = terminal_id
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if encoding == _TEXT else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerViewer) and other._peer.id == self._peer.id

    def __hash__(self) -> int:
        return hash(self._peer.id)

    def output(self, at: int, data: bytes) -> None:
        """See `terminal.screen.Viewer`."""
        text = self._decoder.decode(data) if self._decoder is not None else base64.b64encode(data).decode()
        told = {"terminalId": self._terminal_id, "at": at, "next": at + len(data), "data": text}
        self._peer.notify("terminal.output", told)

    def ended(self, end: End) -> None:
        """See `terminal.screen.Viewer`."""
        told = {"terminalId": self._terminal_id, "reason": end.reason, "exitCode": end.exit_code, "signal": end.signal}
        self._peer.notify("terminal.exit", told)

    def dropped(self) -> None:
        """See `terminal.screen.Viewer`."""
        self._peer.notify("terminal.detached", {"terminalId": self._terminal_id, "reason": "slow_reader"})


async def spawn(context: Context, params: wire.TerminalSpawnParams) -> wire.TerminalSpawned:
    """Open a terminal: a shell in the tenant's sandbox, with its packages, workspace and ways out."""
    reserved = RESERVED_ENV & params.env.keys()
    if reserved:
        raise InvalidRequest(f"{min(reserved)} is the sandbox's own.", param="env")
    order = Order(
        id=context.new_id("term"), actor=context.actor, request_id=context.request_id,
        agent=require_agent(context.tenant, params.agent_id), workspace=_workspace(context.tenant, params.session_id),
        size=Size(params.cols, params.rows), allowed=context.allowed, shell=params.shell, env=params.env,
        record=params.record,
    )  # fmt: skip
    screen = await _terminals(context).open(context.tenant, order)
    if params.attach and context.peer is not None:
        _look(context.peer, screen, after=None, encoding=params.encoding)
    return wire.TerminalSpawned(
        terminal_id=screen.id, pid=await screen.pid(), cols=screen.size.columns, rows=screen.size.rows,
        recorded=screen.recording is not None,
    )  # fmt: skip


async def attach(context: Context, params: wire.TerminalAttachParams) -> wire.TerminalAttached:
    """Show a terminal to this connection: what is kept of it, and what comes."""
    screen = _screen(context, params)
    peer = _peer(context)
    if params.cols is not None and params.rows is not None:
        screen.resize(Size(params.cols, params.rows))
    at = _look(peer, screen, after=params.after, encoding=params.encoding)
    return wire.TerminalAttached(terminal_id=screen.id, at=at, cols=screen.size.columns, rows=screen.size.rows)


async def detach(context: Context, params: wire.TerminalParams) -> wire.TerminalDone:
    """Show a terminal to this connection no more; it goes on."""
    screen = _screen(context, params)
    screen.detach(PeerViewer(_peer(context), screen.id))
    return _done(screen)


async def ack(context: Context, params: wire.TerminalSeenParams) -> wire.TerminalDone:
    """Say how far this connection has come: more comes only while it keeps up."""
    screen = _screen(context, params)
    screen.seen(PeerViewer(_peer(context), screen.id), params.at)
    return _done(screen)


async def write(context: Context, params: wire.TerminalWriteParams) -> wire.TerminalWritten:
    """Type into a terminal. Ctrl-C by itself drops what was typed before and not read yet."""
    data = params.data.encode("utf-8", "surrogatepass")
    if params.encoding == "base64":
        try:
            data = base64.b64decode(params.data, validate=True)
        except binascii.Error:
            raise InvalidRequest("`data` is not base64.", param="data") from None
    return wire.TerminalWritten(ok=True, pending=_screen(context, params).write(data))


async def resize(context: Context, params: wire.TerminalResizeParams) -> wire.TerminalDone:
    """Give a terminal another size."""
    screen = _screen(context, params)
    screen.resize(Size(params.cols, params.rows))
    return _done(screen)


async def close(context: Context, params: wire.TerminalParams) -> wire.TerminalDone:
    """End a terminal with all that runs in it."""
    screen = _screen(context, params)
    screen.stop("closed")
    return _done(screen)


async def list_(context: Context, params: Page) -> wire.TerminalList:
    """The terminals that run: one's own, or with the scope `admin` all members'."""
    found = _terminals(context).of(context.tenant, all_members=_sees_all(context))
    page, following = paged(found, lambda one: (one.began.isoformat(), one.id), params)
    return wire.TerminalList(sessions=tuple([await _view(context, screen) for screen in page]), next=following)


async def read(context: Context, params: wire.TerminalReadParams) -> wire.TerminalText:
    """What a terminal showed, for who has no connection to be shown it: also for a minute after its end."""
    screen = _screen(context, params)
    at, data = await screen.read(params.after, most=params.limit, wait=params.wait_seconds)
    text = data.decode("utf-8", "replace") if params.encoding == _TEXT else base64.b64encode(data).decode()
    end = screen.end
    told = {} if end is None else {"reason": end.reason, "exit_code": end.exit_code, "signal": end.signal}
    return wire.TerminalText(
        terminal_id=screen.id, at=at, next=at + len(data), data=text, running=end is None, **told  # type: ignore[arg-type]  # of the fields' own types
    )  # fmt: skip


async def recordings(context: Context, params: wire.TerminalRecordingsParams) -> wire.TerminalRecordings:
    """The recordings that are kept of the tenant's terminals."""
    _require_all(context)
    found = await _terminals(context).recordings(context.tenant)
    page, following = paged(found, lambda one: (one.terminal_id,), params)
    views = [
        wire.TerminalRecordingView(terminal_id=one.terminal_id, bytes=one.size, changed_at=int(one.changed * 1000))
        for one in page
    ]
    return wire.TerminalRecordings(recordings=tuple(views), next=following)


async def recording(context: Context, params: wire.TerminalRecordingParams) -> wire.TerminalRecordingText:
    """A piece of a recording."""
    _require_all(context)
    data, size = await _terminals(context).recording(
        context.tenant, params.terminal_id, offset=params.offset, most=params.limit
    )
    return wire.TerminalRecordingText(
        terminal_id=params.terminal_id, offset=params.offset, size=size, data=data.decode("ascii", "replace")
    )


def _look(peer: Peer, screen: Screen, *, after: int | None, encoding: wire.Encoding) -> int:
    viewer = PeerViewer(peer, screen.id, encoding=encoding)
    at = screen.attach(viewer, after=after)
    peer.on_close(lambda: screen.detach(viewer))
    return at


def _workspace(tenant: Tenant, session_id: str | None) -> str:
    if tenant.config.sandbox.scope == "tenant":
        return TENANT_WORKSPACE
    if tenant.own is not None:
        return member_workspace(tenant.own)
    if session_id is None:
        raise InvalidRequest(
            "Here each session has a workspace of its own: say which by `sessionId`.", param="sessionId"
        )
    return session_workspace(parse_session_id(session_id))


def _sees_all(context: Context) -> bool:
    return "admin" in context.scopes


def _require_all(context: Context) -> None:
    if context.tenant.member is not None and not _sees_all(context):
        raise Forbidden("Recordings are all members': that needs the scope 'admin'.")


def _terminals(context: Context) -> Terminals:
    return engines(context).terminals


def _screen(context: Context, params: wire.TerminalParams) -> Screen:
    return _terminals(context).get(context.tenant, params.terminal_id, all_members=_sees_all(context))


def _peer(context: Context) -> Peer:
    if context.peer is None:
        raise InvalidRequest("A terminal is shown to a WebSocket: call this on `/ws`, or use `terminal.read`.")
    return context.peer


async def _view(context: Context, screen: Screen) -> wire.TerminalView:
    idle = context.services.clock.monotonic() - screen.used
    now = context.services.clock.now().timestamp()
    return wire.TerminalView(
        terminal_id=screen.id, tenant_id=screen.tenant.id, member=screen.member, pid=await screen.pid(),
        cols=screen.size.columns, rows=screen.size.rows, created_at=int(screen.began.timestamp() * 1000),
        last_activity_at=int((now - idle) * 1000), viewers=screen.viewers, recorded=screen.recording is not None,
    )  # fmt: skip


def _done(screen: Screen) -> wire.TerminalDone:
    return wire.TerminalDone(ok=True, terminal_id=screen.id)
