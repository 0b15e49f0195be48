"""`POST /v1/chat/completions`."""

from typing import Final

from aiohttp import web

from carrel.http.exchange import Exchange
from carrel.http.model_calls import call
from carrel.http.routes import Route


async def chat_completions(exchange: Exchange) -> web.StreamResponse:
    """One completion, streaming or not."""
    return await call(exchange, "chat")


ROUTES: Final = (
    Route("POST", "/v1/chat/completions", chat_completions, "tenant-chat", "A completion, by an agent or a model.",
          dialect="openai", counts=True),
)  # fmt: skip
