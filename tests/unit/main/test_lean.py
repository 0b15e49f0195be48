"""Libraries without what they bring along: it is not loaded, and whoever wants it later gets the real one."""

import importlib
import json
import ssl
import subprocess
import sys

import pytest

from carrel.main.lean import LEFT_OUT, without

PROGRAM = """
import json, ssl, sys
from carrel.main import lean
real = ssl.create_default_context
lean.load()
loaded = sorted(name for name, module in sys.modules.items() if module)
import aiohttp.connector, argparse, html, importlib.metadata, pydantic
trust = aiohttp.connector._SSL_CONTEXT_VERIFIED
class Model(pydantic.BaseModel):
    number: int
print(json.dumps({
    "loaded": loaded, "real": ssl.create_default_context is real, "authorities": len(trust.get_ca_certs()),
    "verifies": trust.verify_mode == ssl.CERT_REQUIRED and trust.check_hostname,
    "parses": argparse.ArgumentParser().parse_args([]) is not None, "version": importlib.metadata.version("aiohttp"),
    "number": Model(number="3").number, "escaped": html.escape("<&"),
}))
"""


def test_libraries_are_loaded_without_what_nobody_calls_and_it_is_there_for_who_asks() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {"aiohttp.web", "prometheus_client", "pydantic", "watchfiles"} <= set(found["loaded"])
    assert not set(LEFT_OUT) & set(found["loaded"])
    assert found["parses"]
    assert found["version"]
    assert found["number"] == 3
    assert found["escaped"] == "&lt;&amp;"


def test_a_connection_that_says_nothing_of_trust_trusts_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["real"]
    assert found["authorities"] == 0
    assert found["verifies"]


def test_a_stand_in_is_there_only_meanwhile_and_never_for_what_is_loaded() -> None:
    with without("carrel_left_out", "json", "ssl"):
        stand_in = importlib.import_module("carrel_left_out")
        assert list(stand_in.anything(of="whatever")) == []
        assert importlib.import_module("json") is json
        with pytest.raises(AttributeError):
            _ = stand_in.__path__
    assert importlib.import_module("ssl") is ssl
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("carrel_left_out")
