"""Number 3.1: a gateway that root starts is not root, for good, and works all the same behind closed directories."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from carrel.main.privilege import STARTER
from tests.fakes.mounts import mounts
from tests.fakes.patience import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEM_PYTHON = Path("/usr/bin/python3")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has anything to step down from")


class Started:
    """The small gateway as a process, from outside."""

    def __init__(self, home: Path, *, python: Path | None = None, under: tuple[str, ...] = ()) -> None:
        self.home = home
        self.errors = ""
        self.process = subprocess.Popen(
            [*under, str(python or home / "venv" / "bin" / "python"), "program.py", str(home)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home / "checkout",
            env={"PATH": os.environ["PATH"], "HOME": "/root", "CARREL_SECRET_X": "x", "https_proxy": "http://p",
                 "SSH_AUTH_SOCK": "/run/agent", "PYTHONPATH": str(home / "checkout" / "python"),
                 "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    def hear(self) -> Any:
        line = stream(self.process.stdout).readline()
        assert line, stream(self.process.stderr).read()
        return json.loads(line)

    def ask(self, what: str) -> Any:
        stream(self.process.stdin).write(what + "\n")
        stream(self.process.stdin).flush()
        return self.hear()

    def end(self) -> int:
        _, self.errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


def stream(pipe: "IO[str] | None") -> "IO[str]":
    assert pipe is not None
    return pipe


def git(top: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *words],
        cwd=top, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


def furnish(home: Path) -> None:
    """A checkout with the code and declarations, secrets, and things that are none of a gateway's business."""
    checkout = home / "checkout"
    shutil.copytree(
        REPOSITORY / "python" / "carrel", checkout / "python" / "carrel", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(REPOSITORY / "tests" / "fakes" / "stepping_down.py", checkout / "program.py")
    (checkout / "tenants.d").mkdir()
    (checkout / "tenants.d" / "acme.yaml").write_text("plan: basic\n")
    git(checkout, "init", "-q")
    git(checkout, "add", "tenants.d")
    git(checkout, "commit", "-qm", "one")
    (home / "secrets").mkdir()
    (home / "secrets" / "KEY").write_text("value")
    (home / "secrets" / "KEY").chmod(0o600)
    (checkout / "private").mkdir()
    (checkout / "private" / "file").write_text("root's")
    (checkout / "private").chmod(0o700)
    (home / "diary").write_text("root's")
    for path in (checkout / "python").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of mode 0700 with a Python, a checkout of mode 0700 and secrets of root's."""
    home = tmp_path_factory.mktemp("root") / "home"
    home.mkdir()
    furnish(home)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    for closed in (home, home / "checkout", home / "secrets"):
        closed.chmod(0o700)
    return home


@pytest.fixture(scope="module")
def mounts_before(behind: Path) -> list[str]:
    return mounts(behind)


@pytest.fixture(scope="module")
def started(behind: Path, mounts_before: list[str]) -> Iterator[Started]:
    gateway = Started(behind)
    try:
        yield gateway
    finally:
        assert gateway.end() == 0


@pytest.fixture(scope="module")
def report(started: Started) -> dict[str, Any]:
    told = started.hear()
    assert "error" not in told, told
    assert isinstance(told, dict)
    return told


def test_S3_01_nothing_of_it_is_root_and_nothing_can_be_again(report: dict[str, Any]) -> None:
    assert 0 not in report["ids"]
    assert len(set(report["ids"][:3])) == 1
    assert {name: int(value, 16) for name, value in report["status"].items()} == {
        "CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0, "NoNewPrivs": 1,
    }  # fmt: skip
    assert report["root_again"] == "PermissionError"
    assert report["core_pattern"] == "PermissionError"
    assert report["descriptors"] == []


def test_S3_01_it_knows_who_started_it_and_believes_no_other_mark(report: dict[str, Any]) -> None:
    assert report["starter"] == 0
    assert STARTER not in report["environ"]


def test_S3_01_where_root_did_not_start_it_nothing_happens(report: dict[str, Any]) -> None:
    own = report["ids"][0]
    assert report["again"] == own
    assert report["forged"] == own
    assert report["unchanged"] is True


def test_S3_01_twin_it_works_from_behind_closed_directories(report: dict[str, Any], behind: Path) -> None:
    assert report["code"] == str(behind / "checkout" / "python" / "carrel" / "main" / "privilege.py")
    assert report["python"] == str(behind / "venv" / "bin" / "python")
    assert report["cwd"] == str(behind / "checkout")
    assert report["secret"] == "value"
    assert (behind / "state" / "kept").read_text() == "kept"
    assert (behind / "state").stat().st_uid == report["ids"][0]
    assert (behind / "state").stat().st_mode & 0o777 == 0o700


def test_S3_01_it_reads_what_it_needs_and_nothing_else(report: dict[str, Any], behind: Path) -> None:
    assert report["diary"] == "FileNotFoundError"
    assert report["private"] in ("FileNotFoundError", "PermissionError")
    assert report["code_written"] in ("read-only", "PermissionError")
    assert (behind / "diary").read_text() == "root's"


def test_S3_01_twin_a_declaration_is_written_and_committed_and_root_s_git_works_on(
    report: dict[str, Any], behind: Path
) -> None:
    checkout = behind / "checkout"
    assert report["commit"] == report["plain_git"] == git(checkout, "rev-parse", "HEAD")
    assert git(checkout, "show", "--stat", "--format=", "HEAD").startswith("tenants.d/made.yaml")
    (checkout / "tenants.d" / "acme.yaml").write_text("plan: other\n")
    git(checkout, "commit", "-qam", "by root")
    assert git(checkout, "status", "--porcelain", "--untracked-files=no") == ""
    git(checkout, "fsck", "--strict")
    assert checkout.stat().st_uid == (checkout / ".git").stat().st_uid == 0


def test_S3_01_root_s_session_is_left_behind(report: dict[str, Any], behind: Path) -> None:
    environ = report["environ"]
    assert environ["HOME"] == environ["CARREL_STATE_DIR"] == str(behind / "state")
    assert environ["CARREL_SECRET_X"] == "x"
    assert "https_proxy" not in environ
    assert "SSH_AUTH_SOCK" not in environ


def test_S3_01_a_sandbox_starts_there_and_cannot_change_the_host(report: dict[str, Any], behind: Path) -> None:
    status, *printed = report["sandbox"]
    assert status == "0", printed
    assert printed[:2] == ["made", "no"]
    assert (behind / "state" / "workspace" / "made").read_text() == "made\n"


def test_S3_01_outside_nothing_is_mounted_and_nothing_is_opened_wider(
    report: dict[str, Any], behind: Path, mounts_before: list[str]
) -> None:
    assert mounts(behind) == mounts_before
    for closed in (behind, behind / "checkout", behind / "secrets", behind / "checkout" / "private"):
        found = closed.stat()
        assert (found.st_mode & 0o777, found.st_uid) == (0o700, 0)
    key = (behind / "secrets" / "KEY").stat()
    assert (key.st_mode & 0o777, key.st_uid) == (0o600, 0)


def test_S3_01_root_comes_in_by_the_control_socket(started: Started, report: dict[str, Any], behind: Path) -> None:
    assert started.ask("socket") == "listening"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(behind / "state" / "run" / "control.sock"))
        assert started.hear() == 0


@pytest.mark.parametrize("way", ["in place", "by a new file in its place", "under a strict umask"])
def test_S3_01_what_root_edits_outside_is_seen_inside(
    started: Started, report: dict[str, Any], behind: Path, way: str
) -> None:
    assert started.ask("watch") == "watching"
    file = behind / "checkout" / "tenants.d" / "acme.yaml"
    if way == "in place":
        file.write_text(way)
    elif way == "under a strict umask":
        before = os.umask(0o077)
        (file.parent / "later.yaml").write_text(way)
        os.umask(before)
    else:
        (behind / "new").write_text(way)
        (behind / "new").replace(file)
    assert started.hear() == ["later.yaml" if "umask" in way else "acme.yaml", way]


# --- where no mount namespace may be made, as in most containers ---

WITHOUT_MOUNTS = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")


def test_S3_01_without_a_namespace_it_says_what_it_cannot_reach_and_does_not_go_on(behind: Path) -> None:
    refused = Started(behind, under=WITHOUT_MOUNTS)
    told = refused.hear()
    assert told["error"] == "cannot_drop_root"
    assert "cannot reach" in told["message"]
    assert str(behind / "checkout") in told["message"]
    assert refused.end() == 1


@pytest.fixture
def public() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        furnish(home)
        (home / "secrets" / "KEY").chmod(0o644)
        yield home


@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="the system has no Python that everybody can reach")
def test_S3_01_twin_without_a_namespace_it_works_where_all_is_reached(public: Path) -> None:
    gateway = Started(public, python=SYSTEM_PYTHON, under=WITHOUT_MOUNTS)
    told = gateway.hear()
    assert "error" not in told, told
    assert 0 not in told["ids"]
    assert told["secret"] == "value"
    assert told["commit"] == git(public / "checkout", "rev-parse", "HEAD")
    assert told["sandbox"][0] == "0"
    assert gateway.end() == 0


ON_RAMFS = 'mount -t ramfs ramfs "$3/checkout/tenants.d" && echo "plan: basic" > "$3/checkout/tenants.d/acme.yaml"'


def test_S3_01_where_no_access_list_is_kept_it_reads_and_says_what_it_cannot_write(public: Path) -> None:
    gateway = Started(
        public, python=Path(sys.executable), under=("unshare", "--mount", "sh", "-c", f'{ON_RAMFS} && exec "$@"', "sh")
    )
    told = gateway.hear()
    assert "error" not in told, told
    assert told["declared"] == "PermissionError"
    assert gateway.end() == 0
    assert f"chown -R {told['ids'][0]}" in gateway.errors


@pytest.mark.parametrize("right", ["setuid", "setgid"])
def test_S3_01_where_it_cannot_become_another_uid_it_does_not_start(behind: Path, right: str) -> None:
    refused = Started(behind, under=("setpriv", f"--bounding-set=-{right}", "--inh-caps=-all"))
    assert refused.hear()["error"] == "cannot_drop_root"
    assert refused.end() == 1


def test_S3_01_a_system_directory_is_never_handed_over(public: Path) -> None:
    (public / "state").symlink_to("/etc")
    refused = Started(public, python=Path(sys.executable))
    assert "belongs to the system" in refused.hear()["message"]
    assert refused.end() == 1
    assert Path("/etc").stat().st_uid == 0
