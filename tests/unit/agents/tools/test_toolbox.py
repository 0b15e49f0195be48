"""Whatever a model asks for, it gets an answer that it can read."""

from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from carrel.agents.tools.toolbox import ALL, Toolbox
from carrel.declare.tenant import ALL_TOOLS, SandboxMode
from carrel.errors import SandboxUnavailable, Unavailable
from carrel.tenancy.userland import Userland
from carrel.wire.conversation import ToolCall
from tests.unit.agents.tools.conftest import Rig


def test_there_is_every_tool_that_may_be_declared() -> None:
    assert {tool.name for tool in ALL} == set(ALL_TOOLS)
    assert [spec.name for spec in Toolbox().specs(ALL_TOOLS)] == list(ALL_TOOLS)


@pytest.mark.parametrize("tool", ALL, ids=lambda tool: tool.name)
def test_every_schema_is_closed_and_describes_each_argument(tool: object) -> None:
    spec = tool.spec  # type: ignore[attr-defined] # parametrised over tools
    Draft202012Validator.check_schema(spec.parameters)
    assert spec.parameters["additionalProperties"] is False
    assert all(argument["description"] for argument in spec.parameters["properties"].values())
    assert spec.description.endswith(".")


async def test_a_call_is_checked_and_run(rig: Rig) -> None:
    outcome = await Toolbox().call(ToolCall("c", "shell", '{"command": "echo hi"}'), rig.setting, offered=["shell"])
    assert (outcome.content, outcome.is_error) == ("hi\n[exit code 0]", False)


async def test_a_tool_is_run_in_the_mode_that_the_operator_gives_it(rig: Rig) -> None:
    strict = SandboxMode(runtime="oci", runtime_class="runsc", pids=33)
    shell, search = ToolCall("c", "shell", '{"command": "true"}'), ToolCall("c", "file_search", '{"pattern": "x"}')
    for modes, wanted in (
        ({"modes": {"untrusted_code": strict}}, [("oci", 33), ("bwrap", 256)]),
        ({"modes": {"strict": strict}, "default_mode": "strict"}, [("oci", 33), ("oci", 33)]),
        ({"modes": {"untrusted_code": strict}, "tool_modes": {"shell": "bwrap"}}, [("bwrap", 256), ("bwrap", 256)]),
    ):
        rig.sandbox.jobs.clear()
        rig.limited(**({"default_mode": "bwrap", "tool_modes": {}} | modes))
        for call in (shell, search):
            await Toolbox().call(call, rig.setting, offered=["shell", "file_search"])
        assert [(job.confinement.runtime, job.limits.pids) for _, job in rig.sandbox.jobs] == wanted


async def test_no_argument_of_a_models_chooses_a_mode(rig: Rig) -> None:
    rig.limited(modes={"untrusted_code": SandboxMode(runtime="oci")})
    call = ToolCall("c", "shell", '{"command": "true", "mode": "bwrap"}')
    outcome = await Toolbox().call(call, rig.setting, offered=["shell"])
    assert (outcome.is_error, rig.sandbox.jobs) == (True, [])


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("nothing", "{}", "There is no tool 'nothing'. Tools at hand: shell, file_read."),
        ("file_write", '{"path": "x", "content": "y"}', "There is no tool 'file_write'"),
        ("shell", '{"command": 1}', "$.command: 1 is not of type 'string'"),
        ("shell", "{", "are not JSON"),
        ("file_read", '{"path": "nothing"}', "There is no /workspace/nothing."),
        ("file_read", '{"path": "../x"}', "leaves its root"),
    ],
)
async def test_what_is_wrong_is_a_result(rig: Rig, name: str, arguments: str, said: str) -> None:
    outcome = await Toolbox().call(ToolCall("c", name, arguments), rig.setting, offered=["shell", "file_read"])
    assert outcome.is_error
    assert said in outcome.content
    assert not (rig.path / "x").exists()


async def test_no_sandbox_and_no_environment_are_results(rig: Rig) -> None:
    asked = ToolCall("c", "shell", '{"command": "true"}')
    rig.sandbox.error = SandboxUnavailable("bubblewrap is missing")
    outcome = await Toolbox().call(asked, rig.setting, offered=["shell"])
    assert (outcome.content, outcome.is_error) == ("bubblewrap is missing", True)

    async def building() -> Userland:
        raise Unavailable("The environment is still being built.")

    outcome = await Toolbox().call(asked, replace(rig.setting, userland=building), offered=["shell"])
    assert (outcome.content, outcome.is_error) == ("The environment is still being built.", True)
