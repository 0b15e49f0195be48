"""What the fake vendor does for a model's name: its answer, and how it goes wrong."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class FakeCall:
    """A tool call of the fake model; ``arguments`` is JSON text, valid or not."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """One answer. Frames are counted from 0: each is one server-sent event of the dialect in question.

    ``drop``: the connection is closed before any answer. ``status``: an error answer with ``error`` as its message.
    ``stall_at``, ``cut_at``, ``malformed_at``, ``error_at``: what happens before that frame: nothing more comes, the
    connection is reset, a broken record, an error record. ``stop_at``: the stream ends there, in good order.
    ``hold_at``: that frame and the rest come once the vendor's ``go_on`` is set. ``served``: the service tier that the
    answer says it was served at; it says none where this is empty. ``answer_id``: the id of every answer, where they
    have not each their own.
    """

    text: str = "Hello from the fake vendor."
    thinking: str = ""
    signature: str = "c2lnbmF0dXJl"
    redacted: str = ""
    calls: tuple[FakeCall, ...] = ()
    call_style: Literal["fragments", "whole", "no_index", "index_0", "object"] = "fragments"
    reasoning_field: str = "reasoning_content"
    piece: int = 8
    delay: float = 0.0
    keepalive: bool = False
    drop: bool = False
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    stall_at: int | None = None
    cut_at: int | None = None
    malformed_at: int | None = None
    error_at: int | None = None
    stop_at: int | None = None
    hold_at: int | None = None
    usage: dict[str, Any] | None = None
    usage_at: Literal["last", "finish", "choice", "x_groq", "none"] = "last"
    finish: str | None = ""
    done: bool = True
    unstreamed: bool = False
    refuses: tuple[str, ...] = ()
    served: str = ""
    answer_id: str = ""


OK = Script()
_SHELL = FakeCall("shell", '{"command": "echo hi"}', "call_1")

BUILT_IN: dict[str, tuple[Script, ...]] = {
    "fake-ok": (OK,),
    "fake-tools": (Script(text="", calls=(_SHELL,)),),
    "fake-thinking": (Script(thinking="Let me think about that."),),
    "fake-hourly": (Script(usage={"prompt": 100, "cache_write": 50, "cache_write_1h": 40, "completion": 20}),),
    "fake-cached": (Script(usage={"prompt": 100, "cached": 60, "completion": 20, "reasoning": 0}),),
    "fake-slow": (Script(delay=0.05),),
    "fake-endless": (Script(text="Word. " * 10_000, delay=0.05),),
    "fake-stalled": (Script(stall_at=0),),
    "fake-stalled-later": (Script(stall_at=3),),
    "fake-cut": (Script(cut_at=4),),
    "fake-malformed": (Script(malformed_at=4),),
    "fake-limited": (Script(status=429, error="Slow down.", headers={"Retry-After": "0"}), OK),
    "fake-limited-always": (Script(status=429, error="Slow down.", headers={"Retry-After": "7"}),),
    "fake-flaky": (Script(status=500, error="Something broke."), OK),
    "fake-down": (Script(status=503, error="Unavailable."),),
    "fake-refused": (Script(status=401, error="Incorrect API key provided: sk-wrong-1234567890."),),
    "fake-dropped": (Script(drop=True), OK),
    "fake-dropped-always": (Script(drop=True),),
    "fake-big": (Script(text="0123456789abcdef" * 65_536, piece=16_384),),
    "fake-usage-none": (Script(usage_at="none"),),
    "fake-usage-choice": (Script(usage_at="choice"),),
    "fake-usage-groq": (Script(usage_at="x_groq"),),
    "fake-usage-finish": (Script(usage_at="finish"),),
    "fake-unstreamed": (Script(unstreamed=True),),
}
"""Scripts by model name, taken in turn and begun again: `fake-limited` answers 429, then well, then 429."""


def pieces(text: str, size: int) -> list[str]:
    """``text`` in pieces of ``size`` characters."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def usage_numbers(script: Script) -> dict[str, int]:
    """prompt, cached, cache_write, completion and reasoning tokens of an answer, before a dialect dresses them."""
    numbers = {"prompt": 100, "cached": 0, "cache_write": 0, "cache_write_1h": 0, "completion": 20, "reasoning": 0}
    if script.thinking:
        numbers["reasoning"] = 7
    return numbers | {k: v for k, v in (script.usage or {}).items() if k in numbers}
