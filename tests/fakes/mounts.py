"""What is mounted, as a test may compare it: others run beside it and mount in directories of their own."""

import tempfile
from pathlib import Path
from typing import Final

_OTHERS: Final = tuple(f"{tempfile.gettempdir()}/{name}" for name in ("carrel-test-", "pytest-of-"))


def mounts(*mine: Path) -> list[str]:
    """The lines of this process' mount table, but for what is in directories of tests that are not in ``mine``."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if _counts(line.split()[1], mine)]


def _counts(place: str, mine: tuple[Path, ...]) -> bool:
    return not place.startswith(_OTHERS) or any(place.startswith(str(path)) for path in mine)
