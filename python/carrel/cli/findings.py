"""What `carrel doctor` finds."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``mend`` says what to do where it is not ok."""

    what: str
    state: State
    text: str
    mend: str = ""
