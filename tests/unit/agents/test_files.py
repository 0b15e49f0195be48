"""Files of agents, and what the prompt holds of them."""

from pathlib import Path

import pytest

from carrel.agents.files import IN_PROMPT, AgentFile, AgentFiles
from carrel.agents.prompt import system_prompt
from carrel.declare.tenant import Agent
from carrel.errors import InvalidRequest, NotFound
from tests.fakes.tenants import make_tenant


async def test_each_agent_has_its_own_also_after_a_restart(tmp_path: Path) -> None:
    tenant, files = make_tenant(tmp_path), AgentFiles()
    await files.set(tenant, "main", "USER.md", "Ann")
    await files.set(tenant, "other", "USER.md", "Bob")
    assert [file.text for file in await AgentFiles().of(tenant, "main")] == ["Ann"]
    await files.remove(tenant, "main")
    assert await files.of(tenant, "main") == ()
    assert [file.text for file in await files.of(tenant, "other")] == ["Bob"]


async def test_what_is_no_such_file_or_no_text_is_refused(tmp_path: Path) -> None:
    tenant, files = make_tenant(tmp_path), AgentFiles()
    with pytest.raises(NotFound):
        await files.get(tenant, "main", "passwd")
    with pytest.raises(InvalidRequest):
        await files.set(tenant, "main", "USER.md", "a\0b")


async def test_a_link_in_the_place_of_a_file_is_not_read(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    (tmp_path / "secret").write_text("secret")
    directory = tmp_path / "tenants" / "acme" / "agents" / "main"
    directory.mkdir(parents=True)
    (directory / "USER.md").symlink_to(tmp_path / "secret")
    assert await AgentFiles().of(tenant, "main") == ()


def test_the_prompt_holds_them_in_their_order_and_only_so_much() -> None:
    files = (AgentFile("SOUL.md", "Be kind."), AgentFile("MEMORY.md", "x" * (IN_PROMPT + 1)), AgentFile("USER.md", " "))
    told = system_prompt(Agent(system_prompt="You are it.", tools=()), addition="And so on.", files=files)
    assert told.index("You are it.") < told.index("## SOUL.md\n\nBe kind.") < told.index("## MEMORY.md")
    assert "only this much" in told
    assert "USER.md" not in told
    assert told.endswith("And so on.")
