"""The machine's own unit of the gateway, under systemd: with what settings it is started. Asks, and changes nothing."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

UNIT: Final = "carrel.service"
_HOST: Final = re.compile(r"--host[ =](\S+)")
_SECONDS: Final = 5.0


def host_file() -> Path | None:
    """The settings (`services.carrel` writes them) that the unit is started with; None where there is no such unit."""
    program = shutil.which("systemctl")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "show", "--property=ExecStart", "--value", UNIT], capture_output=True, text=True, check=False,
            timeout=_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    named = _HOST.search(done.stdout) if done.returncode == 0 else None
    path = Path(named[1]) if named is not None else None
    return path if path is not None and path.is_file() else None
