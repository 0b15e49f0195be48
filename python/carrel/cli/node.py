"""`carrel node`: this machine as a node of a tenant's, for as long as the command runs."""

import asyncio
import contextlib
import os
import platform
from collections.abc import Callable, Coroutine
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from carrel import __version__
from carrel.cli import screen
from carrel.cli.client import ask
from carrel.cli.failures import DONE, FAILED, GatewayUnreachable, Refused, WrongUsage
from carrel.cli.node_commands import COMMANDS, Doer, Owner
from carrel.cli.options import Json
from carrel.errors import CarrelError

if TYPE_CHECKING:
    import aiohttp

POLL_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
WELCOME: Final = 1


def node(
    *,
    url: Annotated[str, Parameter(env_var="CARREL_URL", help="The gateway's address, as https://HOST.")],
    code: Annotated[str | None, Parameter(help="A code of `device.pair.code`, to pair this machine first.")] = None,
    name: Annotated[str | None, Parameter(help="What the node is called; this machine's name without it.")] = None,
    token_file: Annotated[Path | None, Parameter(help="Where the node's token is kept.")] = None,
    root: Annotated[Path, Parameter(help="The directory that file commands are beneath.")] = Path(),
    allow: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            show_default=False,
            help=f"A command that is done without asking, said once for each: {', '.join(COMMANDS)}.",
        ),
    ] = (),
    once: Annotated[bool, Parameter(negative=(), show_default=False, help="End with the first connection.")] = False,
    json: Annotated[Json, Parameter(help="Tell what happens as lines of JSON.")] = False,
) -> int:
    """Be a node: connect to a gateway, and do what is asked there, as its owner here allows."""
    unknown = [command for command in allow if command not in COMMANDS]
    if unknown:
        raise WrongUsage(f"--allow takes {', '.join(COMMANDS)}, not {unknown[0]!r}.")
    kept = token_file or Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "carrel" / "node-token"
    client = NodeClient(
        url.rstrip("/"), kept, Doer(Owner(frozenset(allow)), root.absolute()), told=_as_json if json else screen.note
    )
    return ask(client.run(code=code, name=name or platform.node() or "node", once=once))


class NodeClient:
    """Pairs where that is asked for, connects, and answers; comes back when the connection is lost."""

    def __init__(
        self, url: str, token_file: Path, doer: Doer, *, told: Callable[[str], None] = screen.note
    ) -> None:  # fmt: skip
        self._told = told
        self._url = url
        self._token_file = token_file
        self._doer = doer
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self, *, code: str | None, name: str, once: bool) -> int:
        """Until the gateway lets the node in no more, or for one connection."""
        import aiohttp  # noqa: PLC0415 - the other commands start without it

        async with aiohttp.ClientSession() as http:
            token = await self._paired(http, code, name) if code is not None else self._kept()
            for wait in (*AGAIN_SECONDS, *([AGAIN_SECONDS[-1]] * 100_000)):
                try:
                    ended = await self._connected(http, token)
                except aiohttp.WSServerHandshakeError as error:
                    if error.status in (401, 403):
                        raise Refused(
                            "The gateway does not let this node in: pair it again.", code="forbidden"
                        ) from None
                    ended = f"the gateway answered {error.status}"
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    ended = str(error) or type(error).__name__
                self._told(f"Not connected: {ended}.")
                if once or ended == "revoked":
                    return FAILED if ended == "revoked" else DONE
                await asyncio.sleep(wait)
        return DONE

    def _kept(self) -> str:
        try:
            return self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise WrongUsage(f"There is no token in {self._token_file}: pair this machine with --code.") from None

    async def _paired(self, http: "aiohttp.ClientSession", code: str, name: str) -> str:
        asked = await self._post(http, "/v1/devices/pair", {"code": code, "name": name, "platform": _platform()})
        self._told(f"Waiting to be approved, as {name!r}: `node.pair.approve` of {asked['requestId']}.")
        while True:
            order = {"requestId": asked["requestId"], "secret": asked["secret"]}
            stands = await self._post(http, "/v1/devices/claim", order)
            if stands["status"] == "rejected":
                raise Refused("This machine was not approved.", code="rejected")
            if stands["status"] == "approved":
                token = str(stands["token"])
                await asyncio.to_thread(_keep, self._token_file, token)
                self._told(f"Paired as {stands['deviceId']}; the token is in {self._token_file}.")
                return token
            await asyncio.sleep(POLL_SECONDS)

    async def _post(self, http: "aiohttp.ClientSession", path: str, body: dict[str, Any]) -> dict[str, Any]:
        import aiohttp  # noqa: PLC0415 - the other commands start without it

        try:
            async with http.post(self._url + path, json=body) as reply:
                answer: dict[str, Any] = await reply.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise GatewayUnreachable(f"{self._url} does not answer: {str(error) or type(error).__name__}.") from None
        if reply.status >= 400:
            raise Refused(str(answer.get("detail", "refused")), code=str(answer.get("code", "refused")))
        return answer

    async def _connected(self, http: "aiohttp.ClientSession", token: str) -> str:
        """One connection to its end; why it ended."""
        import aiohttp  # noqa: PLC0415 - the other commands start without it

        headers = {"Authorization": f"Bearer {token}"}
        async with http.ws_connect(self._url + "/ws", headers=headers, heartbeat=30) as socket:
            told = {
                "platform": _platform(),
                "version": __version__,
                "commands": COMMANDS,
                "capabilities": ("terminal",),
            }
            await _send(socket, {"id": WELCOME, "method": "node.connect", "params": told})
            reason = "the connection ended"
            try:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        self._take(socket, loads(message.data))
                if socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION:
                    reason = "revoked"
            finally:
                for task in self._running.values():
                    task.cancel()
                if self._running:
                    await asyncio.wait(self._running.values())
            return reason

    def _take(self, socket: "aiohttp.ClientWebSocketResponse", frame: dict[str, Any]) -> None:
        match frame.get("method"):
            case "node.invoke":
                call = frame["params"]
                task = asyncio.ensure_future(self._answer(socket, call))
                self._running[call["id"]] = task
                task.add_done_callback(lambda _: self._running.pop(call["id"], None))
            case "node.cancel":
                running = self._running.get(frame["params"]["id"])
                if running is not None:
                    running.cancel()
            case "voicewake.changed":
                self._told(f"Wake words: {', '.join(frame['params']['triggers'])}.")
            case None if frame.get("id") == WELCOME:
                if "error" in frame:
                    raise Refused(str(frame["error"].get("message")), code="refused")
                self._told(f"Connected as {frame['result']['name']} ({frame['result']['nodeId']}).")

    async def _answer(self, socket: "aiohttp.ClientWebSocketResponse", call: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": call["id"]}
        try:
            answer["result"] = await self._doer.do(str(call["command"]), call.get("params") or {})
        except CarrelError as error:
            answer["error"] = {"code": error.code, "message": error.message}
        with contextlib.suppress(ConnectionError):
            # The connection is gone, and with it whoever asked.
            await _send(socket, {"id": call["id"], "method": "node.result", "params": answer})


def _as_json(text: str) -> None:
    screen.show_json({"note": text}, indent=None)


def _send(socket: "aiohttp.ClientWebSocketResponse", call: dict[str, Any]) -> Coroutine[Any, Any, None]:
    return socket.send_str(dumps({"jsonrpc": "2.0", **call}))


def _platform() -> str:
    return f"{platform.system()} {platform.machine()}"


def _keep(path: Path, token: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(token + "\n")
