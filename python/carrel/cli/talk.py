"""A turn of an agent as it is seen: the answer as it comes, and every tool call between."""

import sys
from typing import Final

from carrel.cli import screen
from carrel.cli.screen import Cleaner
from carrel.wire.control import ChatEvent

_MAX_ARGUMENTS: Final = 2000
_DIM: Final = "2"
_BOLD: Final = "1"


class TurnView:
    """Shows one turn's events; ``close`` it, however the turn ended."""

    def __init__(self) -> None:
        self._answer = Cleaner()
        self._outputs: dict[str, Cleaner] = {}
        self._kind = ""
        self._at_line_start = True
        self._colour = screen.wants_colour(sys.stdout)

    def show(self, event: ChatEvent) -> None:
        """Show one event."""
        match event.kind:
            case "text":
                self._piece("text", self._answer.feed(event.text or ""))
            case "thinking":
                self._piece("thinking", screen.clean(event.text or ""), _DIM)
            case "notice":
                self._line(f"({screen.one_line(event.text or '')})", _DIM)
            case "tool_started":
                self._started(event)
            case "tool_output":
                cleaner = self._outputs.setdefault(event.id or "", Cleaner())
                self._piece(f"output {event.id}", cleaner.feed(event.text or ""), _DIM)
            case "tool_finished":
                self._finished_tool(event)
            case _:
                return

    def close(self) -> None:
        """Show what is still held, and end the line."""
        self._piece(self._kind, self._answer.finish())
        self._break()

    def _started(self, event: ChatEvent) -> None:
        arguments = screen.one_line(event.arguments or "")
        cut = arguments if len(arguments) <= _MAX_ARGUMENTS else arguments[:_MAX_ARGUMENTS] + "…"
        self._line(f"» {screen.one_line(event.name or '')} {cut}", _BOLD)

    def _finished_tool(self, event: ChatEvent) -> None:
        streamed = self._outputs.pop(event.id or "", None)
        if streamed is not None:
            self._piece(f"output {event.id}", streamed.finish(), _DIM)
        elif event.content:
            self._piece(f"output {event.id}", screen.clean(event.content), _DIM)
        took = f" in {event.seconds:.2f} s" if event.seconds is not None else ""
        self._line(f"« {screen.one_line(event.name or '')} {'failed' if event.is_error else 'done'}{took}", _DIM)

    def _piece(self, kind: str, text: str, style: str | None = None) -> None:
        """Write ``text``, which goes on where what was shown last is of the same ``kind``, else on a new line."""
        if not text:
            return
        if kind != self._kind:
            self._break()
            self._kind = kind
        sys.stdout.write(f"\x1b[{style}m{text}\x1b[0m" if style and self._colour else text)
        sys.stdout.flush()
        self._at_line_start = text.endswith("\n")

    def _line(self, text: str, style: str) -> None:
        self._kind = ""
        self._piece("line", text, style)
        self._break()

    def _break(self) -> None:
        if not self._at_line_start:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._at_line_start = True
        self._kind = ""
