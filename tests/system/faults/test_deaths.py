"""A gateway that dies under work, by SIGKILL and by power cuts: nothing acknowledged is lost, doubled or left behind.

`make test` takes a seeded sample, `make test-long` a thousand deaths; `deaths` says how to run more, by other seeds.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.system.faults.checks import Checks
from tests.system.faults.deaths import DEATHS_OF_ONE, TOKEN, Figures, life, run
from tests.system.faults.mix import TENANT
from tests.system.faults.truth import Asked, Truth

LONG = bool(os.environ.get("CARREL_TEST_LONG"))
SEED, SAMPLE, ALL = "a", 3, 1000


def test_nothing_acknowledged_is_lost_or_doubled() -> None:
    total = Figures(SEED)
    if LONG:
        seeds = [f"{SEED}.{number}" for number in range(ALL // DEATHS_OF_ONE)]
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for found in pool.map(run, seeds, [DEATHS_OF_ONE] * len(seeds)):
                total.add(found)
    else:
        total.add(run(f"{SEED}.0", SAMPLE))
    assert not total.problems, "\n".join(total.problems)
    assert total.deaths == (ALL if LONG else SAMPLE)
    assert set(total.ways) >= {"power"}
    assert total.acknowledged > total.deaths


def test_what_is_lost_is_seen() -> None:
    figures = Figures("seen")
    with life("seen", figures) as one:
        one.start()
        assert Checks(one.gateway, one.truth, TOKEN).all() == []
        truth = Truth()
        for kind in (truth.calls, truth.said, truth.notes, truth.jobs, truth.changes, truth.commits):
            kind["never-done"] = Asked(TENANT, acked=True)
        truth.secrets["none"] = Asked("1", 1)
        truth.display_name.ack("never set")
        truth.tokens["none"] = truth.display_name.__class__(acked=f"tk_berg_{'0' * 32}")
        (one.gateway.state_dir / "tenants" / TENANT / "sessions").mkdir(parents=True, exist_ok=True)
        (one.gateway.state_dir / "tenants" / TENANT / "sessions" / "left.tmp").touch()
        _edit_audit(one.gateway)
        problems = "\n".join(Checks(one.gateway, truth, TOKEN, patience=0.1).all())
        assert one.groups_left() == []
        if one.group is not None:
            (one.group / "tenants" / "left").mkdir()
            assert one.groups_left(seconds=0.1) == ["cgroups are left: ['left']"]
            (one.group / "tenants" / "left").rmdir()
    for seen in (
        "ledger row lost: ['never-done']", "message lost: ['never-done']", "note lost: ['never-done']",
        "job lost: ['never-done']", "audit line lost: ['never-done']", "commit lost: ['never-done']", "secret none has",
        "display_name is ''", "token none is not what was told last", "left behind: ", "audit log does not verify",
    ):  # fmt: skip
        assert seen in problems
    assert not figures.problems


def _edit_audit(gateway: GatewayProcess) -> None:
    """Change a line by hand."""
    file = max(Path(gateway.state_dir / "audit").glob("????-??-??.jsonl"))
    first, *rest = file.read_text().splitlines(keepends=True)
    line = json.loads(first)
    line["actor"] = "somebody"
    file.write_text("".join([json.dumps(line) + "\n", *rest]))


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_doubled_is_seen(count: int) -> None:
    truth, checks = Truth(), Checks(GatewayProcess(home=Path("/nowhere")), Truth(), TOKEN)
    truth.calls["one"] = Asked(TENANT, acked=True)
    checks._held("row", truth.calls, lambda _: count)
    assert checks.problems == ([] if count == 1 else ["row doubled: ['one']"])
