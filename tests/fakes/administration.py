"""The services behind the control plane, in memory: what the edges' tests change and read back."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from carrel.errors import Conflict, NotFound
from carrel.ids import TenantId
from carrel.plan.plan import Observed
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.wire import control, rpc
from tests.fakes.records import Noting


@dataclass
class FakeAdministration:
    """Acts on the directory, and notes who asked for what."""

    directory: Directory
    tokens_of: dict[str, dict[str, str]] = field(default_factory=dict)
    members_of: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    orders: list[control.QuotaUpdate] = field(default_factory=list)

    def _note(self, what: str, tenant_id: str, by: control.Actor) -> None:
        self.asked.append((what, tenant_id, by.name))

    def _view(self, tenant: Tenant) -> control.TenantView:
        state = "suspended" if tenant.suspended else "active"
        return control.TenantView.model_validate({"id": tenant.id, "state": state, "revision": tenant.revision})

    def _publish(self, tenant: Tenant) -> control.TenantView:
        current = self.directory.current
        self.directory.publish(replace(current, tenants={**current.tenants, tenant.id: tenant}))
        return self._view(tenant)

    async def list(self) -> control.TenantList:
        return control.TenantList(tenants=tuple(self._view(t) for t in self.directory.current.tenants.values()))

    async def show(self, tenant_id: TenantId) -> control.TenantView:
        return self._view(self.directory.current.tenant(tenant_id))

    async def create(self, order: control.TenantCreate, *, by: control.Actor) -> control.TenantCreated:
        if TenantId(order.id) in self.directory.current.tenants:
            raise Conflict(f"There is a tenant {order.id!r}.")
        self._note("create", order.id, by)
        view = control.TenantView(id=order.id, state="active", revision="r")
        return control.TenantCreated(tenant=view, token=f"tk_{order.id}_" + "f" * 32 if order.issue_token else None)

    async def suspend(self, tenant_id: TenantId, *, by: control.Actor) -> control.TenantView:
        self._note("suspend", tenant_id, by)
        return self._publish(replace(self.directory.current.tenant(tenant_id), suspended=True))

    async def resume(self, tenant_id: TenantId, *, by: control.Actor) -> control.TenantView:
        self._note("resume", tenant_id, by)
        return self._publish(replace(self.directory.current.tenant(tenant_id), suspended=False))

    async def remove(self, tenant_id: TenantId, *, purge: bool, by: control.Actor) -> control.TenantRemoved:
        self._note("purge" if purge else "remove", tenant_id, by)
        return control.TenantRemoved(id=tenant_id, data_kept=not purge)

    async def tokens(self, tenant_id: TenantId) -> control.TokenList:
        mine = self.tokens_of.get(tenant_id, {})
        infos = tuple(
            control.TokenInfo(name=n, prefix=t[:-24], scopes=("chat",), member=self.members_of.get(n))
            for n, t in mine.items()
        )
        return control.TokenList(tenant=tenant_id, tokens=infos)

    async def token_issue(
        self, tenant_id: TenantId, order: control.TokenIssue, *, by: control.Actor
    ) -> control.TokenIssued:
        self._note("issue", tenant_id, by)
        text = f"tk_{tenant_id}_" + "e" * 32
        self.tokens_of.setdefault(tenant_id, {})[order.name] = text
        if order.member is not None:
            self.members_of[order.name] = order.member
        return control.TokenIssued(
            tenant=tenant_id, name=order.name, token=text, prefix=text[:-24], scopes=order.scopes,
            expires=order.expires, member=order.member,
        )  # fmt: skip

    async def token_rotate(
        self, tenant_id: TenantId, order: control.TokenRotate, *, by: control.Actor, member: str | None = None
    ) -> control.TokenIssued:
        if member is not None:
            raise NotFound(f"There is no token {order.name!r}.")
        return await self.token_issue(tenant_id, control.TokenIssue(name=order.name or "default"), by=by)

    async def token_revoke(self, tenant_id: TenantId, name: str, *, by: control.Actor) -> None:
        self._note("revoke", tenant_id, by)
        if self.tokens_of.get(tenant_id, {}).pop(name, None) is None:
            raise NotFound("No such token.")

    async def quota_update(
        self, tenant_id: TenantId, order: control.QuotaUpdate, *, by: control.Actor
    ) -> control.TenantView:
        self._note(f"quota {sorted(order.model_fields_set)}", tenant_id, by)
        self.orders.append(order)
        return await self.show(tenant_id)

    async def resize(
        self, tenant_id: TenantId, order: control.TenantResize, *, by: control.Actor
    ) -> control.TenantView:
        self._note(f"resize {order.model_dump(mode='json', exclude_unset=True)}", tenant_id, by)
        return await self.show(tenant_id)

    async def plans(self) -> object:
        return {"plans": {}}


@dataclass(frozen=True)
class Status:
    """A report of the reconciler's."""

    tenants: int
    userland: str = "host"


class FakeReconciler:
    """Counts."""

    def __init__(self) -> None:
        self.reconciled = 0
        self.asked: tuple[TenantId | None, str | None] = None, None

    async def status(self) -> object:
        return Status(tenants=2)

    async def briefly(self) -> tuple[object, Sequence[object]]:
        return Status(tenants=2), ()

    async def plan(self) -> object:
        return {"actions": []}

    async def observed(self) -> object:
        return Observed()

    async def tenant_status(self, tenant: TenantId) -> object:
        return control.TenantStatus(
            id=tenant, state="Ready", reason="Applied", message="in force", observed_revision="o", applied_revision="a",
            conditions=(
                control.Condition(
                    type="Ready", status="True", reason="Applied", message="in force",
                    last_transition_time=datetime(2026, 3, 1, tzinfo=UTC),
                ),
            ),
        )  # fmt: skip

    async def reconcile_now(
        self, *, by: control.Actor, tenant: TenantId | None = None, confirm: str | None = None
    ) -> object:
        self.reconciled += 1
        self.asked = tenant, confirm
        return {"actions": [], "tenants": []}


class FakeAudit(Noting):
    """A fixed record of ten lines; remembers what is recorded besides."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, str, str]] = []

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        self.recorded.append((action, target, outcome))

    async def page(self, query: control.AuditQuery) -> control.AuditPage:
        newest = query.order == "newest"
        lines = [{"n": n, "tenant": "acme" if n % 2 else "bravo"} for n in range(10)][:: -1 if newest else 1]
        chosen = [line for line in lines if query.tenant is None or line["tenant"] == query.tenant]
        if query.place is not None:
            at = int(query.place)
            chosen = [line for line in chosen if (int(line["n"]) < at if newest else int(line["n"]) > at)]
        page = chosen[: query.limit]
        more = str(page[-1]["n"]) if len(chosen) > query.limit else None
        return control.AuditPage.model_validate({"lines": page, "next": more})

    async def ends(self) -> control.AuditEnds:
        return control.AuditEnds(key="0" * 16, public_key="-----BEGIN PUBLIC KEY-----\n")


class FakePackages:
    """Packages that answer with what they were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def list(self, tenant: Tenant) -> rpc.PackageSet:
        return rpc.PackageSet(packages=("jq",), state="ready", log="built\n")

    async def search(
        self, snapshot: Snapshot, tenant: Tenant, query: str, *, after: str, limit: int
    ) -> rpc.PackageNames:
        if query == "nothing":
            return rpc.PackageNames(packages=(), total=0, nearest="noting")
        return rpc.PackageNames(packages=(rpc.PackageName(name="jq", chosen=True, version="1.7"),), total=2, next="jq")

    async def add(
        self, snapshot: Snapshot, tenant: Tenant, names: Sequence[str], *, by: control.Actor
    ) -> rpc.PackageSet:
        self.asked.append(f"{tenant.id} add {' '.join(names)} by {by.name}")
        return rpc.PackageSet(packages=("jq", *names), state="building", reason="it takes a while")

    async def remove(self, tenant: Tenant, names: Sequence[str], *, by: control.Actor) -> rpc.PackageSet:
        self.asked.append(f"{tenant.id} remove {' '.join(names)}")
        return rpc.PackageSet(packages=(), state="ready")


class FakeAccess:
    """One request for access, decided as it is told."""

    def __init__(self) -> None:
        self.view = rpc.GrantView(
            id="gr_1", kind="host", what="a.com:443", reason="docs", agent="main", session_id="s", state="waiting",
            asked="2026-03-01T00:00:00+00:00",
        )  # fmt: skip
        self.operator: bool | None = None

    async def list(self, tenant: Tenant) -> rpc.GrantList:
        return rpc.GrantList(grants=(self.view,) if tenant.id == "acme" else ())

    async def decide(
        self, snapshot: Snapshot, tenant: Tenant, grant_id: str, decision: str, *, by: control.Actor, operator: bool
    ) -> rpc.GrantView:
        if (tenant.id, grant_id) != ("acme", "gr_1"):
            raise NotFound("There is no such request for access.")
        self.operator = operator
        return self.view.model_copy(update={"decision": decision, "state": "granted"})


class FakeSnapshots:
    """One snapshot of acme's."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.view = control.SnapshotView(
            id="20260301-a", workspace="sandbox", label="before", made=datetime(2026, 3, 1, tzinfo=UTC), files=3
        )

    async def list(self, tenant: Tenant) -> control.SnapshotList:
        return control.SnapshotList(snapshots=(self.view,) if tenant.id == "acme" else ())

    async def make(self, tenant: Tenant, order: control.SnapshotOrder, *, by: control.Actor) -> control.SnapshotView:
        self.done.append(f"make {order.label} {order.session}")
        return self.view.model_copy(update={"left_out": 2})

    async def roll_back(self, tenant: Tenant, snapshot_id: str, *, by: control.Actor) -> control.RolledBack:
        self._require(tenant, snapshot_id)
        self.done.append(f"roll back {snapshot_id}")
        return control.RolledBack(to=self.view, before=self.view.model_copy(update={"id": "20260301-b"}))

    async def remove(self, tenant: Tenant, snapshot_id: str, *, by: control.Actor) -> None:
        self._require(tenant, snapshot_id)
        self.done.append(f"remove {snapshot_id}")

    def _require(self, tenant: Tenant, snapshot_id: str) -> None:
        if (tenant.id, snapshot_id) != ("acme", self.view.id):
            raise NotFound("There is no such snapshot.")


class FakeSecrets:
    """Secrets in memory, by tenant; their values are kept to be looked at."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}

    async def list(self, tenant: Tenant) -> control.SecretList:
        return control.SecretList(secrets=tuple(_secret(name) for owner, name in self.values if owner == tenant.id))

    async def put(
        self, tenant: Tenant, name: str, order: control.SecretPut, *, by: control.Actor
    ) -> control.SecretView:
        if order.must_exist and (tenant.id, name) not in self.values:
            raise NotFound("No such secret.")
        self.values[tenant.id, name] = order.value.get_secret_value()
        return _secret(name)

    async def remove(self, tenant: Tenant, name: str, *, by: control.Actor) -> None:
        if self.values.pop((tenant.id, name), None) is None:
            raise NotFound("No such secret.")

    async def reseal(self, tenant: Tenant, *, by: control.Actor) -> control.SecretsResealed:
        return control.SecretsResealed(count=2)


def _secret(name: str) -> control.SecretView:
    then = datetime(2026, 3, 1, tzinfo=UTC)
    return control.SecretView(name=name, version=1, key_version=1, created=then, updated=then)


class FakeSandboxes:
    """One sandbox of acme's that answers with what it was asked."""

    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.view = control.SandboxView(
            id="sb_1", tenant="acme", agent="main", workspace="sandbox", started=datetime(2026, 3, 1, tzinfo=UTC),
            used=datetime(2026, 3, 1, 1, tzinfo=UTC), commands=3, running=1,
        )  # fmt: skip

    def list(self, tenant: TenantId | None) -> control.SandboxList:
        return control.SandboxList(sandboxes=(self.view,) if tenant in (None, self.view.tenant) else ())

    def log(self, tenant: TenantId, sandbox_id: str) -> control.SandboxLog:
        self._require(tenant, sandbox_id)
        return control.SandboxLog(id=sandbox_id, text="listening\x1b[31m\n")

    async def stop(self, tenant: TenantId, sandbox_id: str, *, by: control.Actor) -> None:
        self._require(tenant, sandbox_id)
        self.stopped.append(f"{sandbox_id} by {by.name}")

    async def execute(
        self, tenant: Tenant, sandbox_id: str, order: control.SandboxExec, *, by: control.Actor
    ) -> control.SandboxExecuted:
        self._require(tenant.id, sandbox_id)
        code = {"true": 0, "crash": None}.get(order.argv[0], 4)
        return control.SandboxExecuted(
            exit_code=code, signal=11 if code is None else None, stdout=f"{order.argv}\n", stderr="careful\n",
            output_dropped=0, killed="wall_clock" if order.timeout_seconds else None, seconds=0.1,
        )  # fmt: skip

    def _require(self, tenant: TenantId, sandbox_id: str) -> None:
        if (tenant, sandbox_id) != (self.view.tenant, self.view.id):
            raise NotFound("No such sandbox runs.")
