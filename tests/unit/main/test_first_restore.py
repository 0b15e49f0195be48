"""The order that a machine without state is given, and the first revision that carries it out."""

from pathlib import Path

import pytest

from carrel.backup.progress import Progress
from carrel.backup.run import back_up
from carrel.errors import CarrelError, Unavailable
from carrel.ids import TenantId
from carrel.main.first_restore import BEGUN, FirstRestore, begin, begun, carried_out
from carrel.secrets import SecretStore
from carrel.vault.keys import MasterKeys
from tests.fakes.backups import KEYS, full_tenant, means, subject
from tests.fakes.declarations import declare
from tests.fakes.gitops import Recorded


class Tokens:
    def __init__(self) -> None:
        self.read: list[TenantId] = []

    def reload(self, tenant: TenantId) -> None:
        self.read.append(tenant)


class Machine:
    """A machine without state, and a store in which acme's and beta's backups are."""

    def __init__(self, home: Path) -> None:
        for name in ("acme", "beta"):
            tenant = full_tenant(home / "old", name, large=0)
            back_up(subject(tenant), means(home), Progress())
            tenant.root.close()
        self.state = home / "state"
        self.state.mkdir()
        self.place = f"file://{home}/store"
        self.tokens = Tokens()
        self.audit = Recorded()

    def first(self, *, keys: MasterKeys = KEYS, only: str | None = None) -> FirstRestore:
        return FirstRestore(
            self.state, None if only is None else lambda tenant: tenant == only, keys=keys, tokens=self.tokens,
            audit=self.audit, secrets=SecretStore(credentials_dir=None, secrets_dir=None, environ={}),
        )  # fmt: skip

    def has(self, tenant: str) -> bool:
        return (self.state / "tenants" / tenant / "sandbox/main.py").exists()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_order_is_a_file(tmp_path: Path) -> None:
    assert begun(tmp_path) is None
    begin(tmp_path, "s3://backups/carrel")
    order = begun(tmp_path)
    assert order is not None
    assert order.place == "s3://backups/carrel"
    carried_out(tmp_path)
    carried_out(tmp_path)
    assert begun(tmp_path) is None
    (tmp_path / BEGUN).write_text("")
    assert begun(tmp_path) is not None, "one that says no place means the declared one"
    (tmp_path / BEGUN).write_text("{")
    with pytest.raises(CarrelError, match="remove it to begin without them"):
        begun(tmp_path)
    with pytest.raises(CarrelError, match="cannot be written"):
        begin(tmp_path / "nowhere", None)


async def test_without_an_order_a_revision_waits_for_nothing(machine: Machine, tmp_path: Path) -> None:
    await machine.first()(declare(tmp_path / "d", acme=""))
    assert not machine.has("acme")


async def test_who_is_declared_first_is_brought_back_once(machine: Machine, tmp_path: Path) -> None:
    begin(machine.state, machine.place)
    first = machine.first()
    await first(declare(tmp_path / "house"))
    assert begun(machine.state) is not None, "nobody was declared yet"
    await first(declare(tmp_path / "d", acme="", zeta=""))
    assert machine.has("acme")
    assert not (machine.state / "tenants/zeta").exists()
    assert machine.tokens.read == ["acme"]
    assert [(action, after) for _, action, _, after, _ in machine.audit.lines] == [
        ("tenants.restore", "before it is first in force")
    ]
    assert begun(machine.state) is None
    await first(declare(tmp_path / "later", beta=""))
    assert not machine.has("beta"), "who comes later begins anew"


async def test_a_failure_keeps_the_revision_waiting(machine: Machine, tmp_path: Path) -> None:
    begin(machine.state, machine.place)
    declared = declare(tmp_path / "d", acme="", beta="")
    wrong = MasterKeys({1: b"2" * 32}, source="test")
    with pytest.raises(Unavailable, match=r"acme could not be brought back: .* So it is with 1 more\."):
        await machine.first(keys=wrong)(declared)
    assert begun(machine.state) is not None
    await machine.first()(declared)
    assert machine.has("acme")
    assert machine.has("beta")


async def test_only_those_whom_this_gateway_serves(machine: Machine, tmp_path: Path) -> None:
    begin(machine.state, machine.place)
    await machine.first(only="beta")(declare(tmp_path / "d", acme="", beta=""))
    assert machine.has("beta")
    assert not machine.has("acme")
