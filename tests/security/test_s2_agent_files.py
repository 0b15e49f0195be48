"""Security 2: what a sandbox plants in its workspace leads the file tools nowhere, and stops them for nobody else."""

import asyncio
import ctypes
import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carrel.agents.tools.files import FileEdit, FileRead, FileWrite
from carrel.agents.tools.listing import FileList
from carrel.agents.tools.output import fitted
from carrel.agents.tools.protocol import Tool, ToolOutcome, ToolSetting
from carrel.agents.tools.search import FileSearch
from carrel.agents.tools.shell import Shell
from carrel.agents.tools.toolbox import Toolbox
from carrel.agents.turnstile import Turnstile
from carrel.agents.workers import Workers
from carrel.declare.tenant import ALL_TOOLS, SandboxConfig
from carrel.errors import CarrelError, InvalidRequest, UnsafePath
from carrel.tenancy.userland import Userland
from carrel.wire.conversation import ToolCall
from tests.fakes.agents import house
from tests.fakes.patience import PATIENCE
from tests.fakes.sandbox import HOST, FakeSandbox
from tests.fakes.tenants import make_tenant

SECRET = "canary-of-somebody-else"
RENAME_EXCHANGE = 2


@dataclass
class Rig:
    """A workspace with secrets around it: in the tenant's other directories, of another tenant, and on the host."""

    setting: ToolSetting
    workspace: Path
    tenant: Path
    other: Path
    host: Path

    @property
    def targets(self) -> tuple[Path, ...]:
        return (self.tenant / "config.yaml", self.other / "config.yaml", self.host / "secret")

    def unchanged(self) -> bool:
        """Whether every secret is as it was, and nothing came beside it."""
        alone = os.listdir(self.host) == ["secret"] and os.listdir(self.other) == ["config.yaml"]
        return alone and all(target.read_text() == SECRET for target in self.targets)

    async def run(self, tool: Tool, **arguments: Any) -> ToolOutcome:
        return await tool.run(arguments, self.setting)

    async def attempts(self, path: str) -> None:
        """Every way of getting at ``path`` is refused."""
        for tool, arguments in (
            (FileRead(), {"path": path}),
            (FileWrite(), {"path": path, "content": "overwritten"}),
            (FileEdit(), {"path": path, "old": "canary", "new": "x"}),
        ):
            with pytest.raises(CarrelError) as caught:
                await self.run(tool, **arguments)
            assert SECRET not in caught.value.message
            assert str(self.tenant) not in caught.value.message
        assert self.unchanged()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    tenant, workers = make_tenant(tmp_path), Workers()
    root, other, host = tmp_path / "tenants/acme", tmp_path / "tenants/bravo", tmp_path / "host"
    (root / "sandbox").mkdir()
    other.mkdir()
    host.mkdir()
    for directory, name in ((root, "config.yaml"), (other, "config.yaml"), (host, "secret")):
        (directory / name).write_text(SECRET)

    async def userland() -> Userland:
        return HOST

    setting = ToolSetting(
        tenant=tenant, agent="main", workspace="sandbox", call_id="call-1", sandbox=FakeSandbox(), userland=userland,
        workers=workers, show=lambda _: None, editing=Turnstile("the workspace").passing,
    )  # fmt: skip
    yield Rig(setting, root / "sandbox", root, other, host)
    workers.close()
    tenant.root.close()


async def test_S2_01_paths_that_leave_the_workspace_are_refused(rig: Rig) -> None:
    for path in ("../config.yaml", "a/../../config.yaml", "/workspace/../config.yaml", "../../bravo/config.yaml",
                 str(rig.host / "secret"), "/proc/self/environ", "/workspace/../../../../../etc/passwd"):  # fmt: skip
        await rig.attempts(path)
        with pytest.raises(CarrelError):
            await rig.run(FileList(), path=str(Path(path).parent))


async def test_S2_01_links_that_the_sandbox_made_are_not_followed(rig: Rig) -> None:
    for number, target in enumerate(rig.targets):
        (rig.workspace / f"absolute{number}").symlink_to(target)
        (rig.workspace / f"relative{number}").symlink_to(os.path.relpath(target, rig.workspace))
        (rig.workspace / f"directory{number}").symlink_to(target.parent)
        for path in (f"absolute{number}", f"relative{number}", f"directory{number}/{target.name}"):
            await rig.attempts(path)
        with pytest.raises(UnsafePath):
            await rig.run(FileWrite(), path=f"directory{number}/new", content="x")
        with pytest.raises(UnsafePath):
            await rig.run(FileList(), path=f"directory{number}")
    (rig.workspace / "magic").symlink_to("/proc/self/root")
    await rig.attempts("magic/etc/hostname")
    assert rig.unchanged()


async def test_S2_01_what_is_in_the_workspace_stays_open(rig: Rig) -> None:
    await rig.run(FileWrite(), path="/workspace/b/c.txt", content="fine")
    assert (await rig.run(FileRead(), path="b/../b/c.txt")).content == "fine"
    assert "c.txt" in (await rig.run(FileList(), path="b")).content
    await rig.run(FileEdit(), path="b/c.txt", old="fine", new="better")
    assert (rig.workspace / "b/c.txt").read_text() == "better"
    assert "better" in (await rig.run(FileSearch(), pattern="better")).content


async def test_S2_02_hard_links_and_pipes_and_devices_are_no_files(rig: Rig) -> None:
    for number, target in enumerate(rig.targets):
        os.link(target, rig.workspace / f"hard{number}")
        await rig.attempts(f"hard{number}")
    os.mkfifo(rig.workspace / "pipe")
    (rig.workspace / "directory").mkdir()
    async with asyncio.timeout(PATIENCE):  # a pipe that is opened for reading blocks, but not here
        for path in ("pipe", "directory"):
            await rig.attempts(path)


async def test_S2_02_a_plain_file_of_ones_own_is_one(rig: Rig) -> None:
    (rig.workspace / "plain").write_text("mine")
    assert (await rig.run(FileRead(), path="plain")).content == "mine"


async def test_S2_02_kept_output_does_not_follow_what_was_planted(rig: Rig) -> None:
    data = b"x" * 100_000
    for whole in (True, False):
        _plant(rig, whole=whole)
        text = await fitted(data, rig.setting)
        assert "could not be kept" in text
        assert rig.unchanged()
        _clear(rig.workspace)
    assert "/workspace/.carrel/output/" in await fitted(data, rig.setting)


def _plant(rig: Rig, *, whole: bool) -> None:
    if whole:
        (rig.workspace / ".carrel").symlink_to(rig.host)
        return
    (rig.workspace / ".carrel").mkdir()
    (rig.workspace / ".carrel/output").symlink_to(rig.host)


def _clear(workspace: Path) -> None:
    planted = workspace / ".carrel"
    if planted.is_symlink():
        planted.unlink()
        return
    for name in os.listdir(planted):
        (planted / name).unlink()
    planted.rmdir()


@pytest.mark.parametrize("tool", ["read", "write", "list"])
async def test_S2_03_exchanges_during_a_call_let_nothing_out(rig: Rig, tool: str) -> None:
    """A directory and a link to the secret's change places all the while; every answer is the own file or a refusal."""
    (rig.workspace / "d").mkdir()
    (rig.workspace / "d/secret").write_text("own")
    (rig.workspace / "link").symlink_to(rig.host)
    racer = _Racer(rig.workspace)
    racer.start()
    calls: dict[str, Callable[[], Awaitable[ToolOutcome]]] = {
        "read": lambda: rig.run(FileRead(), path="d/secret"),
        "write": lambda: rig.run(FileWrite(), path="d/secret", content="own"),
        "list": lambda: rig.run(FileList(), path="d"),
    }
    refused = answered = 0
    try:
        while racer.exchanges < 100_000 or not answered or not refused:
            try:
                outcome = await calls[tool]()
                answered += 1
                assert SECRET not in outcome.content
            except UnsafePath:
                refused += 1
    finally:
        racer.stop.set()
        racer.join()
    assert rig.unchanged()


class _Racer(threading.Thread):
    """Exchanges `d` and `link` in one step, again and again."""

    def __init__(self, workspace: Path) -> None:
        super().__init__()
        self.exchanges = 0
        self.stop = threading.Event()
        self._workspace = workspace

    def run(self) -> None:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        at = os.open(self._workspace, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while not self.stop.is_set():
                assert renameat2(at, b"d", at, b"link", RENAME_EXCHANGE) == 0
                self.exchanges += 1
        finally:
            os.close(at)


async def test_S2_04_workspaces_of_persons_and_sessions_are_not_in_one_another(tmp_path: Path) -> None:
    async with house(tmp_path, sandbox=SandboxConfig(scope="session")) as home:
        for session in ("one", "one-more"):
            await home.say(f"write: mine\n{session}", session=session)
        for path in ("../session-one-more/mine", "/workspace/../session-one-more/mine", "../../config.yaml"):
            events = await home.say(f"read: {path}", session="one")
            assert "leaves its root" in repr(events)
        assert "one" in repr(await home.say("read: mine", session="one"))
        roots = [job.workspace for _, job in home.sandbox.jobs]
        assert not any(other.startswith(own + "/") for own in roots for other in roots)
        assert not (tmp_path / "tenants/acme/sandbox").exists()


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\x00b", "n" * 300, "d/" * 2100 + "x", "\ud800"])
async def test_S2_05_names_with_controls_or_without_end_are_refused(rig: Rig, name: str) -> None:
    for tool, more in (("file_write", {"content": "x"}), ("file_read", {}), ("file_edit", {"old": "a", "new": "b"})):
        call = ToolCall("c", tool, json.dumps({"path": name, **more}))
        outcome = await Toolbox().call(call, rig.setting, offered=ALL_TOOLS)
        assert outcome.is_error
    assert os.listdir(rig.workspace) == []


async def test_S2_05_names_of_every_language_are_taken(rig: Rig) -> None:
    for name in ("naïve file.txt", "文件.md", "🙂", "n" * 255, "-rf", "$(x)"):
        await rig.run(FileWrite(), path=name, content=name)
        assert (await rig.run(FileRead(), path=name)).content == name


async def test_S2_04_a_command_is_run_in_the_sandbox_and_nowhere_else(rig: Rig) -> None:
    sandbox = rig.setting.sandbox
    assert isinstance(sandbox, FakeSandbox)
    await rig.run(Shell(), command="true")
    await rig.run(FileSearch(), pattern="x")
    assert [job.argv[0] for _, job in sandbox.jobs] == [HOST.shell, HOST.shell]
    assert all(dict(job.env) == {} and job.cwd == "/workspace" for _, job in sandbox.jobs)
    with pytest.raises(InvalidRequest):
        await rig.run(FileWrite(), path="/workspace", content="x")
