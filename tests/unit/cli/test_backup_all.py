"""`carrel backup all`: each in its turn, and a failure of one is no other's."""

from typing import Any

from carrel.errors import Unavailable
from carrel.tenancy.handle import Tenant
from carrel.wire import backups as wire
from carrel.wire import control
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def test_each_in_its_turn(carrel: CommandLine, edge: Edge) -> None:
    backups: Any = edge.services.backups
    done = await carrel("backup", "all", "--to", "s3://bucket/a", "--keep", "last=9")
    assert done.code == 0
    tenants = [line.split(":")[0] for line in done.out.splitlines()]
    assert tenants == sorted(tenants)
    assert len(tenants) > 1
    assert backups.done == [f"back up {tenant} s3://bucket/a True keep 9 7 4 12" for tenant in tenants]
    assert f"{len(tenants)} tenants are backed up, 0 not." in done.err


async def test_a_failure_is_told_and_stops_no_other(carrel: CommandLine, edge: Edge, monkeypatch: Any) -> None:
    backups: Any = edge.services.backups
    good = backups.back_up

    async def back_up(tenant: Tenant, order: wire.BackupOrder, **words: Any) -> wire.BackupView:
        if tenant.id == "acme":
            raise Unavailable("The store does not answer.")
        view: wire.BackupView = await good(tenant, order, **words)
        return view

    monkeypatch.setattr(backups, "back_up", back_up)
    done = await carrel("backup", "all", "--json")
    assert done.code == 1
    assert "acme: The store does not answer." in done.err
    assert done.json()["failed"] == {"acme": "The store does not answer."}
    assert len(done.json()["backups"]) >= 1


async def test_who_is_not_backed_up_is_left_out(carrel: CommandLine, edge: Edge, monkeypatch: Any) -> None:
    administration: Any = edge.services.administration
    everybody = administration.list

    async def some() -> control.TenantList:
        found: control.TenantList = await everybody()
        views = tuple(one.model_copy(update={"backed_up": one.id != "acme"}) for one in found.tenants)
        return found.model_copy(update={"tenants": views})

    monkeypatch.setattr(administration, "list", some)
    assert (await carrel("backup", "all")).code == 0
    backups: Any = edge.services.backups
    assert backups.done
    assert "acme" not in "".join(backups.done)


async def test_each_is_read_back_from_where_it_went(carrel: CommandLine, edge: Edge) -> None:
    backups: Any = edge.services.backups
    done = await carrel("backup", "all", "--verify", "--to", "s3://bucket/a")
    assert done.code == 0
    made = [line for line in backups.done if line.startswith("back up")]
    assert backups.done == [word for line in made for word in (line, f"verify {backups.view.id}")]
    backups.problems = ("sandbox/main.py: The piece is cut off.",)
    done = await carrel("backup", "all", "--verify", "--json")
    assert done.code == 1
    wrong = f"The backup {backups.view.id} does not read back: sandbox/main.py: The piece is cut off."
    assert done.json()["failed"]["acme"] == wrong
    assert f"acme: {wrong}" in done.err
