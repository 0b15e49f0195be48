"""Bodies read within their limits of size and time, and turned into models at once."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import StreamReader, web
from pydantic import BaseModel, ValidationError

from carrel.errors import CarrelError, InvalidRequest, TooLarge, lacking
from carrel.http.errors import RequestTimeout, UnsupportedEncoding
from carrel.http.services import Limits
from carrel.wire.wording import wording

M = TypeVar("M", bound=BaseModel)
_LINGER_BYTES: Final = 256 * 1024
_LINGER_SECONDS: Final = 1.0
_WHOLE_BYTES: Final = 64 << 20
_WHOLE_SECONDS: Final = 5.0


async def read_body(request: web.BaseRequest, *, limit: int, limits: Limits) -> bytes:
    """The body; raises TooLarge before reading what is announced as too large, RequestTimeout, UnsupportedEncoding."""
    announced = request.content_length
    if announced is not None and announced > limit:
        raise _too_large(limit)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding("Send the body without Content-Encoding.")
    content = request.content
    if request.headers.get("Expect", "").lower() == "100-continue" and not content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # What an interim response took is not part of the answer.
        request.writer.output_size = 0
    if content.is_eof():
        # It came with its headers: no wait to bound, and no clock to ask.
        try:
            whole = content.read_nowait()
        except web.RequestPayloadError:
            raise _misframed() from None
        if len(whole) > limit:
            raise _too_large(limit)
        return whole
    return await _arriving(content, limit, limits)


async def _arriving(content: StreamReader, limit: int, limits: Limits) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                async with asyncio.timeout(limits.body_stall_seconds):
                    chunk = await content.readany()
                if not chunk:
                    break
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise RequestTimeout("The body came too slowly; the connection is closed.") from None
    except web.RequestPayloadError:
        raise _misframed() from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def spool_body(request: web.BaseRequest, path: Path, *, limits: Limits) -> None:
    """Write the body to the new file ``path``; raises RequestTimeout where nothing more comes, StorageFailed."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding("Send the body without Content-Encoding.")
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    try:
        with path.open("xb") as file:
            while True:
                async with asyncio.timeout(limits.body_stall_seconds):
                    chunk = await request.content.readany()
                if not chunk:
                    break
                await asyncio.to_thread(file.write, chunk)
    except TimeoutError:
        raise RequestTimeout("The body came too slowly; the connection is closed.") from None
    except web.RequestPayloadError:
        raise _misframed() from None
    except OSError as error:
        raise lacking(error, "the body could not be kept, and nothing was done") or CarrelError(
            f"The body could not be kept: {error.strerror}."
        ) from error


def _misframed() -> InvalidRequest:
    return InvalidRequest("The body is not framed as its headers say.")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is over {limit} bytes, the most that is taken here.", details={"limit_bytes": limit})


async def answer_and_close(request: web.BaseRequest, response: web.Response, *, known: bool) -> web.Response:
    """Send ``response`` and close, reading no more than a little of a body that is still on its way.

    That little lets a client that is still sending see the answer instead of a reset. Clients that send all before they
    read see it only where all is taken: so it is of a caller who is ``known``, where it is not too much for that.
    """
    announced = request.content_length
    whole = known and announced is not None and announced <= _WHOLE_BYTES
    most, seconds = (_WHOLE_BYTES, _WHOLE_SECONDS) if whole else (_LINGER_BYTES, _LINGER_SECONDS)
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    seen = 0
    with contextlib.suppress(TimeoutError, web.RequestPayloadError, ConnectionError):
        async with asyncio.timeout(seconds):
            while seen < most and not request.content.is_eof():
                seen += len(await request.content.readany())
    request.protocol.force_close()
    return response


def parse_model(model: type[M], body: bytes) -> M:
    """``body`` as ``model``; raises InvalidRequest that names the field's path."""
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> InvalidRequest:
    """A failed validation as one sentence and the path of its first problem."""
    problems = error.errors(include_url=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        return InvalidRequest(f"The body is not JSON: {first['msg']}.")
    path = path_of(first["loc"])
    rest = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    said = f"{path} is missing" if first["type"] == "missing" and path else f"{path or 'body'}: {wording(first)}"
    return InvalidRequest(f"{said}{rest}.", param=path or None)


def path_of(location: tuple[int | str, ...]) -> str:
    """A pydantic location as `quotas.tokens_per_day` or `keys[0]`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path
