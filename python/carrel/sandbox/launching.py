"""How a launcher is started: its own modules in one archive, and the words. Light: the launcher's unit imports it."""

import io
import sys
from functools import cache
from pathlib import Path

from carrel.sandbox import launcher


@cache
def archive() -> bytes:
    """The launcher's own modules, and nothing else, as a program that the interpreter runs."""
    import zipfile  # noqa: PLC0415 - for where the launcher is no unit of its own

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for package in ("carrel", "carrel/sandbox"):
            made.writestr(f"{package}/__init__.py", "")
        for file in sorted(Path(launcher.__file__).parent.glob("*.py")):
            made.writestr(f"carrel/sandbox/launcher/{file.name}", file.read_bytes())
        made.writestr("__main__.py", "from carrel.sandbox.launcher.__main__ import main\nmain()\n")
    return packed.getvalue()


def command(code: int, connection: int, *, uid: int | None, groups: str) -> list[str]:
    """The words that start a launcher whose `archive` is at the descriptor ``code``, to be inherited by it."""
    of = [str(connection), str(uid) if uid is not None else "", groups]
    return [sys.executable, "-I", "-S", "-B", f"/proc/self/fd/{code}", *of]
