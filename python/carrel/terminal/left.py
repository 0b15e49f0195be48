"""Which terminals run, as files: what a gateway that is killed leaves is how the next one knows of them."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_DIRECTORY: Final = "terminals"


@dataclass(frozen=True, slots=True)
class Began:
    """A terminal that began, and by whose word."""

    id: str
    tenant: str
    actor: str
    request_id: str


class Left:
    """The files, in the gateway's own directory. Each call blocks."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "run" / _DIRECTORY

    def note(self, began: Began) -> None:
        """It begins; raises OSError."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path / f".{began.id}"
        temporary.write_text(json.dumps(asdict(began)), encoding="utf-8")
        temporary.replace(self._path / began.id)

    def clear(self, terminal_id: str) -> None:
        """It has ended."""
        with contextlib.suppress(OSError):
            (self._path / terminal_id).unlink()

    def all(self) -> Iterator[Began]:
        """Those that were never cleared. A file that nobody can read is gone with this."""
        if not self._path.is_dir():
            return
        for file in sorted(self._path.iterdir()):
            try:
                yield Began(**json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                self.clear(file.name)
