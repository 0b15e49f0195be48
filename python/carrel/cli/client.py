"""The way to a gateway: its control socket, or its address with an admin key."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ValidationError

from carrel.cli import screen
from carrel.cli.failures import GatewayUnreachable, NotUnderstood, Refused, WrongUsage
from carrel.cli.options import Target
from carrel.cli.waiting import told_when_slow
from carrel.errors import CarrelError
from carrel.wire.sse import ServerSentEvent, SseDecoder

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 120.0
STREAM_STALL_SECONDS: Final = 180.0
LONGEST_SECONDS: Final = 24 * 3600.0
MOST_AT_ONCE: Final = "1000"
_MAX_KEY_BYTES: Final = 4096
_MAX_SHOWN: Final = 500


def ask(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end. An interrupt cancels it, and with it what it asked of the gateway."""
    return asyncio.run(work)


def request(
    target: Target, method: str, path: str, body: BaseModel | bytes | None = None, *,
    query: Mapping[str, str] | None = None, patience: float | None = None,
) -> Any:  # fmt: skip
    """One question to a gateway: the JSON of its answer, which may take ``patience`` seconds, or else two minutes."""

    async def work() -> Any:
        async with Client(target) as client, told_when_slow():
            return await client.send(method, path, body, query, patience=patience)

    return ask(work())


def request_text(target: Target, path: str, query: Mapping[str, str] | None = None) -> str:
    """One question to a gateway that is answered in plain text."""

    async def work() -> str:
        async with Client(target) as client, told_when_slow():
            return await client.text("GET", path, query=query)

    return ask(work())


def whole(target: Target, path: str, of: str, query: Mapping[str, str] | None = None) -> Any:
    """The list at ``path``, page after page, as one answer; ``of`` is the field that has the entries."""

    async def work() -> Any:
        document: Any = None
        after: str | None = ""
        async with Client(target) as client, told_when_slow():
            while after is not None:
                cursor = {"cursor": after} if after else {}
                page = await client.get(path, {**(query or {}), "limit": MOST_AT_ONCE, **cursor})
                document, after = joined(document, page, of)
        return document

    return ask(work())


def joined(document: Any, page: Any, of: str) -> tuple[Any, str | None]:
    """``document`` with one ``page`` more of its list ``of``, and the cursor of the next, None at the end."""
    if not isinstance(page, dict) or not isinstance(page.get(of), list):
        return page, None
    after = page.pop("next", None)
    if document is None:
        document = page
    else:
        document[of] += page[of]
    return document, None if after is None else str(after)


def path_of(*parts: str) -> str:
    """A path under /v1 of the control plane, each part quoted."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def understand(model: type[M], document: Any) -> M:
    """``document`` as ``model``; raises NotUnderstood where the gateway speaks another version."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise NotUnderstood(
            f"The gateway's answer is not as expected at {where or 'its root'}: is it of another version? "
            "`carrel --version` and the gateway's /healthz say which they are."
        ) from error


class Client:
    """One connection's worth of questions. Enter it, ask, leave it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session: aiohttp.ClientSession | None = None
        self.place = _place(target)

    async def __aenter__(self) -> Self:
        import aiohttp  # noqa: PLC0415 - heavy, and most of what `carrel` is asked needs none of it

        url, headers = self._target.url, {"Accept": "application/json, text/event-stream"}
        connector: aiohttp.BaseConnector
        if url is None:
            connector, base = aiohttp.UnixConnector(path=str(socket_path(self._target))), "http://localhost"
        else:
            connector, base = aiohttp.TCPConnector(), url
            headers["Authorization"] = f"Bearer {admin_key(self._target)}"
        self._session = aiohttp.ClientSession(base, connector=connector, headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON at ``path``."""
        return await self.send("GET", path, query=query)

    async def send(
        self, method: str, path: str, body: BaseModel | bytes | None = None, query: Mapping[str, str] | None = None,
        *, patience: float | None = None,
    ) -> Any:  # fmt: skip
        """The JSON that ``method`` on ``path`` answers with, None where it has no body."""
        text = await self.text(method, path, body, query, patience=patience)
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            raise NotUnderstood(f"What answers {self.place} is no Carrel gateway: its answer is not JSON.") from error

    async def upload(self, path: str, file: BinaryIO, query: Mapping[str, str] | None = None) -> Any:
        """The JSON that a POST of all of ``file`` to ``path`` answers with, however long that takes."""
        async with self._request("POST", path, file, query, stall=LONGEST_SECONDS) as response:
            return json.loads(await response.text())

    async def download(self, path: str, file: BinaryIO) -> None:
        """Write what is at ``path`` to ``file``."""
        async with self._request("GET", path, None, None, stall=LONGEST_SECONDS) as response:
            async for chunk in response.content.iter_any():
                file.write(chunk)

    async def text(
        self, method: str, path: str, body: BaseModel | bytes | None = None, query: Mapping[str, str] | None = None,
        *, patience: float | None = None,
    ) -> str:  # fmt: skip
        """The text that ``method`` on ``path`` answers with."""
        async with self._request(method, path, body, query, stall=patience) as response:
            return await response.text(encoding="utf-8", errors="replace")

    async def events(self, path: str, body: BaseModel) -> AsyncGenerator[ServerSentEvent, None]:
        """The events that a POST to ``path`` is answered with, as they come. Closing the iterator ends the request."""
        async with self._request("POST", path, body, None, stall=STREAM_STALL_SECONDS) as response:
            decoder = SseDecoder()
            async for chunk in response.content.iter_any():
                for event in decoder.feed(chunk):
                    yield event
            for event in decoder.finish():
                yield event

    @asynccontextmanager
    async def socket(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator["aiohttp.ClientWebSocketResponse"]:
        """A WebSocket at ``path``."""
        import aiohttp  # noqa: PLC0415 - imported already, when this was entered

        if self._session is None:
            raise CarrelError("The client was not entered.")
        try:
            async with self._session.ws_connect(path, params=query, heartbeat=30.0, max_msg_size=0) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            raise Refused(
                f"The gateway at {self.place} does not open a WebSocket (status {error.status}).", code="refused",
                status=error.status,
            ) from error  # fmt: skip
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            raise GatewayUnreachable(self._unreachable(error)) from error

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        body: BaseModel | bytes | BinaryIO | None,
        query: Mapping[str, str] | None,
        *,
        stall: float | None,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        import aiohttp  # noqa: PLC0415 - imported already, when this was entered

        if self._session is None:
            raise CarrelError("The client was not entered.")
        data = body.model_dump_json(exclude_unset=True).encode() if isinstance(body, BaseModel) else body
        limits = aiohttp.ClientTimeout(
            total=ANSWER_SECONDS if stall is None else None, sock_connect=CONNECT_SECONDS, sock_read=stall
        )
        try:
            async with self._session.request(
                method, path, data=data, params=query, timeout=limits, allow_redirects=False,
                headers={"Content-Type": "application/json"} if isinstance(data, bytes) else None,
            ) as response:  # fmt: skip
                if response.status >= 300:
                    raise await self._refusal(response)
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            if isinstance(error, aiohttp.SocketTimeoutError):
                raise Refused(f"The gateway at {self.place} sent nothing for too long.", code="timeout") from error
            raise GatewayUnreachable(self._unreachable(error)) from error
        except TimeoutError as error:
            raise Refused(
                f"The gateway at {self.place} did not answer within {ANSWER_SECONDS:g} s; what was asked may still "
                "be done: `carrel status` shows it.", code="timeout",
            ) from error  # fmt: skip
        except aiohttp.ClientError as error:
            raise Refused(
                f"The connection to the gateway at {self.place} was lost before its answer ended; what was asked "
                "may have been done.", code="connection_lost",
            ) from error  # fmt: skip

    async def _refusal(self, response: "aiohttp.ClientResponse") -> CarrelError:
        text = await response.text(encoding="utf-8", errors="replace")
        request_id = response.headers.get("X-Request-Id")
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if isinstance(said, dict) and isinstance(said.get("error"), dict):
            said = {"detail": said["error"].get("message"), **(said["error"].get("data") or {})}
        if not isinstance(said, dict) or "detail" not in said:
            page = response.content_type == "text/html"
            shown = "with a page" if page else screen.one_line(text[:_MAX_SHOWN]) or "with no text"
            return NotUnderstood(f"What answers {self.place} is no Carrel gateway: status {response.status}, {shown}")
        if response.status == 401:
            said["detail"] = f"The gateway at {self.place} does not know this admin key. {_CREDENTIAL_ADVICE}"
        return Refused(
            str(said["detail"]), code=str(said.get("code", "refused")), status=response.status, request_id=request_id
        )

    def _unreachable(self, error: OSError) -> str:
        if self._target.url is not None:
            return f"No gateway answers at {self.place} ({_reason(error)}): is it running there?"
        socket = socket_path(self._target)
        if isinstance(error.__cause__, PermissionError) or error.errno in (1, 13):
            return (
                f"The control socket {socket} is not yours to use: run this as root, as the gateway's user or as "
                "the one who started it, or use --url with an admin key."
            )
        started = "it was stopped or killed" if _is_socket(socket) else "there is no such socket"
        return (
            f"No gateway runs with the state directory {self._target.state} ({started}). Start one with "
            "`carrel gateway`, or name its state directory with --state-dir or its address with --url."
        )


_CREDENTIAL_ADVICE: Final = (
    "Its `_gateway.yaml` declares those that it knows (admin_keys); say one with CARREL_ADMIN_KEY or --admin-key-file."
)


def socket_path(target: Target) -> Path:
    """The control socket of ``target``."""
    return target.state / "run" / "control.sock"


def admin_key(target: Target) -> str:
    """The admin key from the file or the environment; raises WrongUsage, and never shows what it read."""
    file = target.admin_key_file
    if file is not None:
        try:
            text = file.read_bytes()[:_MAX_KEY_BYTES].decode("ascii")
        except OSError as error:
            raise WrongUsage(f"The admin key's file {file} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise WrongUsage(f"The file {file} holds no admin key: it is not plain text.") from error
        source = f"the file {file}"
    else:
        text, source = os.environ.get("CARREL_ADMIN_KEY", ""), "CARREL_ADMIN_KEY"
    key = text.strip()
    if not key:
        raise WrongUsage("--url needs an admin key: set CARREL_ADMIN_KEY, or name a file with --admin-key-file.")
    if not key.startswith("ak_") or not key.isascii() or not key.isprintable() or " " in key:
        raise WrongUsage(f"What {source} holds is no admin key: those look like ak_<name>_<32 hex>.")
    return key


def _place(target: Target) -> str:
    if target.url is None:
        return str(socket_path(target))
    parts, port = urlsplit(target.url), -1
    with contextlib.suppress(ValueError):
        port = parts.port or 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port < 0:
        raise WrongUsage(f"--url takes http://HOST:PORT or https://HOST, not {target.url!r}.")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username or parts.password:
        raise WrongUsage("--url takes only a scheme, a host and a port: no path, query or password.")
    return f"{parts.scheme}://{parts.netloc}"


def _reason(error: OSError) -> str:
    import aiohttp  # noqa: PLC0415 - imported already, by what failed

    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "it does not speak TLS: try http://"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host is known"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else "it cannot be connected to"


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
