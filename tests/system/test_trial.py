"""Item 1: it starts with one command, says what to do next, keeps its state and stops when asked."""

import contextlib
import http.client
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from carrel.cli.gateway_options import DRAIN_SECONDS
from tests.fakes.gateway_process import TOKEN, GatewayProcess
from tests.fakes.patience import PATIENCE, until
from tests.system.conftest import StartGateway


def processes_of(state_dir: Path) -> list[str]:
    """Command lines of processes that name the state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(state_dir) in line and "pytest" not in line:
                found.append(line)
    return found


def test_it_prints_where_it_is_who_is_there_and_what_to_try(gateway: GatewayProcess) -> None:
    printed = gateway.text
    assert gateway.url in printed
    assert "demo" in printed
    assert TOKEN.search(printed), printed
    assert 'chat demo "run: uname -a; ls | wc -l"' in printed
    assert "userland" in printed
    assert gateway.request("GET", "/healthz").status == 200


def test_the_token_is_shown_once_and_goes_on_working(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    token = gateway.token
    assert gateway.rpc("health")["ok"] is True
    assert gateway.stop() == 0
    gateway.output.clear()
    gateway.start()
    assert not TOKEN.search(gateway.text)
    assert gateway.rpc("health", token=token)["ok"] is True


def test_sessions_outlive_a_restart(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    token = gateway.token
    sent = gateway.rpc("sessions.send", {"message": "hello"})
    assert sent["sessionId"]
    gateway.stop()
    gateway.start()
    keys = [s["sessionId"] for s in gateway.rpc("sessions.list", token=token)["sessions"]]
    assert sent["sessionId"] in keys


def test_one_tenants_files_that_cannot_be_read_stop_nobody_else(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    other = gateway.cli("tenants", "token", "rotate", "acme", "--json")
    assert other.returncode == 0, other.stderr
    token = json.loads(other.stdout)["token"]
    assert gateway.stop() == 0
    tokens = gateway.state_dir / "tenants" / "demo" / "credentials" / "tokens.json"
    tokens.chmod(0)
    gateway.start()
    assert gateway.rpc("sessions.send", {"message": "hello"}, token=token)["text"]
    assert gateway.request("POST", "/rpc", {}, token=gateway.token).status == 401
    assert "The tokens of demo cannot be read" in gateway.text
    tokens.chmod(0o600)
    assert gateway.stop() == 0
    gateway.start()
    assert gateway.rpc("sessions.send", {"message": "hello"})["text"]


def test_an_interrupt_drains_and_stops(new_gateway: StartGateway) -> None:
    assert DRAIN_SECONDS < 5, "what is to end is over within five seconds"
    gateway = new_gateway().start()
    assert gateway.stop(sig=signal.SIGINT) == 0
    assert "Traceback" not in gateway.text
    assert not processes_of(gateway.state_dir)


def test_an_interrupt_during_a_tool_leaves_nothing_behind(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    assert gateway.rpc("sessions.create")["sessionId"]
    token, command = gateway.token, f"sleep 371.{os.getpid()}"

    def send() -> None:
        # The gateway may go before it has answered.
        with contextlib.suppress(OSError, http.client.HTTPException):
            gateway.rpc("sessions.send", {"message": f"run: {command}"}, token=token)

    caller = threading.Thread(target=send)
    caller.start()
    assert until(lambda: any_process(command))
    gateway.stop(sig=signal.SIGINT)
    caller.join(PATIENCE)
    assert not any_process(command)


def any_process(words: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if words in (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode():
                    return True
            except OSError:
                continue
    return False


def test_the_gateway_is_never_uid_0_and_its_state_is_its_own(gateway: GatewayProcess) -> None:
    owner = gateway.state_dir.stat().st_uid
    assert owner != 0
    assert (gateway.state_dir.stat().st_mode & 0o077) == 0
    assert gateway.process is not None
    uids = {
        int(line.split()[1])
        for pid in family(gateway.process.pid)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("Uid:")
    }
    assert uids == {owner}


def family(pid: int) -> list[int]:
    """``pid`` and its descendants."""
    children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(deep for child in children for deep in family(child))]


def test_a_taken_port_is_named(new_gateway: StartGateway, gateway: GatewayProcess) -> None:
    second = new_gateway("second", port=gateway.port)
    with contextlib.suppress(AssertionError):
        second.start()
    assert second.process is not None
    assert second.process.wait(PATIENCE) == 1
    assert str(gateway.port) in second.text
    assert "Traceback" not in second.text


def test_two_gateways_do_not_share_a_state_directory(new_gateway: StartGateway, gateway: GatewayProcess) -> None:
    second = GatewayProcess(home=gateway.home)
    with pytest.raises(AssertionError, match="another gateway"):
        second.start()
    assert second.process is not None
    assert second.process.wait(PATIENCE) == 1
    assert gateway.rpc("health")["ok"] is True


def test_a_broken_gateway_file_at_the_first_start_is_explained(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    (gateway.tenants_dir / "_gateway.yaml").write_text("providers:\n  demo: {kind: demi}\n")
    with contextlib.suppress(AssertionError):
        gateway.start(wait=20)
    assert gateway.process is not None
    assert gateway.process.wait(20) == 1
    assert "_gateway.yaml:2:" in gateway.text
    assert "Traceback" not in gateway.text


def test_root_keeps_what_it_owned(gateway: GatewayProcess) -> None:
    if os.geteuid() == 0:
        assert (gateway.tenants_dir / "demo.yaml").stat().st_uid == 0
