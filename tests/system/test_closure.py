"""A trial's tools run on the closure of the tenant's packages, built by the real Nix, and on nothing else."""

import json
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway_process import REPOSITORY, GatewayProcess
from tests.fakes.patience import until
from tests.system.conftest import StartGateway


@pytest.fixture(scope="module")
def closure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(home=tmp_path_factory.mktemp("closure") / "home", closure=True).prepare().start()
    yield running
    assert running.stop() == 0, running.text


def ask(gateway: GatewayProcess, command: str) -> str:
    answer = gateway.rpc("sessions.send", {"message": f"run: {command}"})
    assert "message" in answer or "text" in answer, answer
    return json.dumps(answer)


def test_the_start_says_what_tools_run_on(closure: GatewayProcess) -> None:
    told = [line for line in closure.text.splitlines() if "userland" in line]
    assert any("userland  closure" in line for line in told), told


def test_the_first_tool_waits_for_the_closure_and_then_has_it(closure: GatewayProcess) -> None:
    told = ask(closure, "git --version; rg --version | head -1; jq --version; python3 -V; command -v bash")
    for program in ("git version", "ripgrep", "jq-", "Python 3", "/nix/store/"):
        assert program in told


def test_each_command_of_the_readme_s_tour_finds_its_programs(closure: GatewayProcess) -> None:
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    tour = [line for line in lines if line.startswith("$ carrel chat demo ")]
    assert len(tour) == 2
    for line in tour:
        done = closure.cli(*shlex.split(line)[2:])
        assert "shell {" in done.stdout
        assert "command not found" not in done.stdout


def test_nothing_of_the_host_is_there(closure: GatewayProcess) -> None:
    told = ask(closure, "ls /usr /lib /etc/os-release /var; echo $?")
    assert "No such file" in told
    assert "os-release'" in told


def test_a_tenant_has_its_own_packages_and_a_change_builds_the_others(closure: GatewayProcess) -> None:
    demo = closure.tenants_dir / "demo.yaml"
    before = demo.read_text()
    demo.write_text(before.replace("packages: [python3, ripgrep, jq, git]", "packages: [jq]"))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        told = ask(closure, "jq --version; git --version")
        if "git: command not found" in told:
            break
        time.sleep(2)
    assert "git: command not found" in told
    assert "jq-" in told


def test_a_tenant_chooses_for_itself_and_the_next_command_has_it(closure: GatewayProcess) -> None:
    assert closure.cli("packages", "add", "ripgrep", "--tenant", "demo").returncode == 0
    assert "ripgrep" in answered(closure, "rg --version", lambda answer: "ripgrep 1" in answer)
    assert closure.rpc("packages.remove", {"packages": ["ripgrep"]})["packages"] == ["jq"]
    assert "not found" in answered(closure, "rg --version", lambda answer: "not found" in answer)
    done = closure.cli("packages", "add", "ripgrepp", "--tenant", "demo")
    assert done.returncode == 1
    assert "did you mean ripgrep" in done.stderr


def test_a_package_that_is_not_allowed_is_refused_where_it_is_declared(closure: GatewayProcess) -> None:
    demo = closure.tenants_dir / "demo.yaml"
    demo.write_text(demo.read_text().replace("packages: [jq]", "packages: [jqq]"))
    checked = closure.cli("check", str(closure.tenants_dir))
    assert checked.returncode == 1
    assert "jqq" in checked.stdout + checked.stderr
    assert "jq" in checked.stdout + checked.stderr


def test_the_source_of_packages_and_whether_a_closure_is_demanded_follow_the_operators_file(
    new_gateway: StartGateway,
) -> None:
    gateway = new_gateway()
    one_package(gateway)
    gateway.start()
    operator = gateway.tenants_dir / "_gateway.yaml"
    told = operator.read_text()
    assert "/usr/bin" in ask(gateway, "command -v env")
    operator.write_text(told + "require_closure: true\n")
    assert "names no source of packages" in answered(gateway, "command -v env", lambda answer: "/usr/bin" not in answer)
    operator.write_text(told.replace("source: none", "source: test-set") + "require_closure: true\n")
    assert "jq-" in answered(gateway, "jq --version", lambda answer: "/nix/store" in answer or "jq-" in answer)
    assert "/nix/store/" in ask(gateway, "command -v jq")


def one_package(gateway: GatewayProcess) -> None:
    """Have no more to build than such a test is about."""
    for tenant, packages in (("demo", "[python3, ripgrep, jq, git]"), ("acme", "[python3, ripgrep, jq]")):
        declared = gateway.tenants_dir / f"{tenant}.yaml"
        told = declared.read_text()
        assert packages in told
        declared.write_text(told.replace(packages, "[jq]"))


def answered(gateway: GatewayProcess, command: str, told: Callable[[str], bool]) -> str:
    """What ``command`` prints once ``told`` is true of it."""
    deadline = time.monotonic() + 120
    while True:
        answer = ask(gateway, command)
        if told(answer):
            return answer
        assert time.monotonic() < deadline, answer
        # The sample's quota is sixty requests a minute.
        time.sleep(2)


def test_an_interrupt_during_a_build_leaves_no_builder_behind_and_the_next_start_goes_on(
    tmp_path: Path,
) -> None:
    gateway = GatewayProcess(home=tmp_path / "home", closure=True).prepare()
    one_package(gateway)
    gateway.start()
    assert until(lambda: builders(gateway.state_dir))
    assert gateway.stop(sig=signal.SIGINT) == 0
    assert "Traceback" not in gateway.text
    assert not builders(gateway.state_dir)
    token = gateway.token
    gateway.start()
    assert "jq-" in json.dumps(gateway.rpc("sessions.send", {"message": "run: jq --version"}, token=token))
    assert gateway.stop() == 0


def builders(state_dir: Path) -> list[int]:
    """Processes that see a part of the gateway's own store at /nix/store and run Nix's builder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                mounts = (entry / "mountinfo").read_text()
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{state_dir}/nix" in mounts and b".sh" in line:
                found.append(int(entry.name))
    return found
