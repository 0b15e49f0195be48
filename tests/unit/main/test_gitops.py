import asyncio
from pathlib import Path

import pytest

from carrel.cli.gateway_options import GatewayOptions
from carrel.declare.problems import DeclarationInvalid
from carrel.main.gitops import Declared
from carrel.secrets import SecretStore
from carrel.tasks import Tasks
from carrel.vcs.branch import Branch, Elsewhere
from carrel.vcs.work_tree import WorkTree
from tests.fakes.clock import FakeClock
from tests.fakes.declarations import declare
from tests.fakes.gitops import Followed, Recorded
from tests.fakes.repositories import Clone


async def opened(tmp_path: Path, settings: str | None) -> Declared:
    git = None
    if settings is not None:
        git = tmp_path / "git.yaml"
        git.write_text(settings)
    options = GatewayOptions("127.0.0.1", 0, tmp_path / "tenants.d", tmp_path / "state", None, "info", False, git=git)
    secrets = SecretStore(credentials_dir=None, secrets_dir=None, environ={})
    return await Declared.open(options, secrets=secrets, audit=Recorded(), clock=FakeClock())  # type: ignore[arg-type]


async def test_a_plain_directory(tmp_path: Path) -> None:
    made = await opened(tmp_path, None)
    assert (made.directory, made.service) == (tmp_path / "tenants.d", None)
    assert isinstance(made.place, WorkTree)


async def test_a_branch_that_is_pushed_to(tmp_path: Path) -> None:
    made = await opened(tmp_path, "push: {}\n")
    assert [file.name for file in made.directory.iterdir()] == ["_gateway.yaml"]
    assert type(made.place) is Branch
    assert made.service is not None
    assert made.service.report()["mode"] == "push"
    tasks = Tasks("test")
    made.follow(Followed(), tasks)  # type: ignore[arg-type] # all that it asks of a reconciler
    assert len(tasks) == 2
    await tasks.close()


async def test_a_branch_elsewhere_is_there_at_the_first_start(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "upstream")
    declare(clone.path, acme="plan: pro\n")
    commit = clone.commit({})
    made = await opened(tmp_path, f"pull: {{url: 'file://{clone.path}', unsigned: true}}\n")
    assert made.directory.name == commit
    assert isinstance(made.place, Elsewhere)
    tasks = Tasks("test")
    made.follow(Followed(), tasks)  # type: ignore[arg-type] # as above
    assert len(tasks) == 2
    await tasks.close()
    clone.path.rename(tmp_path / "gone")
    again = await opened(tmp_path, f"pull: {{url: 'file://{clone.path}', unsigned: true}}\n")
    assert again.directory.name == commit
    assert again.service is not None
    assert again.service.report()["pull"] == "Unreachable"
    assert asyncio.current_task() is not None


async def test_wrong_settings_start_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeclarationInvalid):
        await opened(tmp_path, "push: {}\npull: {}\n")
