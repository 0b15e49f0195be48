"""The real Nix builds the real test set, into a store of its own."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel import processes
from carrel.declare.gateway import PackagesConfig
from carrel.declare.tenant import SandboxConfig
from carrel.packages.farm import remove
from carrel.packages.nix import Expression, NixSource
from carrel.packages.nix_program import Limits
from carrel.packages.protocol import BuildFailed, PackageError
from carrel.packages.sources import nixpkgs
from carrel.sandbox.protocol import Job
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from carrel.tenancy.userland import Userland
from tests.fakes.packageset import HOSTILE, PACKAGES, REPOSITORY, SET, Built, verify
from tests.fakes.running import running
from tests.fakes.sandboxed import LAUNCH_UID, reachable, workspace_tenant

SLOW = """{ packages, debs, system }:
let busybox = builtins.path { path = debs + "/busybox"; name = "busybox-static"; }; in
derivation {
  name = "x"; inherit system; builder = "${busybox}/bin/busybox";
  args = [ "sh" "-c" "COMMAND" ];
}
"""


def expression(directory: Path, debs: Path, command: str) -> Expression:
    """An expression of one derivation that runs ``command``."""
    (directory / "default.nix").write_text(SLOW.replace("COMMAND", command))
    return Expression("x", directory / "default.nix", {"debs": str(debs)}, (debs,))


@pytest.fixture
def tenant(built: Built) -> Iterator[Tenant]:
    made = workspace_tenant(built.state)
    yield made
    made.root.close()
    shutil.rmtree(built.state / "tenants")


@pytest.fixture
async def runner() -> AsyncIterator[BwrapSandbox]:
    made = BwrapSandbox(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


async def run(runner: BwrapSandbox, tenant: Tenant, userland: Userland, command: str) -> str:
    done = await runner.run(tenant, Job((userland.shell, "-c", command), SandboxConfig(), userland))
    assert done.exit_code == 0, done.stderr.decode()
    return done.stdout.decode()


# --- what is built, from inside a sandbox ---


async def test_every_program_of_the_set_runs_from_the_closure_alone(
    runner: BwrapSandbox, tenant: Tenant, built: Built
) -> None:
    userland = built.userland
    assert userland.kind == "closure"
    for command, printed in {
        "echo '{\"a\": [1, 2]}' | jq -c .a": "[1,2]\n",
        "echo one > f; rg -c one f; grep -c one f; find . -name f": "1\n1\n./f\n",
        "python3 -c 'import ssl, sqlite3, bz2, lzma, ctypes; print(ssl.create_default_context() and 1)'": "1\n",
        "git init -q r; cd r; git -c user.name=a -c user.email=a@b commit -qm x --allow-empty; git log | wc -l": "5\n",
        "printf '#!/bin/sh\\necho $0' > s; chmod +x s; ./s; tar c s | gzip | gunzip | tar t": "./s\ns\n",
        "printf '#!/usr/bin/env python3\\nprint(7)' > p; chmod +x p; ./p; echo a b | awk '{print $2}'": "7\nb\n",
        "test -s $SSL_CERT_FILE && grep -c BEGIN $SSL_CERT_FILE | sed 's/[0-9][0-9]*/some/'": "some\n",
    }.items():
        assert await run(runner, tenant, userland, command) == printed


async def test_nothing_but_the_closure_is_in_the_store(runner: BwrapSandbox, tenant: Tenant, built: Built) -> None:
    listed = set((await run(runner, tenant, built.userland, "ls /nix/store")).split())
    assert 20 < len(listed) < 60
    assert not [name for name in listed if name.endswith(".drv") or "busybox" in name or "patchelf" in name]
    assert await run(runner, tenant, built.userland, "ls /") == "bin\ndev\netc\nnix\nproc\ntmp\nusr\nworkspace\n"
    told = await run(runner, tenant, built.userland, "ls /usr /usr/bin /nix")
    assert told == "/nix:\nstore\n\n/usr:\nbin\n\n/usr/bin:\nenv\n"


async def test_one_mount_however_many_paths(built: Built) -> None:
    assert [mount.target for mount in built.userland.mounts] == ["/nix/store"]


# --- found again, shared, given back ---


async def test_what_is_built_is_found_again_without_nix(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert await built.source().found(PACKAGES) == built.userland
    assert await built.source().found(PACKAGES | {"gawk"}) is None


async def test_what_was_damaged_is_made_again(built: Built) -> None:
    farm = Path(built.userland.mounts[0].source)
    remove(next(farm.glob("*-jq")))
    assert await built.source().found(PACKAGES) is None
    assert await built.source().build(PACKAGES, log=print) == built.userland
    assert list(farm.glob("*-jq"))


async def test_what_is_let_go_leaves_the_disk_and_what_is_kept_stays(built: Built) -> None:
    source = built.source()
    extra = await source.build(frozenset({"gawk"}), log=print)
    environment = Path(f"{built.state}/nix{extra.search_path}").parent
    assert environment.is_dir()
    assert not await source.prune({built.userland.key}, before=datetime.now(UTC) - timedelta(days=1))
    assert await source.prune({built.userland.key}, before=datetime.now(UTC) + timedelta(days=1))
    await source.collect()
    assert not environment.exists()
    assert await source.found(frozenset({"gawk"})) is None
    assert await source.found(PACKAGES) == built.userland
    assert Path(f"{built.state}/nix{built.userland.search_path}").is_dir()
    built.verify()


async def test_an_unprivileged_uid_builds_the_same(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("this test run is unprivileged itself")
    by_root = await built.source().build(frozenset({"jq"}), log=print)
    for program in ("nix-instantiate", "nix-store"):
        become = tmp_path / program
        become.write_text(
            f'#!/bin/sh\nexec setpriv --reuid 60987 --regid 60987 --clear-groups {shutil.which(program)} "$@"\n'
        )
        become.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with reachable() as state:
        # What is kept of it is the gateway's own; what Nix makes is that uid's.
        for name in ("envs", "envs/inputs", "nix", "nix-home", "nix-home/tmp"):
            (state / name).mkdir()
            os.chown(state / name, 60987, 60987)
        made = await NixSource(SET, state_dir=state).build(frozenset({"jq"}), log=print)
        assert made.search_path == by_root.search_path
        assert Path(f"{state}/nix{made.search_path}").stat().st_uid == 60987
        for path in state.iterdir():
            remove(path)


# --- what is refused ---


async def test_a_name_is_never_text_in_an_expression(built: Built) -> None:
    with pytest.raises(PackageError, match=r"has no package `jqq`\. Did you mean `jq`\?") as caught:
        await built.source().build(frozenset({"jqq"}), log=print)
    assert not caught.value.retryable


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_cannot_be_a_name_never_reaches_nix(
    built: Built, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: object, **__: object) -> None:
        raise AssertionError("Nix was run")

    monkeypatch.setattr(processes, "run", run)
    with pytest.raises(PackageError, match="has no package") as caught:
        await built.source().build(frozenset({"jq", name}), log=print)
    assert not caught.value.retryable
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()


async def test_the_expression_reads_nothing_else(tmp_path: Path, built: Built) -> None:
    (tmp_path / "default.nix").write_text("{ packages }: builtins.readFile /etc/hostname")
    source = NixSource(Expression("x", tmp_path / "default.nix", {}, ()), state_dir=built.state)
    with pytest.raises(PackageError, match="forbidden in pure eval mode"):
        await source.build(frozenset(), log=print)


async def test_an_evaluation_has_an_end_to_its_memory(tmp_path: Path, built: Built) -> None:
    (tmp_path / "default.nix").write_text(
        "{ packages }: builtins.toString (builtins.length (builtins.genList (x: [ x ]) 100000000))"
    )
    source = NixSource(
        Expression("x", tmp_path / "default.nix", {}, ()),
        state_dir=built.state,
        limits=Limits(evaluation_bytes=64 << 20),
    )
    with pytest.raises(PackageError, match="took more memory than it may"):
        await source.build(frozenset(), log=print)


async def test_nix_that_is_killed_is_told_as_that(tmp_path: Path, built: Built, debs: Path) -> None:
    slow = expression(tmp_path, debs, f"exec {debs / 'busybox'}/bin/busybox sleep 337.3")
    slow.file.write_text(slow.file.read_text().replace(str(debs / "busybox"), "${busybox}"))
    source = NixSource(slow, state_dir=built.state)
    task = asyncio.ensure_future(source.build(frozenset(), log=print))
    await asyncio.to_thread(_wait_for, "sleep 337.3")
    for pid in running("nix-store"):
        if str(built.state) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(BuildFailed, match="Nix was ended by SIGKILL"):
        await task
    # Its builder is nobody's child now.
    for pid in running("sleep 337.3"):
        os.kill(pid, signal.SIGKILL)


async def test_a_failing_build_keeps_its_log_and_says_why(tmp_path: Path, built: Built, debs: Path) -> None:
    lines: list[str] = []
    source = NixSource(expression(tmp_path, debs, "echo the reason >&2; exit 3"), state_dir=built.state)
    with pytest.raises(PackageError, match="x failed with exit code 3: the reason"):
        await source.build(frozenset(), log=lines.append)
    assert any("the reason" in line for line in lines)


async def test_a_builder_does_not_outlive_its_time(tmp_path: Path, built: Built, debs: Path) -> None:
    slow = expression(tmp_path, debs, f"exec {debs / 'busybox'}/bin/busybox sleep 331.7")
    slow.file.write_text(slow.file.read_text().replace(str(debs / "busybox"), "${busybox}"))
    told = r"Nix was over its 3 s and was killed \(packages\.build_timeout_seconds\)"
    with pytest.raises(PackageError, match=told):
        await NixSource(slow, state_dir=built.state, limits=Limits(build_seconds=3)).build(frozenset(), log=print)
    assert not running("sleep 331.7")
    task = asyncio.ensure_future(NixSource(slow, state_dir=built.state).build(frozenset(), log=print))
    await asyncio.to_thread(_wait_for, "sleep 331.7")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running("sleep 331.7")


@pytest.fixture
def copied(debs: Path, tmp_path: Path) -> Path:
    """A checkout's package set whose packages may be spoiled."""
    top = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "tests" / "packageset", top / "tests" / "packageset")
    shutil.copytree(debs, top / ".cache" / "packageset")
    return top


def _of(copied: Path) -> Expression:
    debs = copied / ".cache" / "packageset"
    return Expression(SET.name, copied / "tests" / "packageset" / "default.nix", {"debs": str(debs)}, (debs,))


async def test_a_package_that_is_not_what_its_hash_says_or_missing_is_named(copied: Path, tmp_path: Path) -> None:
    bash, jq = (next((copied / ".cache" / "packageset").glob(f"{name}_*.deb")) for name in ("bash", "jq"))
    right = bash.read_bytes()
    bash.write_bytes(right + b"x")
    with pytest.raises(PackageError, match=r"bash.* is not what its hash says"):
        # A store that has the right one already would not look.
        await NixSource(_of(copied), state_dir=tmp_path).build(frozenset(), log=print)
    bash.write_bytes(right)
    jq.unlink()
    with pytest.raises(PackageError, match=r"'jq_[^/]*\.deb'.*No such file"):
        await NixSource(_of(copied), state_dir=tmp_path).build(PACKAGES, log=print)
    for path in tmp_path.iterdir():
        remove(path)


async def test_where_nix_is_missing_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    source = NixSource(SET, state_dir=tmp_path)
    with pytest.raises(PackageError, match="install `nix-bin`"):
        await source.build(frozenset(), log=print)
    assert "install `nix-bin`" in await source.identity()


async def test_what_a_build_depends_on_tells_sources_apart(copied: Path, tmp_path: Path) -> None:
    source = NixSource(_of(copied), state_dir=tmp_path)
    first = await source.identity()
    assert await source.identity() == first
    lock = copied / ".cache" / "packageset" / "lock.json"
    lock.write_text(lock.read_text() + "\n")
    assert await source.identity() != first
    assert await NixSource(_of(copied), state_dir=tmp_path, store="daemon").identity() != first


# --- what ends a build from outside ---

BUILD = """
import asyncio, sys
from pathlib import Path
from carrel.errors import CarrelError
from carrel.packages.nix import NixSource
from carrel.packages.sources import debian_set
source = NixSource(debian_set(Path(sys.argv[1])), state_dir=Path(sys.argv[2]))
try:
    asyncio.run(source.build(frozenset(sys.argv[3:]), log=print))
except CarrelError as error:
    sys.exit(f"{type(error).__name__} {error.retryable}: {error.message}")
"""


async def test_a_build_that_was_killed_leaves_nothing_half(debs: Path) -> None:
    with reachable() as state:
        killed = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(REPOSITORY), str(state), "jq"], stdout=subprocess.DEVNULL
        )
        await asyncio.to_thread(_wait_for, f"--store {state}/nix", "-unpack.sh")
        killed.kill()
        killed.wait(30)
        for pid in running(f"--store {state}/nix"):
            os.kill(pid, signal.SIGKILL)
        assert not [path for path in (state / "envs").iterdir() if path.suffix == ".json"]
        source = NixSource(SET, state_dir=state)
        assert await source.found(frozenset({"jq"})) is None
        made = await _built_at_last(source)
        assert await source.found(frozenset({"jq"})) == made
        verify(state / "nix")
        for path in state.iterdir():
            remove(path)


async def test_a_full_disk_is_said_and_nothing_is_kept(debs: Path, tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=16m full "$1" && shift && exec "$@"'
    done = await asyncio.to_thread(
        subprocess.run,
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(tmp_path),
         sys.executable, "-c", BUILD, str(REPOSITORY), str(tmp_path), "python3"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stderr.strip().splitlines()[-1] == (
        "NoRoom True: The disk is full: the environment cannot be built."
    ), done.stderr


async def _built_at_last(source: NixSource) -> Userland:
    """As the gateway does: a builder that outlived its Nix for a moment may be in the way of the first attempt."""
    for _ in range(20):
        try:
            return await source.build(frozenset({"jq"}), log=print)
        except BuildFailed:
            await asyncio.sleep(0.5)
    raise AssertionError("it was never built")


def _wait_for(first: str, builder: str | None = None) -> None:
    """Until a program with ``first`` in its command line runs, and one with ``builder`` in its own."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if running(first) and (builder is None or running(builder)):
            return
        time.sleep(0.02)
    raise AssertionError(f"{first} did not come to run")


# --- the expression for nixpkgs, on a stand-in for nixpkgs ---


async def test_an_environment_of_nixpkgs(stand_in: Path, built: Built, runner: BwrapSandbox, tenant: Tenant) -> None:
    expression = nixpkgs(stand_in, PackagesConfig(substituters=("file:///nowhere",)))
    source = NixSource(expression, state_dir=built.state)
    userland = await source.build(frozenset({"jq", "bash"}), log=print)
    assert await run(runner, tenant, userland, "echo '[7]' | jq .[0]; command -v sh; /usr/bin/env true") == (
        f"7\n{userland.search_path}/sh\n"
    )
    assert dict(userland.env)["SSL_CERT_FILE"].endswith("/etc/ssl/certs/ca-bundle.crt")
    for name in ("nope", "lib", "pkgs.jq", "aFunction"):
        with pytest.raises(PackageError, match="Nixpkgs has no package"):
            await source.build(frozenset({name}), log=print)
