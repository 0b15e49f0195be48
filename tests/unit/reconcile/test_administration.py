import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.errors import CarrelError, Conflict, Forbidden, InvalidRequest, NotFound, StorageFull
from carrel.ids import RequestId, TenantId
from carrel.reconcile.administration import Administration
from carrel.reconcile.reconciler import Reconciler
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory
from carrel.tenancy.tokens import TokenStore
from carrel.wire import control
from tests.fakes.declarations import declare
from tests.fakes.records import Noting

BY = control.Actor("ak_ops", RequestId("req_1"))
ACME = TenantId("acme")
YAML = "# Our first customer.\ndisplay_name: Acme  # as on the contract\nplan: starter\n"


@dataclass
class Record(Noting):
    """Keeps lines, or refuses them."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)
    full: bool = False

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        self.lines.append((action, target, outcome))

    def require_room(self) -> None:
        if self.full:
            raise StorageFull("full")


class House:
    def __init__(self, home: Path) -> None:
        self.path = declare(home / "tenants.d", acme=YAML, held="protect: true\n")
        self.directory, self.tasks, self.record = Directory(), Tasks("test"), Record()
        self.tokens = TokenStore(state_dir=home / "state", clock=SystemClock())
        self.reconciler = Reconciler(
            tenants_dir=self.path, state_dir=home / "state", directory=self.directory, clock=SystemClock(),
            tasks=self.tasks,
        )  # fmt: skip
        self.administration = Administration(
            directory=self.directory, tokens=self.tokens, audit=self.record, reconciler=self.reconciler,
            tenants_dir=self.path,
        )  # fmt: skip


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.reconciler.load()
    yield made
    await made.tasks.close()
    await made.reconciler.close()


def git(path: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=path, capture_output=True, text=True, check=True)
    return done.stdout.strip()


async def test_a_tenant_is_created_and_in_force_with_a_token(house: House) -> None:
    made = await house.administration.create(
        control.TenantCreate(id="newco", display_name="New: Co", plan="starter", packages=("jq",)), by=BY
    )
    assert made.tenant.state == "active"
    assert made.commit is None
    assert made.token is not None
    assert house.tokens.verify(made.token, SystemClock().now()) is not None
    text = (house.path / "newco.yaml").read_text()
    assert text.startswith("# yaml-language-server:")
    assert house.directory.current.tenant(TenantId("newco")).config.display_name == "New: Co"
    assert house.directory.current.tenant(TenantId("newco")).config.packages == ("jq",)
    assert house.record.lines == [("tenants.create", "newco", "ok"), ("tokens.rotate", "newco/default", "ok")]
    assert made.token not in str(house.record.lines)


async def test_a_tenant_whose_token_cannot_be_kept_is_told_as_declared(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFull("The disk is full: the file is as it was.")

    with monkeypatch.context() as patched:
        patched.setattr(house.tokens, "rotate", full)
        with pytest.raises(StorageFull) as refused:
            await house.administration.create(control.TenantCreate(id="newco"), by=BY)
    assert refused.value.message == (
        "newco is declared, but has no token: `carrel tenants token rotate newco` issues one. "
        "The disk is full: the file is as it was."
    )
    assert (await house.administration.token_rotate(TenantId("newco"), control.TokenRotate(), by=BY)).token


async def test_a_plan_with_a_fee_is_owed_from_the_day_on_that_a_tenant_is_put_on_it(house: House) -> None:
    plans = house.path / "_plans.yaml"
    fee = ", ".join(f"{name}: {{billing: {{platform_fee_usd: {usd}}}}}" for name, usd in (("paid", 49), ("dear", 99)))
    plans.write_text(plans.read_text().replace("plans: {", f"plans: {{{fee}, "))
    await house.reconciler.load()
    before = SystemClock().now().date()
    await house.administration.create(control.TenantCreate(id="payer", plan="paid"), by=BY)
    found = house.directory.current.tenant(TenantId("payer")).config.billed_from
    assert found is not None
    assert found in (before, SystemClock().now().date())
    await house.administration.create(control.TenantCreate(id="free", plan="starter"), by=BY)
    assert house.directory.current.tenant(TenantId("free")).config.billed_from is None
    await house.administration.resize(TenantId("free"), control.TenantResize(plan="paid"), by=BY)
    resized = house.directory.current.tenant(TenantId("free")).config.billed_from
    assert resized in (before, SystemClock().now().date()), "the months on a plan without a fee owe none"
    owed = house.path / "payer.yaml"
    owed.write_text(owed.read_text().replace(found.isoformat(), "2026-01-05"))
    await house.reconciler.load()
    await house.administration.resize(TenantId("payer"), control.TenantResize(plan="dear"), by=BY)
    kept = house.directory.current.tenant(TenantId("payer")).config.billed_from
    assert kept is not None
    assert kept.isoformat() == "2026-01-05", "it was owed before, and is"
    await house.administration.create(control.TenantCreate(id="later", plan="starter"), by=BY)
    (house.path / "later.yaml").write_text("plan: starter\nbilled_from: 2999-12-31\n")
    await house.reconciler.load()
    await house.administration.resize(TenantId("later"), control.TenantResize(plan="paid"), by=BY)
    agreed = house.directory.current.tenant(TenantId("later")).config.billed_from
    assert agreed is not None
    assert agreed.isoformat() == "2999-12-31", "what was agreed to be free is not billed"


async def test_it_is_committed_alone_where_there_is_git(house: House) -> None:
    git(house.path, "init", "-q", "-b", "main")
    git(house.path, "config", "user.email", "ops@example.org")
    git(house.path, "config", "user.name", "Ops")
    git(house.path, "add", ".")
    git(house.path, "commit", "-qm", "begin")
    (house.path / "_plans.yaml").write_text((house.path / "_plans.yaml").read_text() + "# a half-done edit\n")
    made = await house.administration.create(control.TenantCreate(id="newco"), by=BY)
    assert made.commit == git(house.path, "rev-parse", "HEAD")
    assert git(house.path, "show", "--name-only", "--format=%an %cn %s", "HEAD").split("\n") == [
        "ak_ops Ops Add the tenant newco", "", "newco.yaml",
    ]  # fmt: skip
    assert "ak_ops" in git(house.path, "log", "-1", "--format=%b")
    assert git(house.path, "status", "--porcelain") == "M _plans.yaml"


async def test_what_exists_or_cannot_be_is_refused_and_nothing_changes(house: House) -> None:
    with pytest.raises(Conflict):
        await house.administration.create(control.TenantCreate(id="acme"), by=BY)
    with pytest.raises(InvalidRequest, match="plan"):
        await house.administration.create(control.TenantCreate(id="newco", plan="startre"), by=BY)
    assert not (house.path / "newco.yaml").exists()
    assert (house.path / "acme.yaml").read_text() == YAML
    assert house.record.lines[-1] == ("tenants.create", "newco", "failed: invalid_request")


async def test_two_at_once_make_one_tenant(house: House) -> None:
    orders = [house.administration.create(control.TenantCreate(id="newco"), by=BY) for _ in range(2)]
    results = await asyncio.gather(*orders, return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["Conflict", "TenantCreated"]


async def test_suspending_and_resuming_keep_comments_and_order(house: House) -> None:
    assert (await house.administration.suspend(ACME, by=BY)).state == "suspended"
    assert house.directory.current.tenant(ACME).suspended
    assert (await house.administration.resume(ACME, by=BY)).state == "active"
    assert not house.directory.current.tenant(ACME).suspended
    assert (house.path / "acme.yaml").read_text().startswith(YAML)


async def test_removing_keeps_the_data_and_respects_protection(house: House) -> None:
    await house.administration.token_issue(ACME, control.TokenIssue(name="ci"), by=BY)
    removed = await house.administration.remove(ACME, purge=False, by=BY)
    assert removed.data_kept
    assert house.directory.current.tenant(ACME).removed
    with pytest.raises(Conflict):
        await house.administration.resume(ACME, by=BY)
    with pytest.raises(Forbidden, match="protect"):
        await house.administration.remove(TenantId("held"), purge=False, by=BY)
    with pytest.raises(NotFound):
        await house.administration.remove(TenantId("nobody"), purge=False, by=BY)


async def test_a_removed_tenant_comes_back_with_a_new_token(house: House) -> None:
    first = await house.administration.create(control.TenantCreate(id="newco"), by=BY)
    await house.administration.remove(TenantId("newco"), purge=False, by=BY)
    second = await house.administration.create(control.TenantCreate(id="newco"), by=BY)
    assert first.token is not None
    assert second.token is not None
    assert house.tokens.verify(first.token, SystemClock().now()) is None
    assert house.tokens.verify(second.token, SystemClock().now()) is not None


async def test_quotas_are_written_exactly(house: House) -> None:
    order = control.QuotaUpdate(tokens_per_day=5, cost_per_day_usd=Decimal("1.10"))
    await house.administration.quota_update(ACME, order, by=BY)
    quotas = house.directory.current.tenant(ACME).config.quotas
    assert quotas.count("tokens_per_day").hard == 5
    assert quotas.money("cost_per_day_usd").hard == Decimal("1.10")
    assert "1.10" in (house.path / "acme.yaml").read_text()
    await house.administration.quota_update(ACME, control.QuotaUpdate(cost_per_day_usd=None), by=BY)
    assert house.directory.current.tenant(ACME).config.quotas.money("cost_per_day_usd").hard is None


async def test_tokens_are_rotated_listed_and_revoked(house: House) -> None:
    first = await house.administration.token_rotate(ACME, control.TokenRotate(), by=BY)
    second = await house.administration.token_rotate(ACME, control.TokenRotate(), by=BY)
    now = SystemClock().now()
    assert house.tokens.verify(first.token, now) is None
    assert house.tokens.verify(second.token, now) is not None
    listed = await house.administration.tokens(ACME)
    assert [(t.name, t.prefix, t.source) for t in listed.tokens] == [("default", "tk_acme_", "issued")]
    await house.administration.token_revoke(ACME, "default", by=BY)
    assert house.tokens.verify(second.token, now) is None


async def test_a_token_is_bound_to_a_member_and_a_member_rotates_their_own_alone(house: House) -> None:
    (house.path / "acme.yaml").write_text(
        YAML + "members: [{name: ada, role: admin}, {name: bob, role: owner}, {name: eve, role: viewer}]\n"
    )
    await house.reconciler.reconcile_now(by=BY)
    for name in ("ada", "bob"):
        order = control.TokenIssue(name=name, member=name, scopes=("chat", "rpc", "admin"))
        assert (await house.administration.token_issue(ACME, order, by=BY)).member == name
    await house.administration.token_rotate(ACME, control.TokenRotate(), by=BY)
    with pytest.raises(InvalidRequest, match="did you mean ada"):
        await house.administration.token_issue(ACME, control.TokenIssue(name="x", member="adda"), by=BY)
    for other in ("bob", "default", "nobody", None):
        with pytest.raises(NotFound):
            await house.administration.token_rotate(ACME, control.TokenRotate(name=other), by=BY, member="ada")
    own = await house.administration.token_rotate(ACME, control.TokenRotate(name="ada"), by=BY, member="ada")
    assert own.member == "ada"
    too_much = control.TokenIssue(name="eve", member="eve", scopes=("chat", "rpc", "admin"))
    with pytest.raises(InvalidRequest, match="eve is a viewer, whose tokens do not get the scope chat or admin"):
        await house.administration.token_issue(ACME, too_much, by=BY)
    issued = await house.administration.token_issue(ACME, control.TokenIssue(name="eve", member="eve"), by=BY)
    assert issued.scopes == ("rpc",)
    listed = await house.administration.tokens(ACME)
    assert [(t.name, t.member) for t in listed.tokens] == [
        ("ada", "ada"),
        ("bob", "bob"),
        ("default", None),
        ("eve", "eve"),
    ]


async def test_what_cannot_be_recorded_is_not_done(house: House) -> None:
    house.record.full = True
    with pytest.raises(StorageFull):
        await house.administration.create(control.TenantCreate(id="newco"), by=BY)
    with pytest.raises(StorageFull):
        await house.administration.token_issue(ACME, control.TokenIssue(name="ci"), by=BY)
    assert not (house.path / "newco.yaml").exists()
    assert not (await house.administration.tokens(ACME)).tokens


async def test_looking_needs_nothing(house: House) -> None:
    assert [t.id for t in (await house.administration.list()).tenants] == ["acme", "held"]
    assert "starter" in str(await house.administration.plans())
    with pytest.raises(CarrelError):
        await house.administration.show(TenantId("nobody"))


async def test_a_tenant_is_resized_and_what_is_its_own_can_be_given_back(house: House) -> None:
    view = await house.administration.resize(
        ACME, control.TenantResize(plan="pro", memory_bytes=1 << 31, cpus=Decimal("1.5")), by=BY
    )
    assert view.plan == "pro"
    sandbox = house.directory.current.tenants[ACME].config.sandbox
    assert (sandbox.memory_bytes, sandbox.cpus) == (1 << 31, 1.5)
    assert "# as on the contract" in (house.path / "acme.yaml").read_text()
    assert house.record.lines[-1] == ("tenants.resize", "acme", "ok")
    await house.administration.resize(ACME, control.TenantResize(memory_bytes=None, cpus=None), by=BY)
    assert "memory_bytes" not in (house.path / "acme.yaml").read_text()
    with pytest.raises(InvalidRequest, match="no such plan"):
        await house.administration.resize(ACME, control.TenantResize(plan="platinum"), by=BY)
    with pytest.raises(InvalidRequest, match="nothing to change"):
        await house.administration.resize(ACME, control.TenantResize(), by=BY)
    assert house.directory.current.tenants[ACME].config.plan == "pro"


async def test_a_hard_limit_leaves_the_soft_one_and_both_can_be_set(house: House) -> None:
    async def set_to(value: object) -> object:
        await house.administration.quota_update(
            ACME, control.QuotaUpdate.model_validate({"tokens_per_day": value, "cost_per_day_usd": value}), by=BY
        )
        quotas = house.directory.current.tenants[ACME].config.quotas
        tokens, cost = quotas.count("tokens_per_day"), quotas.money("cost_per_day_usd")
        assert (tokens.hard, tokens.soft) == (cost.hard, cost.soft)
        return tokens.hard, tokens.soft

    assert await set_to({"hard": 100, "soft": 80}) == (100, 80)
    assert await set_to(200) == (200, 80)
    assert await set_to(50) == (50, None), "a soft limit that can never be passed is none"
    await house.administration.quota_update(
        ACME, control.QuotaUpdate.model_validate({"tokens_per_day": {"soft": 70}}), by=BY
    )
    tokens = house.directory.current.tenants[ACME].config.quotas.count("tokens_per_day")
    assert (tokens.hard, tokens.soft) == (1000, 70), "the plan's own hard limit holds again"
