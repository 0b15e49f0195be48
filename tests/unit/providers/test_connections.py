"""The HTTP clients' settings."""

import subprocess
import sys

from carrel.declare.gateway import ProviderConfig
from carrel.providers.connections import client_options, shared_tls, transport_errors


def test_only_connecting_has_a_time_limit_of_its_own() -> None:
    options = client_options(ProviderConfig(kind="openai", first_byte_seconds=3.0, max_connections=7), None)
    assert (options.timeout.connect, options.timeout.read, options.timeout.pool) == (3.0, None, None)
    assert options.client["limits"].max_connections == 7
    assert options.client["follow_redirects"] is False
    assert options.client["verify"] is shared_tls()
    assert issubclass(ConnectionError, OSError)
    assert all(issubclass(error, Exception) for error in transport_errors())


def test_a_start_pays_for_no_sdk() -> None:
    script = (
        "import sys, carrel.providers.registry, carrel.providers.anthropic, carrel.providers.openai;"
        "print([m for m in ('openai', 'anthropic', 'httpx2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
