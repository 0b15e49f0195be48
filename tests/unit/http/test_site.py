"""The pages: what they may load, and that they are made so that they work under it."""

import asyncio
import gc
import hashlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from carrel.http import site
from carrel.http.exchange import Exchange
from tests.fakes.edge import Edge

STATIC = Path(site.__file__).parent / "static"
INLINE = re.compile(r"""\son[a-z]+\s*=|\sstyle\s*=|javascript:|<script(?![^>]*\bnonce=)|eval\(|innerHTML""")


async def test_S6_03_a_page_has_a_policy_with_a_nonce_of_its_own(edge: Edge, client: aiohttp.ClientSession) -> None:
    nonces = set()
    for _ in range(2):
        async with client.get(f"{edge.url}/terminal") as reply:
            page, policy = await reply.text(), reply.headers["Content-Security-Policy"]
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["X-Frame-Options"] == "DENY"
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
        nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
        assert nonce is not None
        assert f'nonce="{nonce[1]}"' in page
        nonces.add(nonce[1])
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert len(nonces) == 2


async def test_what_pages_load_is_there_and_nothing_else(edge: Edge, client: aiohttp.ClientSession) -> None:
    page = (STATIC / "terminal.html").read_text()
    loaded = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    for file in STATIC.glob("*.mjs"):
        loaded += [f"/static/{name}" for name in re.findall(r'from "\./([^"]+)"', file.read_text())]
    assert len(loaded) > 6
    for path in loaded:
        async with client.get(edge.url + path) as reply:
            assert reply.status == 200, path
            tag = reply.headers["ETag"]
        async with client.get(edge.url + path, headers={"If-None-Match": tag}) as reply:
            assert reply.status == 304
    for path in ("vendor/vendor.json", "../app.py", "terminal.html", "..%2fapp.py", "vendor/../../app.py"):
        async with client.get(f"{edge.url}/static/{path}") as reply:
            assert reply.status == 404


def test_S6_03_no_page_has_anything_that_its_policy_refuses() -> None:
    for file in (*STATIC.glob("*.html"), *STATIC.glob("*.mjs")):
        assert not INLINE.search(file.read_text()), file.name


async def test_a_file_is_read_once_for_all_whom_it_is_being_sent_and_not_to_say_that_it_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [asset] = [route.handler for route in site.routes() if route.path.startswith("/static/")]
    read, hashed = [], []
    whole, sha256 = Path.read_bytes, hashlib.sha256

    def reading(path: Path) -> bytes:
        read.append(path.name)
        return whole(path)

    def hashing(content: bytes) -> object:
        hashed.append(len(content))
        return sha256(content)

    monkeypatch.setattr(Path, "read_bytes", reading)
    monkeypatch.setattr(hashlib, "sha256", hashing)

    async def get(name: str = "vendor/xterm.mjs", tag: str = "") -> web.Response:
        request = make_mocked_request("GET", f"/static/{name}", {"If-None-Match": tag}, match_info={"file": name})
        return cast(web.Response, await asset(cast(Exchange, SimpleNamespace(request=request))))

    sent = await asyncio.gather(*(get() for _ in range(5)))
    assert sent[0].body == whole(STATIC / "vendor" / "xterm.mjs")
    assert all(one.body is sent[0].body for one in sent)
    assert read == ["xterm.mjs"]
    tag = sent[0].headers["ETag"]
    del sent
    for _ in range(3):
        await asyncio.sleep(0)  # the loop lets go of what it ran last
    gc.collect()
    assert [(await get(tag=tag)).status for _ in range(3)] == [304] * 3
    assert read == ["xterm.mjs"]
    again = await get(tag='"another"')
    assert (again.status, again.headers["ETag"]) == (200, tag)
    assert (read, len(hashed)) == (["xterm.mjs"] * 2, 1), "nobody was sent it, so it was not kept; its tag was"
    assert (await get("terminal.css")).headers["ETag"] != tag
