"""What an idle gateway holds in memory: nothing that only a command line, or a first use of something, needs."""

import os
import signal
import sys

from carrel.main.lean import LEFT_OUT
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.system.conftest import StartGateway

PROGRAM = """
import signal, sys
def tell(*_):
    sys.stdout.write("loaded: " + " ".join(sorted(name for name, module in sys.modules.items() if module)) + "\\n")
    sys.stdout.flush()
signal.signal(signal.SIGUSR1, tell)
sys.argv[0] = "carrel"
from carrel.main.console import run
run()
"""
"""The console script, which besides tells what it has imported."""

LATER = {
    "jsonschema": "a tool's first call",
    "cryptography": "a change, whose line in the audit log is signed",
    "ruamel": "a first edit",
    "carrel.http.rpc.methods": "a method's first call",
}
RARE = ("csv", "difflib", "tarfile", "tomllib")
"""What only some uses need: a report as CSV, a name that is wrong, an archive, an OCI runtime."""
NEVER = ("openai", "anthropic", "httpx", "httpx2", "cyclopts", "rich", "pygments", "anyio.streams", "carrel.cli.app")


def loaded(gateway: GatewayProcess) -> set[str]:
    """The names of the modules that the gateway has imported by now."""
    assert gateway.process is not None
    before = len(gateway.output)
    os.kill(gateway.process.pid, signal.SIGUSR1)
    assert until(lambda: any(line.startswith("loaded: ") for line in gateway.output[before:])), gateway.text
    return next(set(line.split()[1:]) for line in gateway.output[before:] if line.startswith("loaded: "))


def test_an_idle_gateway_holds_no_command_line_no_sdk_and_nothing_for_later(new_gateway: StartGateway) -> None:
    gateway = new_gateway(program=(sys.executable, "-c", PROGRAM)).start()
    # The first start of a state directory makes a key and signs with it.
    assert gateway.stop() == 0
    gateway.start()
    idle = loaded(gateway)
    assert {"carrel.main.gateway", "aiohttp.web", "structlog"} <= idle
    assert not {name for name in (*NEVER, *RARE, *LATER, *LEFT_OUT) if name in idle}

    answer = gateway.rpc("sessions.send", {"message": "run: echo here"})
    assert "here" in str(answer)
    done = gateway.cli("tenants", "create", "widgets")
    assert done.returncode == 0, done.stderr
    used = loaded(gateway)
    assert set(LATER) <= used
    assert not {name for name in NEVER if name in used}
