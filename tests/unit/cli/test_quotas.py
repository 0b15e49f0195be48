from decimal import Decimal
from typing import Any

from carrel.ids import RequestId, TenantId
from carrel.wire.control import Actor
from tests.fakes.administration import FakeAdministration
from tests.fakes.edge import Edge, quota
from tests.unit.cli.conftest import CommandLine


async def test_what_is_used_of_each(carrel: CommandLine, edge: Edge) -> None:
    edge.meter.quotas = [
        quota("tokens_per_day", 90, hard=100, soft=80),
        quota("cost_per_day_usd", Decimal("2.50"), hard=Decimal("2.50")),
    ]
    done = await carrel("tenants", "quota", "show", "acme")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[1][:2] == ["tokens_per_day", "90"]
    assert done.out.splitlines()[1].endswith("over soft")
    assert lines[2][0] == "cost_per_day_usd"
    assert done.out.splitlines()[2].endswith("over")
    assert len((await carrel("tenants", "quota", "show", "acme", "--json")).json()["quotas"]) == 2


async def test_only_what_is_named_is_set(carrel: CommandLine, edge: Edge) -> None:
    words = ("--tokens-per-day", "1000", "--cost-per-day-usd", "0.5", "--requests-per-minute", "none")
    done = await carrel("tenants", "quota", "update", "acme", *words)
    assert done.code == 0, done.err
    assert "No quota is declared for acme." in done.err
    edge.meter.quotas = [quota("tokens_per_day", 90, hard=1000)]
    assert "1000" in (await carrel("tenants", "quota", "update", "acme", *words)).out
    assert (await carrel("tenants", "quota", "update", "acme", "--tokens-per-month", "5", "--json")).json()["id"]
    administration = edge.services.administration
    assert isinstance(administration, FakeAdministration)
    assert [what for what, _, _ in administration.asked] == [
        "quota ['cost_per_day_usd', 'requests_per_minute', 'tokens_per_day']",
        "quota ['cost_per_day_usd', 'requests_per_minute', 'tokens_per_day']",
        "quota ['tokens_per_month']",
    ]


async def test_the_disk_in_bytes_or_with_a_unit(carrel: CommandLine, edge: Edge) -> None:
    edge.disk.quotas = [quota("disk_bytes", 7, hard=5 << 30)]
    words = ("--disk-bytes", "5GiB", "--disk-files", "1000", "--snapshots-bytes", "none")
    shown = (await carrel("tenants", "quota", "update", "acme", *words)).out.splitlines()[1].split()
    assert shown == ["disk_bytes", "7", "0", "-", str(5 << 30), "-", "ok"]
    administration = edge.services.administration
    assert isinstance(administration, FakeAdministration)
    assert administration.asked[-1][0] == "quota ['disk_bytes', 'disk_files', 'snapshots_bytes']"
    refused = await carrel("tenants", "quota", "update", "acme", "--disk-bytes", "5GB")
    assert (refused.code, refused.out) == (2, "")


async def test_what_is_no_limit(carrel: CommandLine, edge: Edge) -> None:
    for words in ((), ("--tokens-per-day", "many"), ("--tokens-per-day", "-1"), ("--cost-per-day-usd", "nan")):
        done = await carrel("tenants", "quota", "update", "acme", *words)
        assert (done.code, done.out) == (2, ""), words


async def test_requests_are_listed_and_decided(carrel: CommandLine, edge: Edge) -> None:
    assert "Nobody" in (await carrel("tenants", "quota", "requests")).err
    asked = edge.services.quota_requests
    assert asked is not None
    made = await asked.ask(
        edge.directory.current.tenants[TenantId("acme")], quota="disk_bytes", limit="99", reason="a launch",
        by=Actor("tk_acme", RequestId("r")),
    )  # fmt: skip
    done = await carrel("tenants", "quota", "requests")
    assert (done.code, "a launch" in done.out) == (0, True)
    assert (await carrel("tenants", "quota", "requests", "acme", "--json")).json()["requests"][0]["limit"] == "99"
    done = await carrel("tenants", "quota", "decide", "acme", made.id, "approve", "--limit", "2GiB", "--note", "ok")
    assert done.out == "disk_bytes of acme: approved, 2147483648.\n"
    assert (await carrel("tenants", "quota", "decide", "acme", made.id, "reject")).code == 1
    assert (await carrel("tenants", "quota", "decide", "acme", made.id, "perhaps")).code == 2


async def test_hard_and_soft_are_said_together(carrel: CommandLine, edge: Edge) -> None:
    administration: Any = edge.services.administration
    done = await carrel(
        "tenants", "quota", "update", "acme", "--tokens-per-day", "100:80", "--disk-bytes", "2GiB:1GiB",
        "--cost-per-day-usd", ":4.5",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert administration.orders[-1].model_dump(mode="json", exclude_unset=True) == {
        "tokens_per_day": {"hard": 100, "soft": 80}, "disk_bytes": {"hard": 2 << 30, "soft": 1 << 30},
        "cost_per_day_usd": {"soft": "4.5"},
    }  # fmt: skip
    assert (await carrel("tenants", "quota", "update", "acme", "--tokens-per-day", "many:few")).code == 2


async def test_what_sandboxes_take_has_soft_limits_alone(carrel: CommandLine, edge: Edge) -> None:
    for text in ("2GiB", ":2GiB", "none"):
        done = await carrel("tenants", "quota", "update", "acme", "--sandbox-memory-bytes", text, "--json")
        assert done.code == 0, done.err
    done = await carrel("tenants", "quota", "update", "acme", "--sandbox-memory-bytes", "2GiB:1GiB")
    assert done.code == 2
    assert "`carrel tenants resize --memory` sets the hard one" in done.err
