"""`file_search`: lines that match a pattern, found by ripgrep or grep within the sandbox."""

from typing import Any, Final

from carrel.agents.tools.output import fitted
from carrel.agents.tools.protocol import ToolOutcome, ToolSetting
from carrel.agents.tools.shell import run_in_sandbox
from carrel.agents.workspace import beneath
from carrel.declare.tenant import ToolName
from carrel.sandbox.reasons import ending
from carrel.wire.conversation import ToolSpec

MAX_RESULTS: Final = 1000
DEFAULT_RESULTS: Final = 100
LINE_BYTES: Final = 500
# The pattern and the path are arguments of the script, never a part of it.
_SCRIPT: Final = """\
if command -v rg >/dev/null 2>&1; then
  rg --no-config --no-messages --line-number --no-heading --with-filename --color never --hidden --no-ignore \\
    --sort path -g '!.git' -g '!/.carrel' -e "$1" -- "$2"
else
  grep -rnHIEs --exclude-dir=.git --exclude-dir=.carrel -e "$1" -- "$2"
fi | head -c 4000000"""


class FileSearch:
    """Finds lines by a regular expression."""

    name: ToolName = "file_search"
    annotation: str | None = None
    spec = ToolSpec(
        "file_search",
        "Find the lines that match an extended regular expression, in all text files beneath a path. Each result is "
        "`path:line number:line`.",
        {
            "type": "object",
            "properties": {
                "pattern": {"type": "string", "minLength": 1, "maxLength": 10_000,
                            "description": "The regular expression."},
                "path": {"type": "string", "maxLength": 4096,
                         "description": "A file or directory in /workspace; all of it where left out."},
                "max_results": {"type": "integer", "minimum": 1, "maximum": MAX_RESULTS,
                                "description": f"Results at most; {DEFAULT_RESULTS} where left out."},
            },
            "required": ["pattern"],
            "additionalProperties": False,
        },
    )  # fmt: skip

    async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
        most = int(arguments.get("max_results", DEFAULT_RESULTS))
        path = beneath(arguments.get("path", "."))
        where = path if path == "." else f"./{path}"
        call = ("-c", _SCRIPT, "file_search", arguments["pattern"], where)
        outcome, limits = await run_in_sandbox(call, setting, show=False)
        lines = [line.removeprefix(b"./") for line in outcome.stdout.split(b"\n") if line]
        if not lines and (outcome.stderr or outcome.killed):
            said = await fitted(outcome.stderr, setting)
            text = f"The search failed: {said.strip()} [{ending(outcome, limits)}]"
            return ToolOutcome(text, is_error=True, ending=outcome.killed or "")
        if not lines:
            return ToolOutcome("No line matches.")
        content = await fitted(b"\n".join(_short(line) for line in lines[:most]), setting)
        if len(lines) > most:
            content += f"\n[The first {most} results; there are more. Narrow the pattern or the path.]"
        if outcome.killed:
            content += f"\n[{ending(outcome, limits)}]"
        return ToolOutcome(content, ending=outcome.killed or "")


def _short(line: bytes) -> bytes:
    return line if len(line) <= LINE_BYTES else line[:LINE_BYTES] + b" [...]"
