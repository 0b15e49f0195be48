import json
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


def test_a_machines_settings_say_all_of_it(carrel: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    told = {
        "tenants_dir": "/t", "state_dir": "/s", "listen": {"address": "::1", "port": 9, "names": ["a.example.org"]},
        "log": {"level": "error"}, "launcher": "/run/l.sock", "drain_seconds": 90,
        "placement": {"shard": "a", "rest": "a", "shards": {"a": {"url": "http://10.0.0.1:1"}}},
    }  # fmt: skip
    file.write_text(json.dumps(told))
    assert carrel.run("gateway", "--host", str(file), "--secrets-dir", "/k").code == 0
    (options,) = carrel.started
    expected = GatewayOptions("::1", 9, Path("/t"), carrel.state, Path("/k"), "error", True, False, True)
    assert options == GatewayOptions(
        **{name: getattr(expected, name) for name in ("host", "port", "tenants_dir", "state_dir", "secrets_dir")},
        log_level="error", log_json=True, trial=False, state_named=True, drain_seconds=90.0,
        launcher=Path("/run/l.sock"), names=("a.example.org",), placement=options.placement,
    )  # fmt: skip
    assert GatewayOptions.from_text(options.text()) == options


def test_settings_that_are_wrong_start_nothing(carrel: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    file.write_text('{"tenants_dir": "/t", "drain": 5}')
    done = carrel.run("gateway", "--host", str(file))
    assert done.code == 1
    assert "drain: unknown key" in done.err
    assert carrel.run("gateway", "--drain-seconds", "0").code == 2
    assert not carrel.started
