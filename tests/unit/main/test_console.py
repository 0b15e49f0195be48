import subprocess
import sys


def test_the_command_line_does_not_import_the_gateway() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, carrel.main.console; m = sys.modules; print('aiohttp' in m, 'apsw' in m)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "False"]


def test_help_is_there_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv=['carrel','--help']; from carrel.main.console import run; run()"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "gateway" in done.stdout
