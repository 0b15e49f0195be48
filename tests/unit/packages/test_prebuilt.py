"""Environments from an index that the real Nix has made, used where there is no Nix."""

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.declare.tenant import SandboxConfig
from carrel.packages.farm import remove
from carrel.packages.prebuilt import IndexSource
from carrel.packages.protocol import BuildFailed, PackageError
from carrel.sandbox.protocol import Job
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.userland import Userland
from tests.fakes.packageset import Built
from tests.fakes.sandboxed import LAUNCH_UID, reachable, workspace_tenant

TOOLS = frozenset({"jq", "git", "python3", "mytool"})
COPYING = """
import asyncio, sys
from pathlib import Path
from carrel.packages.prebuilt import IndexSource
source = IndexSource(Path(sys.argv[1]), state_dir=Path(sys.argv[2]), root=sys.argv[3], copies=sys.argv[4] == "copies")
print(len(asyncio.run(source.build(frozenset(sys.argv[5:]), log=print)).mounts))
"""


class House:
    """A gateway's state, and the index whose store is another's."""

    def __init__(self, state: Path, index: Path, root: Path) -> None:
        self.state, self.index, self.root = state, index, root

    def source(self, *, copies: bool = True) -> IndexSource:
        return IndexSource(self.index, state_dir=self.state, root=str(self.root), copies=copies)

    def open(self) -> None:
        """The sandboxes of tests are not their own uid's."""
        (self.state / "envs").chmod(0o755)

    def as_on_nixos(self, *names: str, copies: bool = True) -> int:
        """Build where the store is a read-only mount of its own; the number of mounts that a sandbox needs."""
        script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", f"{self.root}/nix/store",
             sys.executable, "-c", COPYING, str(self.index), str(self.state), str(self.root),
             "copies" if copies else "binds", *names],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    def farm(self, userland: Userland) -> Path:
        return self.state / "envs" / userland.key


@pytest.fixture
def house(built: Built, index: Path) -> Iterator[House]:
    with reachable() as state:
        yield House(state, index, built.state / "nix")
        for path in state.iterdir():
            remove(path)


@pytest.fixture
async def runner() -> AsyncIterator[BwrapSandbox]:
    made = BwrapSandbox(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


async def run(runner: BwrapSandbox, house: House, userland: Userland, command: str) -> str:
    tenant = workspace_tenant(house.state)
    try:
        done = await runner.run(tenant, Job((userland.shell, "-c", command), SandboxConfig(), userland))
    finally:
        tenant.root.close()
    assert done.exit_code == 0, done.stderr.decode()
    return done.stdout.decode()


@contextmanager
def without_nix(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No Nix on the path, and no database beside the store."""
    database, away = house.root / "nix" / "var", house.root / "nix" / "away"
    database.rename(away)
    try:
        with monkeypatch.context() as patched:
            patched.setenv("PATH", "/nowhere")
            yield
    finally:
        away.rename(database)


def test_the_index_says_what_there_is(index: Path, built: Built) -> None:
    told = json.loads(index.read_text())
    assert (told["format"], told["version"]) == ("carrel-package-index", 1)
    assert {"jq", "git", "python3", "mytool", "bash", "bashInteractive", "coreutils"} <= set(told["packages"])
    assert "ripgrep" not in told["packages"]
    jq = told["packages"]["jq"]
    assert (jq["version"], jq["description"]) == ("12", "jq of Debian")
    assert jq["path"] in jq["closure"]
    for path in jq["closure"]:
        assert Path(f"{built.state}/nix{path}").exists()


async def test_an_environment_runs_with_no_nix_at_all(
    house: House, runner: BwrapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with without_nix(house, monkeypatch):
        assert await house.source().available() is None
        assert await house.source().found(TOOLS) is None
        userland = await house.source().build(TOOLS, log=lines.append)
        assert await house.source().found(TOOLS) == userland
    house.open()
    assert [mount.target for mount in userland.mounts] == ["/nix/store", "/nix/profile"]
    told = await run(
        runner, house, userland,
        "echo '[7]' | jq .[0]; mytool; command -v git sh; git --exec-path; test -s $SSL_CERT_FILE && "
        "python3 -c 'import json; print(1)'; printf '#!/usr/bin/env sh\\necho $0' > s; chmod +x s; ./s",
    )  # fmt: skip
    assert told.splitlines()[:4] == ["7", "mine", "/nix/profile/bin/git", "/nix/profile/bin/sh"]
    assert told.splitlines()[4].endswith("/lib/git-core")
    assert told.splitlines()[5:] == ["1", "./s"]
    assert any(line.startswith("jq 12: ") for line in lines)


async def test_only_the_closures_paths_are_seen_and_none_can_be_written(house: House, runner: BwrapSandbox) -> None:
    userland = await house.source().build(frozenset({"jq"}), log=print)
    house.open()
    index = json.loads(house.index.read_text())
    named = ["jq", *index["base"]]
    closure = {Path(path).name for name in named for path in index["packages"][name]["closure"]}
    assert set((await run(runner, house, userland, "ls /nix/store")).split()) == closure
    assert await run(runner, house, userland, "command -v git python3 mytool; ls /nix") == "profile\nstore\n"
    told = await run(runner, house, userland, "rm -f /nix/profile/bin/jq 2>&1; touch /nix/profile/x 2>&1; jq --version")
    assert told.count("Read-only file system") == 2
    assert "jq-" in told


async def test_a_store_of_another_mount_is_copied_into_one_directory(house: House, runner: BwrapSandbox) -> None:
    assert house.as_on_nixos("jq") == 2
    userland = await house.source().found(frozenset({"jq"}))
    assert userland is not None
    house.open()
    program = next(house.farm(userland).glob("*-jq/bin/jq"))
    original = Path(f"{house.root}/nix/store/{program.relative_to(house.farm(userland))}")
    kept, there = program.stat(), original.stat()
    assert (kept.st_nlink, kept.st_mode, kept.st_mtime) == (1, there.st_mode, there.st_mtime)
    assert program.read_bytes() == original.read_bytes()
    assert "jq-" in await run(runner, house, userland, "jq --version")
    assert house.as_on_nixos("jq", "git") == 2
    assert program.stat().st_nlink == 2, "what is copied already is not copied again"


async def test_without_copies_each_path_is_a_mount(house: House, runner: BwrapSandbox) -> None:
    mounts = house.as_on_nixos("jq", copies=False)
    assert mounts > 10
    userland = await house.source(copies=False).found(frozenset({"jq"}))
    assert userland is not None
    house.open()
    assert not house.farm(userland).exists()
    assert "jq-" in await run(runner, house, userland, "jq --version")


async def test_what_is_kept_outlives_the_generation_that_it_came_from(house: House, tmp_path: Path) -> None:
    """A store path that is collected is missed where it is wanted anew, and not where a copy of it is kept."""
    assert house.as_on_nixos("jq") == 2
    root = tmp_path / "emptied"
    (root / "nix" / "store").mkdir(parents=True)
    emptied = IndexSource(house.index, state_dir=tmp_path, root=str(root))
    with pytest.raises(BuildFailed, match=r"bashInteractive|jq.* is not in the store: it was collected"):
        await emptied.build(frozenset({"jq"}), log=print)
    assert await house.source().found(frozenset({"jq"})) is not None
    remove(tmp_path / "emptied")


async def test_a_package_that_the_index_lacks_is_an_error_with_the_nearest_name(house: House) -> None:
    with pytest.raises(PackageError, match=r"no package `pyhton3`\. Did you mean `python3`\? It has bash, ") as caught:
        await house.source().build(frozenset({"pyhton3"}), log=print)
    assert not caught.value.retryable
    for hostile in ("../jq", "jq\n", "${jq}", '"; x', "jq/../git", "\uff4a\uff51"):
        with pytest.raises(PackageError, match="no package"):
            await house.source().build(frozenset({hostile}), log=print)


async def test_another_switch_is_seen_and_changes_only_what_it_changed(house: House, tmp_path: Path) -> None:
    place = tmp_path / "packages.json"
    shutil.copy(house.index, place)
    source = IndexSource(place, state_dir=house.state, root=str(house.root))
    first, userland = await source.identity(), await source.build(frozenset({"jq"}), log=print)
    assert await source.identity() == first
    document = json.loads(place.read_text())
    del document["packages"]["git"]
    new = tmp_path / "new.json"
    new.write_text(json.dumps(document))
    new.replace(place)
    assert await source.identity() != first
    assert await source.found(frozenset({"jq"})) == userland
    with pytest.raises(PackageError, match="no package `git`"):
        await source.build(frozenset({"git"}), log=print)
    place.unlink()
    assert "no package index" in (await source.available() or "")
    assert await source.found(frozenset({"jq"})) is None
    await source.identity()


async def test_an_index_without_a_shell_is_refused(house: House, tmp_path: Path) -> None:
    document = json.loads(house.index.read_text())
    document["base"] = ["jq"]
    place = tmp_path / "packages.json"
    place.write_text(json.dumps(document))
    with pytest.raises(PackageError, match="has no bash"):
        await IndexSource(place, state_dir=house.state, root=str(house.root)).build(frozenset(), log=print)


async def test_what_nobody_uses_goes(house: House) -> None:
    source = house.source()
    userland = await source.build(frozenset({"jq"}), log=print)
    assert not await source.prune((), before=datetime.now(UTC) - timedelta(days=1))
    assert not await source.prune({userland.key}, before=datetime.now(UTC) + timedelta(days=1))
    assert await source.prune((), before=datetime.now(UTC) + timedelta(days=1))
    await source.collect()
    assert list((house.state / "envs").iterdir()) == []
    assert await source.found(frozenset({"jq"})) is None
