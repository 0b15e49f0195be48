"""The pages: what they may load, and that they are made so that they work under it."""

import re
from pathlib import Path

import aiohttp

from carrel.http import site
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
