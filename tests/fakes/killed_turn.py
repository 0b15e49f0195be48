"""A process that plays turns with the demo provider and says each event on a line, to be killed at any of them.

``python -m tests.fakes.killed_turn STATE MESSAGE...``
"""

import asyncio
import json
import sys
from pathlib import Path

from carrel.agents.events import AnswerDelta, ToolFinished, TurnFinished
from tests.fakes.agents import house


async def main(state: Path, messages: list[str]) -> None:
    """Play one turn for each message."""
    async with house(state) as home:
        for message in messages:
            async for event in home.agents.run(home.tenant, home.snapshot, home.turn(message)):
                said = {"kind": type(event).__name__}
                if isinstance(event, AnswerDelta | TurnFinished):
                    said["text"] = event.text
                if isinstance(event, ToolFinished):
                    said["text"] = event.content
                sys.stdout.write(json.dumps(said) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
