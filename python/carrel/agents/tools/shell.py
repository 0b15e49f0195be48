"""`shell`: one command of the agent's in the tenant's sandbox."""

from typing import Any

from carrel.agents.tools.output import fitted
from carrel.agents.tools.protocol import ToolOutcome, ToolSetting
from carrel.declare.tenant import SandboxConfig, ToolName
from carrel.sandbox.modes import UNTRUSTED_CODE
from carrel.sandbox.protocol import Job, Outcome
from carrel.sandbox.reasons import ending
from carrel.wire.conversation import ToolSpec


class Shell:
    """Runs `sh -c COMMAND` in /workspace."""

    name: ToolName = "shell"
    annotation: str | None = UNTRUSTED_CODE
    spec = ToolSpec(
        "shell",
        "Run a command with the shell, in /workspace. Output and errors come back with the exit code. What it leaves "
        "running in the background lives on only where the sandbox is kept (`sandbox.keep`).",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "minLength": 1, "maxLength": 100_000, "description": "The command."},
                "timeout_seconds": {
                    "type": "number", "exclusiveMinimum": 0,
                    "description": "Time after which all of it is killed. The most is the sandbox's own limit, which "
                                   "holds where this is left out.",
                },
            },
            "required": ["command"],
            "additionalProperties": False,
        },
    )  # fmt: skip

    async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
        most = setting.limits.wall_seconds
        seconds = min(float(arguments.get("timeout_seconds", most)), most)
        outcome, limits = await run_in_sandbox(("-c", arguments["command"]), setting, seconds=seconds, kept=True)
        content = await fitted(combined(outcome), setting, dropped=outcome.output_dropped)
        line_end = "" if not content or content.endswith("\n") else "\n"
        note = f"[{outcome.note}]\n" if outcome.note else ""
        return ToolOutcome(
            f"{content}{line_end}{note}[{ending(outcome, limits, most_seconds=most)}]",
            is_error=outcome.killed is not None or outcome.exit_code != 0,
            ending=outcome.killed or "",
        )


async def run_in_sandbox(
    arguments: tuple[str, ...],
    setting: ToolSetting,
    *,
    seconds: float | None = None,
    show: bool = True,
    kept: bool = False,
) -> tuple[Outcome, SandboxConfig]:
    """Run the userland's shell with ``arguments``; returns how it ended, and with which limits. ``show``: live output.

    ``kept``: in the agent's worker, where the tenant has its sandboxes kept.
    """
    userland = await setting.userland()
    await setting.workers.run(lambda: setting.directory().close())
    limits = setting.limits if seconds is None else setting.limits.model_copy(update={"wall_seconds": seconds})
    job = Job(
        argv=(userland.shell, *arguments), limits=limits, userland=userland, workspace=setting.workspace,
        keep=f"{setting.agent}:{setting.workspace}" if kept and setting.limits.keep else None, gate=setting.gate,
        confinement=setting.confinement,
    )  # fmt: skip
    outcome = await setting.sandbox.run(setting.tenant, job, on_output=setting.show if show else None)
    return outcome, limits


def combined(outcome: Outcome) -> bytes:
    """Output, then errors under a heading of their own."""
    if not outcome.stderr:
        return outcome.stdout
    if not outcome.stdout:
        return outcome.stderr
    between = b"" if outcome.stdout.endswith(b"\n") else b"\n"
    return outcome.stdout + between + b"[standard error]\n" + outcome.stderr
