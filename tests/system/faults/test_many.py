"""Many tenants with something under way when the gateway dies: each is told what became of it, at the first asking."""

import os

import pytest

from tests.system.faults.deaths import Way
from tests.system.faults.many import many

LONG = bool(os.environ.get("CARREL_TEST_LONG"))


@pytest.mark.parametrize("way", ["power", "all"] if LONG else ["power"])
def test_each_tenant_is_told_what_was_interrupted(way: Way) -> None:
    with many(1000 if LONG else 6) as one:
        one.work()
        one.die(way)
        assert one.start(way).problems == []


def test_what_is_not_told_is_seen() -> None:
    with many(1) as one:
        one.work()
        one.die("all")
        one.tenants[0].run = "run_of_nobody"
        with pytest.raises(AssertionError, match="its run is told as None"):
            one.start("all")
