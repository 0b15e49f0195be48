"""Security 3.6 and 10.3 with cgroup v2's controllers, in a kernel of its own: see `under_controllers`."""

import re
from pathlib import Path

import pytest

from tests.fakes.kernel import run_pytest
from tests.security import under_controllers

NAMES = sorted(name for name in vars(under_controllers) if name.startswith("test_"))


@pytest.fixture(scope="module")
def report() -> str:
    """What became of all of them."""
    return run_pytest(Path(under_controllers.__file__))


@pytest.mark.parametrize("name", NAMES)
def test_S10_03_under_controllers(report: str, name: str) -> None:
    assert re.search(rf"^PASSED \S+::{name}\b", report, re.MULTILINE), report
    assert not re.search(rf"^(FAILED|ERROR) \S+::{name}\b", report, re.MULTILINE), report
