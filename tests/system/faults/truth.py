"""What callers know: what they asked for, and what of it they were told is done.

What was acknowledged is there afterwards, once. What was asked and not acknowledged is there once or not at all. Of a
value that is replaced, the last one acknowledged counts, or one that was asked for after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

UNKNOWN: Final = "?"
"""A token that was made and never told to anybody."""


@dataclass(slots=True)
class Asked:
    """One thing that was asked for; ``where`` is what it belongs to."""

    where: str = ""
    count: int = 1
    acked: bool = False


@dataclass(slots=True)
class Value:
    """One value after another of the same thing."""

    acked: str = ""
    doubtful: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def ask(self, value: str) -> None:
        """It was asked for."""
        self.doubtful.append(value)

    def ack(self, value: str) -> None:
        """It was told to be in force: nothing before it is any more."""
        if self.acked and self.acked != value:
            self.ended.append(self.acked)
        self.ended += [old for old in self.doubtful if old not in (value, UNKNOWN)]
        self.acked, self.doubtful = value, []

    @property
    def possible(self) -> Sequence[str]:
        """What may be in force."""
        return [self.acked, *self.doubtful]


@dataclass
class Truth:
    """All of it, of one gateway's life through many deaths."""

    calls: dict[str, Asked] = field(default_factory=dict)
    """Model calls by request id: ``where`` is the tenant, ``count`` how many rows it is."""
    said: dict[str, Asked] = field(default_factory=dict)
    """Messages by a word in them: ``where`` is the session."""
    deleted: dict[str, Asked] = field(default_factory=dict)
    """Sessions that were deleted."""
    notes: dict[str, Asked] = field(default_factory=dict)
    """Memory by a word in it."""
    jobs: dict[str, Asked] = field(default_factory=dict)
    """Jobs by name, which is in their message too."""
    changes: dict[str, Asked] = field(default_factory=dict)
    """Changes by request id: ``where`` is their action, ``count`` how many lines of the audit log they are."""
    commits: dict[str, Asked] = field(default_factory=dict)
    """Lines of YAML that each come with one commit: ``where`` is the file."""
    tokens: dict[str, Value] = field(default_factory=dict)
    """By name; the empty text is one that was revoked."""
    secrets: dict[str, Asked] = field(default_factory=dict)
    """By name: ``count`` is how many values were asked for, ``where`` how many of them were told."""
    display_name: Value = field(default_factory=Value)

    def asked(self) -> int:
        """How much there is to look for."""
        kinds = (self.calls, self.said, self.notes, self.jobs, self.changes, self.commits, self.tokens, self.secrets)
        return sum(len(kind) for kind in kinds)

    def acknowledged(self) -> int:
        """How much of it must be there."""
        kinds = (self.calls, self.said, self.notes, self.jobs, self.changes, self.commits)
        return sum(one.acked for kind in kinds for one in kind.values())
