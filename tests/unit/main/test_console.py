import subprocess
import sys


def test_the_command_line_does_not_import_the_gateway() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, carrel.main.console, carrel.cli.app; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"aiohttp", "apsw", "carrel.main.gateway"} & set(done.stdout.split())


def test_the_gateways_own_command_imports_no_other() -> None:
    told = (
        "import atexit, sys; atexit.register(lambda: print('loaded:', *sys.modules));"
        "sys.argv=['carrel', 'gateway', '--drain-seconds', '0']; from carrel.main.console import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("carrel: --drain-seconds")) == (2, True), done.stderr
    loaded = set(done.stdout.partition("loaded: ")[2].split())
    assert "carrel.cli.gateway" in loaded
    assert not {"pydantic", "structlog", "carrel.cli.client", "carrel.cli.tenants"} & loaded


def test_help_is_there_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv=['carrel','--help']; from carrel.main.console import run; run()"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "gateway" in done.stdout
