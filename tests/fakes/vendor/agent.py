"""The fake model that works for an agent program: it asks for one command, and then says what came of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from tests.fakes.vendor.scripts import OK, FakeCall, Script

MODEL: Final = "fake-agent"
COMMAND: Final = "echo written by the program | tee made.txt; cat /proc/[0-9]*/environ > seen.txt 2>&1"
ARGUMENTS: Final[dict[str, Any]] = {
    "exec_command": {"cmd": COMMAND},
    "shell_command": {"command": COMMAND},
    "shell": {"command": ["bash", "-c", COMMAND]},
    "bash": {"command": COMMAND},
}
"""How programs call a shell: the arguments by the tool's name."""


def script_for(body: dict[str, Any]) -> Script:
    """The answer to ``body``, in any of the dialects."""
    result = next(_results(body), None)
    if result is not None:
        return replace(OK, text=f"The tool said: {json.dumps(result)[:400]}")
    name = next((name for name in _tools(body.get("tools")) if name in ARGUMENTS), None)
    if name is None:
        return replace(OK, text=f"No shell among: {', '.join(_tools(body.get('tools')))}")
    return replace(OK, text="", calls=(FakeCall(name, json.dumps(ARGUMENTS[name]), "call_shell"),))


def _tools(tools: Any) -> Iterator[str]:
    for tool in tools or []:
        if tool.get("type") == "namespace":
            yield from _tools(tool["tools"])
        else:
            yield str(tool.get("name") or (tool.get("function") or {}).get("name") or tool.get("type"))


def _results(body: dict[str, Any]) -> Iterator[Any]:
    """The results of tools, wherever the dialect has them."""
    given = body.get("input")
    for item in given if isinstance(given, list) else []:
        if str(item.get("type")).endswith("_output"):
            yield item.get("output")
    for message in body.get("messages") or []:
        if message["role"] == "tool":
            yield message["content"]
        for block in message["content"] if isinstance(message["content"], list) else []:
            if block.get("type") == "tool_result":
                yield block["content"]
