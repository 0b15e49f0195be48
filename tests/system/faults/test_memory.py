"""A sandbox over its memory where cgroups hold it, in a kernel of its own: see `under_controllers`."""

import re
from pathlib import Path

from tests.fakes.kernel import run_pytest
from tests.system.faults import under_controllers


def test_a_sandbox_that_its_cgroup_ends() -> None:
    report = run_pytest(Path(under_controllers.__file__))
    assert re.search(r"^PASSED \S+::test_a_sandbox_that_its_cgroup_ends", report, re.MULTILINE), report
    assert not re.search(r"^(FAILED|ERROR) ", report, re.MULTILINE), report
