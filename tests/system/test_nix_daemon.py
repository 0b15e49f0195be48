"""A gateway whose environments are built by a real Nix daemon, of a store that is root's and not the gateway's."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.gateway_process import CARREL, GatewayProcess
from tests.fakes.packageset import fetched, verify
from tests.fakes.patience import until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a daemon for others is root's"),
    pytest.mark.skipif(not Path("/nix").is_dir(), reason="there is no /nix to mount a store at"),
]

SETTINGS: Final = """
build-users-group =
substituters =
substitute = false
sandbox = true
sandbox-paths =
trusted-users = root
allowed-users = *
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Its process id, in whose mounts /nix is a store of its own, and where that is for everybody else."""
    top = tmp_path_factory.mktemp("machine")
    for name in ("nix/store", "nix/var/nix", "settings"):
        (top / name).mkdir(parents=True)
    for folder in (top, *top.rglob("*")):
        folder.chmod(0o755)
    (top / "settings" / "nix.conf").write_text(SETTINGS)
    script = 'mount --bind "$1" /nix && exec nix-daemon'
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(top / "nix")],
        env={"PATH": os.environ["PATH"], "HOME": str(top), "NIX_CONF_DIR": str(top / "settings")},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        until((top / "nix/var/nix/daemon-socket/socket").exists)
        yield process.pid, top / "nix"
        process.terminate()


@pytest.fixture(scope="module")
def gateway(daemon: tuple[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    fetched()
    within = ("nsenter", "--mount", "--target", str(daemon[0]), "--", str(CARREL))
    made = GatewayProcess(home=tmp_path_factory.mktemp("daemon") / "home", closure=True, program=within).prepare()
    operator = made.tenants_dir / "_gateway.yaml"
    source = "source: test-set\n  store: daemon"
    operator.write_text(operator.read_text().replace("source: test-set", source) + "require_closure: true\n")
    for tenant in made.tenants_dir.glob("[a-z]*.yaml"):
        lines = tenant.read_text().splitlines()
        tenant.write_text("\n".join("packages: [jq]" if line.startswith("packages:") else line for line in lines))
    made.start()
    yield made
    assert made.stop() == 0, made.text


def ask(gateway: GatewayProcess, command: str) -> str:
    return json.dumps(gateway.rpc("sessions.send", {"message": f"run: {command}"}))


def test_a_stranger_to_the_store_has_environments_built_in_it(
    gateway: GatewayProcess, daemon: tuple[int, Path]
) -> None:
    assert "userland  closure" in gateway.text
    assert "jq-" in ask(gateway, "jq --version")
    store, mine = daemon[1] / "store", gateway.state_dir
    assert {path.stat().st_uid for path in store.iterdir()} == {0}
    assert mine.stat().st_uid != 0
    assert not (mine / "nix").exists(), "no store of its own"
    # The files are its copies: what root's collector takes it does not miss.
    (record,) = (mine / "envs").glob("????????????????????.json")
    assert json.loads(record.read_bytes())["farm"] is True
    copied = list(record.with_suffix("").glob("*-jq/bin/jq"))
    assert [file.stat().st_uid for file in copied] == [mine.stat().st_uid]


def test_it_is_written_by_the_daemon_alone_and_its_hashes_hold(
    gateway: GatewayProcess, daemon: tuple[int, Path]
) -> None:
    told = ask(gateway, "touch /nix/store/x; ls -d /nix/var; cat /nix/var/nix/daemon-socket/socket")
    assert "Read-only file system" in told
    assert told.count("No such file") >= 2, "neither the daemon nor its state is there"
    verify(daemon[1].parent)


def test_another_set_is_built_while_the_old_one_serves(gateway: GatewayProcess, daemon: tuple[int, Path]) -> None:
    assert gateway.cli("packages", "add", "ripgrep", "--tenant", "demo").returncode == 0
    until(lambda: "ripgrep 1" in ask(gateway, "rg --version"))
    assert "jq-" in ask(gateway, "jq --version")
    roots = [path.readlink() for path in (daemon[1] / "var/nix/gcroots/auto").iterdir()]
    assert [path for path in roots if path.is_relative_to(gateway.state_dir / "envs")], "held while it is wanted"


def test_what_is_no_package_is_told_with_the_nearest(gateway: GatewayProcess) -> None:
    done = gateway.cli("packages", "add", "ripgrepp", "--tenant", "demo")
    assert done.returncode == 1
    assert "did you mean ripgrep" in done.stderr
