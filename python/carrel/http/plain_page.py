"""Pages of a few sentences for a person in a browser: no script, nothing loaded, nothing told to where they go next."""

import html
import secrets
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from carrel.http.site import PAGE_HEADERS

_POLICY: Final = (
    "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex"><title>{title}</title>
<style nonce="{nonce}">
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto 0; padding: 0 1rem; color: #1c1c1c }}
h1 {{ font-size: 1.3rem }} li {{ font-family: ui-monospace, monospace; font-size: .9rem }}
a {{ display: inline-block; padding: .5rem 1rem; border-radius: .3rem; background: #1c4fd6; color: #fff;
  text-decoration: none }}
@media (prefers-color-scheme: dark) {{ body {{ background: #141414; color: #e6e6e6 }} }}
</style>
<main><h1>{title}</h1>
{body}
</main></html>
"""


def plain_page(
    title: str,
    *paragraphs: str,
    items: Sequence[str] = (),
    go_on: tuple[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    """A page. ``go_on`` is where its one link leads, and what that says. Everything in it is text, and stays so."""
    nonce = secrets.token_urlsafe(16)
    parts = [f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs]
    if items:
        parts.insert(1, "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>")
    if go_on is not None:
        where, said = go_on
        parts.append(f'<p><a href="{html.escape(where)}" rel="noreferrer">{html.escape(said)}</a></p>')
    text = _PAGE.format(title=html.escape(title), nonce=nonce, body="\n".join(parts))
    headers = {**PAGE_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce), "Cache-Control": "no-store"}
    return web.Response(text=text, content_type="text/html", status=status, headers=headers)
