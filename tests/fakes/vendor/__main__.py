"""``python -m tests.fakes.vendor --port N``: the fake vendor by itself, for trials and benchmarks."""

import argparse
import asyncio
import contextlib

from tests.fakes.vendor.server import FakeVendor


async def serve(host: str, port: int) -> None:
    """Serve until interrupted."""
    async with FakeVendor(host=host, port=port) as vendor:
        print(f"fake vendor on {vendor.url}", flush=True)  # noqa: T201 - its user interface
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.vendor", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.host, arguments.port))
