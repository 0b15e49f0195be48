"""`status.json` in the state directory: how everything stands, for whoever reads files and asks no gateway.

It is replaced whole, so that a reader sees one state. It is written line by line: ten thousand tenants in one piece
would hold the interpreter's lock too long.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from carrel.errors import CarrelError
from carrel.reconcile.rows import Row
from carrel.reconcile.status import ReconcileStatus

NAME: Final = "status.json"


def write(state_dir: Path, house: ReconcileStatus, tenants: Iterable[Row], *, version: str) -> None:
    """Replace the file by one that says ``house`` and ``tenants``. It blocks. Raises CarrelError."""
    temporary = state_dir / f".{NAME}.tmp"
    try:
        with os.fdopen(os.open(temporary, _FLAGS, 0o600), "w", encoding="utf-8") as file:
            head = {"version": version, **asdict(house)}
            head.pop("tenants")
            file.write(json.dumps(head, default=_plain)[:-1] + ', "tenants": [')
            separator = "\n"
            for tenant in tenants:
                file.write(separator + tenant.json())
                separator = ",\n"
            file.write("\n]}\n")
        temporary.replace(state_dir / NAME)
    except OSError as error:
        # What is half written takes room of a disk that may have none.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise CarrelError(f"{NAME} cannot be written: {error.strerror}.") from error


_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
