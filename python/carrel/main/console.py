"""The console script: the command line, with the start of the gateway handed in."""

import sys

from carrel.cli.app import build_app, execute
from carrel.cli.options import GatewayOptions


def run() -> None:
    """The entry point of ``carrel``."""
    sys.exit(execute(build_app(start_gateway)))


def start_gateway(options: GatewayOptions) -> int:
    """Run the gateway in the foreground and give its exit status; imported only when asked for."""
    from carrel.main.gateway import run_gateway  # noqa: PLC0415 - the command line starts without the gateway

    return run_gateway(options)
