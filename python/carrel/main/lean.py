"""Libraries loaded without what they bring along and a gateway never calls: see ADR 0004.

A library that imports a module for a function that nobody here calls is given a stand-in while it is loaded, and only
then: who imports that module later gets the real one. What is left out, and of whom:

- structlog: `rich`, for tracebacks in colour that a log here never holds;
- pydantic: `importlib.metadata`, for plugins. None is wanted: what is installed beside Carrel takes no part in what is
  valid;
- prometheus_client: the HTTP servers of the standard library;
- watchfiles: processes started anew at a change;
- html: its table of two thousand named characters, which only `html.unescape` reads;
- aiohttp: its command line, and the machine's certificate authorities. It reads them when it is loaded, for connections
  that say nothing of trust; each of ours brings its own (`egress`, `relay`, `channels`). One that forgot would trust
  nobody.
"""

import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

LEFT_OUT: Final = (
    "rich", "importlib.metadata", "http.server", "socketserver", "wsgiref.simple_server",
    "watchfiles.run", "multiprocessing", "argparse",
    "html.entities",
)  # fmt: skip
"""What an idle gateway has not loaded for all that."""


class _StandIn(ModuleType):
    """A module in which every name is an empty class that can be called with anything, and then gives nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Nothing,), {})


class _Nothing:
    def __new__(cls, *_: object, **__: object) -> tuple[()]:  # type: ignore[misc] # a plugin loader goes through it
        return ()


@contextmanager
def without(*names: str) -> Iterator[None]:
    """What is imported here gets a stand-in for each of ``names`` that is not loaded yet."""
    made = {name: _StandIn(name) for name in names if name not in sys.modules}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextmanager
def _trusting_nobody() -> Iterator[None]:
    """A default context made here knows no authority, and so refuses every certificate."""
    real = ssl.create_default_context
    ssl.create_default_context = lambda *_, **__: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        yield
    finally:
        ssl.create_default_context = real


def load() -> None:
    """Load them; called once, before anything else of the gateway is imported."""
    # Which is how an import is told that there is none. For good: structlog's tracebacks look for it once more.
    sys.modules["rich"] = None  # type: ignore[assignment]
    with without("importlib.metadata"):
        import pydantic.plugin._loader  # noqa: F401, PLC0415 - only to load it
    with without("http.server", "socketserver", "wsgiref.simple_server"):
        import prometheus_client  # noqa: F401, PLC0415 - only to load it
    with without("watchfiles.run"):
        import watchfiles  # noqa: F401, PLC0415 - only to load it
    with without("argparse", "html.entities"), _trusting_nobody():
        import aiohttp.web  # noqa: F401, PLC0415 - only to load it
