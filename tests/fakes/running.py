"""What runs on this machine, by what its command lines say."""

import os
from pathlib import Path


def running(*words: str) -> list[int]:
    """The processes, but for this one, that have all of ``words`` in their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(int(entry.name))
    return found
