"""`request_access`: ask a person for what the agent may not reach yet."""

from typing import Any

from carrel.agents.tools.protocol import ToolOutcome, ToolSetting
from carrel.declare.tenant import ToolName
from carrel.wire.conversation import ToolSpec


class RequestAccess:
    """Asks, waits some time, and says how it was decided."""

    name: ToolName = "request_access"
    annotation: str | None = None
    spec = ToolSpec(
        "request_access",
        "Ask a person to open a host to the sandbox, to add a package to it, or to allow another tool. Say why. The "
        "answer is the decision; where nobody has decided yet, go on with something else and ask again later.",
        {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["host", "package", "tool"], "description": "What is asked for."},
                "what": {
                    "type": "string", "minLength": 1, "maxLength": 300,
                    "description": "`api.example.com` or `api.example.com:8443`; a package's name; a tool's name.",
                },
                "reason": {"type": "string", "minLength": 1, "maxLength": 2000, "description": "Why it is needed."},
            },
            "required": ["kind", "what", "reason"],
            "additionalProperties": False,
        },
    )  # fmt: skip

    async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
        """See `Tool.run`."""
        if setting.access is None:
            return ToolOutcome("Nobody can be asked here.", is_error=True)
        return ToolOutcome(await setting.access(arguments["kind"], arguments["what"], arguments["reason"]))
