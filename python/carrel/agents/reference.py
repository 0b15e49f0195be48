"""The reference page of the tools, made from what models are shown of them.

``python -m carrel.agents.reference DIRECTORY`` writes it; a test holds the checked-in page to it.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from carrel.agents.tools.files import MAX_FILE_BYTES
from carrel.agents.tools.output import HEAD_BYTES, KEPT_FILES, KEPT_IN, TAIL_BYTES
from carrel.agents.tools.protocol import Tool
from carrel.agents.tools.toolbox import ALL
from carrel.agents.workspace import INSIDE

PAGE: Final = "tools.md"
_HEAD: Final = f"""# Tools

<!-- Made by `python -m carrel.agents.reference docs/reference`. Edit the tools, not this page. -->

What an agent may call: those of its `tools`, all of them by default. Arguments are checked by the JSON Schemas below;
what does not fit goes back to the model with the place that is wrong, as does every other failure.

- **Where they run.** `shell` and `file_search` run in the tenant's sandbox. The other file tools open files by
  descriptor beneath the workspace: a path that leaves it, passes through a link, or is no plain file with one name is
  refused.
- **Paths** are `{INSIDE}/x` or `x`, which mean the same.
- **Long output** is cut to its first {HEAD_BYTES:,} and last {TAIL_BYTES:,} bytes, and kept whole in
  `{INSIDE}/{KEPT_IN}/`, where the newest {KEPT_FILES} are kept. Bytes that are no UTF-8, and characters that
  would steer a terminal, are written as `\\xNN` or `\\uNNNN`.
- **Time** runs out for a command after `timeout_seconds`, or `sandbox.wall_seconds` at most; all that it started is
  killed, and the result says so. A result ends with how the command did: `[exit code 0]`.
- **Files** over {MAX_FILE_BYTES >> 20} MiB are not read or edited; the shell can.
"""


def page(tools: Iterable[Tool] = ALL) -> str:
    """The page."""
    return _HEAD + "".join(_section(tool) for tool in tools)


def write(directory: Path) -> None:
    """Write the page into ``directory``."""
    (directory / PAGE).write_text(page())


def _section(tool: Tool) -> str:
    spec = tool.spec
    properties: dict[str, dict[str, Any]] = spec.parameters["properties"]
    required = spec.parameters.get("required", [])
    rows = "".join(
        f"| `{name}` | {_kind(schema)} | {'yes' if name in required else ''} | {schema['description']} |\n"
        for name, schema in properties.items()
    )
    return (
        f"\n## {spec.name}\n\n{spec.description}\n\n| argument | type | required | |\n|---|---|---|---|\n{rows}"
        f"\n```json\n{json.dumps(spec.parameters, indent=2)}\n```\n"
    )


def _kind(schema: dict[str, Any]) -> str:
    bounds = [
        f"{words} {schema[key]:,}"
        for key, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "over"),
            ("maximum", "at most"),
            ("minLength", "characters at least"),
            ("maxLength", "characters at most"),
        )
        if key in schema
    ]
    return ", ".join([str(schema["type"]), *bounds])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
