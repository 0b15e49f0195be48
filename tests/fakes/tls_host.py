"""A host of the public internet's kind, as a process of its own: ``python -m tests.fakes.tls_host ADDRESS``.

It answers over TLS what it was asked, as JSON; prints its port and its root certificate's path, and then each request.
"""

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path

from aiohttp import web

from carrel.clock import SystemClock
from carrel.declare.hosts import canonical
from carrel.egress.authority import Authority


async def serve(address: str) -> None:
    """Answer until ended by SIGTERM, and leave nothing behind."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def mirror(request: web.BaseRequest) -> web.StreamResponse:
        body = (await request.read()).decode("utf-8", "replace")
        told = {"method": request.method, "path": str(request.rel_url), "headers": dict(request.headers), "body": body}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        return web.json_response(told)

    authority = Authority("a public root", SystemClock())
    listener = await asyncio.get_running_loop().create_server(
        web.Server(mirror), address, 0, ssl=authority.context(canonical(address))
    )
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        root = Path(directory) / "root.pem"
        root.write_bytes(authority.certificate)
        sys.stdout.write(f"{listener.sockets[0].getsockname()[1]} {root}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
