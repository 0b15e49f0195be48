import pytest

from tests.fakes.administration import FakeAdministration
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


def asked(edge: Edge) -> list[tuple[str, str]]:
    administration = edge.services.administration
    assert isinstance(administration, FakeAdministration)
    return [(what, tenant) for what, tenant, _ in administration.asked]


async def test_create_shows_the_token_alone_on_standard_output(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("tenants", "create", "newco", "--display-name", "New Co", "--plan", "pro", "--package", "jq")
    assert done.code == 0, done.err
    assert done.out == "tk_newco_" + "f" * 32 + "\n"
    assert "newco is declared" in done.err
    told = await carrel("tenants", "create", "other", "--no-token", "--json")
    assert told.json()["tenant"]["id"] == "other"
    assert told.json()["token"] is None
    assert asked(edge) == [("create", "newco"), ("create", "other")]


async def test_create_twice_is_refused(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("tenants", "create", "acme")
    assert (done.code, done.out) == (1, "")
    assert "There is a tenant 'acme'" in done.err


async def test_list_and_show(carrel: CommandLine, edge: Edge) -> None:
    listed = await carrel("tenants", "list")
    assert [line.split()[:2] for line in listed.out.splitlines()[1:]] == [["acme", "active"], ["bravo", "active"]]
    assert len((await carrel("tenants", "list", "--json")).json()["tenants"]) == 2
    shown = await carrel("tenants", "show", "acme")
    assert "state     active\n" in shown.out
    assert (await carrel("tenants", "show", "acme", "--json")).json()["id"] == "acme"


async def test_suspend_and_resume(carrel: CommandLine, edge: Edge) -> None:
    assert "suspended" in (await carrel("tenants", "suspend", "acme")).out
    assert (await carrel("tenants", "resume", "acme", "--json")).json()["state"] == "active"
    assert asked(edge) == [("suspend", "acme"), ("resume", "acme")]


@pytest.mark.parametrize("command", ["show", "suspend", "resume", "remove"])
async def test_nobody_is_1_and_no_id_is_2(carrel: CommandLine, edge: Edge, command: str) -> None:
    assert (await carrel("tenants", command, "nobody")).code == 1
    assert (await carrel("tenants", command, "../acme")).code == 2
    assert (await carrel("tenants", command)).code == 2
    assert "did you mean bravo?" in (await carrel("tenants", command, "brvo")).err


async def test_remove_keeps_the_data(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("tenants", "remove", "acme")
    assert (done.code, done.out) == (0, "acme is no longer declared; its data is kept.\n")
    assert (await carrel("tenants", "remove", "acme", "--json")).json()["data_kept"] is True
    assert asked(edge) == [("remove", "acme"), ("remove", "acme")]


async def test_a_resize(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("tenants", "resize", "acme", "--plan", "pro", "--memory", "2GiB", "--cpus", "none")
    assert done.code == 0, done.err
    assert asked(edge) == [("resize {'plan': 'pro', 'memory_bytes': 2147483648, 'cpus': None}", "acme")]
    assert (await carrel("tenants", "resize", "acme")).code == 2
    wrong = await carrel("tenants", "resize", "acme", "--memory", "much")
    assert (wrong.code, "--memory" in wrong.err) == (2, True)
