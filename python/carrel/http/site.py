"""The pages that the gateway serves to browsers, and what they may load: nothing that is not in the package.

Each answer has a nonce of its own in its policy; nothing in a page runs without it. What is not ours lies under
``static/vendor`` with its licence and digests.
"""

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from aiohttp import web

from carrel.errors import NotFound
from carrel.http.exchange import Exchange
from carrel.http.routes import Route

_STATIC: Final = Path(__file__).with_name("static")
_FILES: Final = {
    "terminal.css": "text/css", "terminal.mjs": "text/javascript", "link.mjs": "text/javascript",
    "inert.mjs": "text/javascript", "vendor/xterm.css": "text/css", "vendor/xterm.mjs": "text/javascript",
    "vendor/addon-fit.mjs": "text/javascript", "vendor/addon-unicode11.mjs": "text/javascript",
}  # fmt: skip
_NONCE: Final = "NONCE"
_POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Final = {
    "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin", "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}  # fmt: skip


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _File:
    content: bytes
    tag: str


_SENT: Final = web.ResponseKey("sent", _File)
"""What an answer sends, so that it is there for as long as the answer is."""


class _Files:
    """What pages load, hashed at its first reading alone.

    A file is in memory once for all answers with it, until the last of their connections goes on to another or ends.
    """

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self._sent: WeakValueDictionary[str, _File] = WeakValueDictionary()
        self._reading = asyncio.Lock()

    async def get(self, name: str) -> _File:
        async with self._reading:
            found = self._sent.get(name)
            if found is None:
                found = self._sent[name] = await asyncio.to_thread(self._read, name)
                self.tags[name] = found.tag
            return found

    def _read(self, name: str) -> _File:
        content = (_STATIC / name).read_bytes()
        return _File(content, self.tags.get(name) or f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def routes() -> tuple[Route, ...]:
    """The pages, read once, and what they load, read as it is asked for: half a megabyte that is rarely."""
    page = (_STATIC / "terminal.html").read_text(encoding="utf-8")
    files = _Files()

    async def terminal(exchange: Exchange) -> web.StreamResponse:
        """The web terminal."""
        nonce = secrets.token_urlsafe(16)
        policy = _POLICY.format(nonce=nonce)
        headers = {**PAGE_HEADERS, "Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return web.Response(text=page.replace(_NONCE, nonce), content_type="text/html", headers=headers)

    async def asset(exchange: Exchange) -> web.StreamResponse:
        """A file that a page loads."""
        name = exchange.request.match_info["file"]
        if name not in _FILES:
            raise NotFound("There is no such file.")
        found = None if name in files.tags else await files.get(name)
        headers = {**PAGE_HEADERS, "ETag": files.tags[name], "Cache-Control": "no-cache"}
        if exchange.request.headers.get("If-None-Match") == files.tags[name]:
            return web.Response(status=304, headers=headers)
        found = found or await files.get(name)
        response = web.Response(body=found.content, content_type=_FILES[name], charset="utf-8", headers=headers)
        response[_SENT] = found
        return response

    return (
        Route("GET", "/terminal", terminal, "public", "The web terminal.", media="text/html"),
        Route("GET", "/static/{file:.+}", asset, "public", "What pages load.", media="text/javascript"),
    )
