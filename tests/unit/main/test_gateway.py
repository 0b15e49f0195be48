"""What the start refuses before it begins anything. The running gateway is tried from outside, in tests/system."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.cli.gateway_options import GatewayOptions
from carrel.main import gateway
from carrel.main.launch import CannotStart, free_port
from tests.fakes.gateway_process import carrel


@pytest.fixture
def options(tmp_path: Path) -> GatewayOptions:
    return GatewayOptions("127.0.0.1", 0, tmp_path / "tenants.d", tmp_path / "state", None, "info", False)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = carrel("gateway", "--tenants-dir", "nowhere", "--state-dir", "state", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/nowhere is not a directory: --tenants-dir" in done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("option", "name"), [("--state-dir", "file"), ("--secrets-dir", "none")])
def test_a_path_that_cannot_be_what_it_is_named_as_is_refused(tmp_path: Path, option: str, name: str) -> None:
    (tmp_path / "tenants.d").mkdir()
    (tmp_path / "file").touch()
    done = carrel("gateway", option, name, cwd=tmp_path, env={"XDG_STATE_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith(f"carrel: {tmp_path}/{name} is not a directory: {option} says where")


def test_declarations_that_are_not_right_are_told_with_their_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "tenants.d").mkdir()
    done = carrel("gateway", "--listen", "127.0.0.1:0", cwd=tmp_path, env={"CARREL_STATE_DIR": str(tmp_path / "state")})
    assert done.returncode == 1
    assert f"nothing is started, for {tmp_path}/tenants.d is not right:\n  _gateway.yaml:1:1: " in done.stderr
    assert done.stderr.count("_gateway.yaml:1:1: ") == 1


def test_a_taken_port_is_refused_before_a_token_is_issued(options: GatewayOptions) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=str(port)):
            free_port(replace(options, port=port))


def test_port_0_is_any_free_one(options: GatewayOptions) -> None:
    assert free_port(options) > 0


def test_a_host_that_is_none_is_named(options: GatewayOptions) -> None:
    with pytest.raises(CannotStart, match=r"nowhere\.invalid"):
        free_port(replace(options, host="nowhere.invalid"))


async def test_what_the_start_used_is_given_back_at_once_and_when_it_has_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[bool] = []
    again, stop = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def give() -> None:
        given.append(stop.is_set())
        if len(given) == 2:
            loop.call_soon_threadsafe(again.set)

    monkeypatch.setattr(gateway, "give_back", give)
    monkeypatch.setattr(gateway, "SETTLED_SECONDS", 0.0)
    running = asyncio.create_task(gateway._lean_until(stop))
    await again.wait()
    stop.set()
    await running
    assert given == [False, False]


async def test_a_gateway_that_stops_before_it_has_settled_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    stop = asyncio.Event()
    monkeypatch.setattr(gateway, "give_back", lambda: given.append("once"))
    stop.set()
    await gateway._lean_until(stop)
    assert given == ["once"]
