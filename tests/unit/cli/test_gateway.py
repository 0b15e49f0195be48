from pathlib import Path

from carrel.cli.gateway_options import GatewayOptions
from tests.unit.cli.conftest import CommandLine


def test_the_defaults(carrel: CommandLine) -> None:
    assert carrel.run("gateway").code == 0
    assert carrel.started == [
        GatewayOptions("127.0.0.1", 18789, Path("tenants.d"), carrel.state, None, "info", False, True, True)
    ]


def test_everything_said(carrel: CommandLine) -> None:
    words = "gateway --listen [::1]:9 --tenants-dir /t --state-dir /s --secrets-dir /k --log-level debug --log-json"
    assert carrel.run(*words.split(), "--no-trial").code == 0
    assert carrel.started == [GatewayOptions("::1", 9, Path("/t"), Path("/s"), Path("/k"), "debug", True, False, True)]


def test_its_exit_code_is_the_gateways(carrel: CommandLine) -> None:
    carrel.gateway_ends_with = 1
    assert carrel.run("gateway", "--json").code == 1
    assert carrel.started[0].log_json


def test_what_is_wrong_starts_nothing(carrel: CommandLine) -> None:
    for words in (("--listen", "x"), ("--url", "http://127.0.0.1:1"), ("--log-level", "loud"), ("extra",)):
        assert carrel.run("gateway", *words).code == 2, words
    assert not carrel.started
