"""What an import took, changed and left, thing by thing: nothing is dropped without a word."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from carrel.telemetry import escape_text

Outcome = Literal["taken", "changed", "left", "refused"]
"""``changed``: taken, and not as it was. ``left``: there is no place for it. ``refused``: it is not as it should be."""
MOST: Final = 100_000
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Item:
    """One thing. ``kind`` is what it is (`session`, `job`), ``name`` where it was found or what it is called."""

    kind: str
    name: str
    outcome: Outcome
    detail: str = ""


@dataclass(slots=True)
class Report:
    """All of them, in the order in which they were looked at; of more than so many only the number."""

    items: list[Item] = field(default_factory=list)
    counts: Counter[tuple[str, Outcome]] = field(default_factory=Counter)

    def add(self, kind: str, name: str, outcome: Outcome, detail: str = "") -> None:
        """Tell of one thing."""
        self.counts[kind, outcome] += 1
        if len(self.items) < MOST:
            self.items.append(Item(kind, shown(name), outcome, shown(detail)))

    def refuse(self, kind: str, name: str, detail: str) -> None:
        """Tell of one thing that it is refused, also where it was told as taken before."""
        for at in range(len(self.items) - 1, -1, -1):
            told = self.items[at]
            if (told.kind, told.name) == (kind, shown(name)) and told.outcome in ("taken", "changed"):
                self.counts[kind, told.outcome] -= 1
                self.counts[kind, "refused"] += 1
                self.items[at] = Item(kind, told.name, "refused", shown(detail))
                return
        self.add(kind, name, "refused", detail)

    def document(self) -> Mapping[str, object]:
        """As JSON."""
        counts: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(self.counts.items()):
            if count:
                counts.setdefault(kind, {})[outcome] = count
        items = [
            {
                "kind": one.kind,
                "name": one.name,
                "outcome": one.outcome,
                **({"detail": one.detail} if one.detail else {}),
            }
            for one in self.items
        ]
        return {"counts": counts, "items": items, "more": sum(self.counts.values()) - len(self.items)}


def shown(text: str) -> str:
    """``text`` for people: short, and inert whatever is in it."""
    clean = escape_text(text.encode("utf-8", "backslashreplace").decode())
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST] + "…"
