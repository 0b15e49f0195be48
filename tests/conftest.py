"""What holds for all tests: a loaded machine makes none of them fail, and what failed once is never passed over.

`make test` runs a failed test once more (pytest-rerunfailures). Those that passed only then are named at the end of the
run with what broke them the first time. What guards the house and its walls gets no second try: a wall that holds every
other time is no wall.
"""

import gc
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("carrel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("carrel")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # A shell's background job hands on that an interrupt is ignored; the programs that tests start are to heed one.
    signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent
ONE_TRY = {"house", "security"}
"""The folders whose tests are never run again."""
LONG = ("security/test_s10_controllers.py", "house/test_tools.py", "system", "security")
"""What takes longest, which two processes side by side begin with, so that neither is left with it at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put what takes long first, and take the second try from the tests of `ONE_TRY`, where there is one to take."""
    names = {item: item.path.relative_to(HERE).as_posix() for item in items}
    items.sort(key=lambda item: next((at for at, long in enumerate(LONG) if names[item].startswith(long)), len(LONG)))
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return
    for item in items:
        if _has_one_try(item):
            item.add_marker(pytest.mark.flaky(reruns=0))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Look for what was left open before tests that get no second try: it is told of who left it or near it."""
    if nextitem is not None and _has_one_try(nextitem) and not _has_one_try(item):
        gc.collect()


def _has_one_try(item: pytest.Item) -> bool:
    return item.path.relative_to(HERE).parts[0] in ONE_TRY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each test that passed only at the second try, and show what the first one said."""
    first_tries = {report.nodeid: report for report in terminalreporter.getreports("rerun")}
    failed = {report.nodeid for kind in ("failed", "error") for report in terminalreporter.getreports(kind)}
    doubtful = [report for name, report in first_tries.items() if name not in failed]
    if not doubtful:
        return
    terminalreporter.section("passed only at the second try: mend these", sep="!", yellow=True, bold=True)
    for report in doubtful:
        terminalreporter.section(f"first try of {report.nodeid} ({report.when})", sep="_")
        terminalreporter.write_line(report.longreprtext)
    for report in doubtful:
        terminalreporter.write_line(f"passed only at the second try: {report.nodeid}", yellow=True, bold=True)
