"""The tenant's handle and the snapshot of everything declared that one request sees."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from carrel.declare.allowlists import Allowlists
from carrel.declare.gateway import Gateway, ModelConfig
from carrel.declare.plans import Plans
from carrel.declare.problems import nearest
from carrel.declare.rate_card import RateCard
from carrel.declare.roles import Role, role_allows
from carrel.declare.tenant import Tenant as TenantConfig
from carrel.errors import CarrelError, InvalidRequest, NotFound
from carrel.ids import TenantId
from carrel.tenancy.paths import TenantRoot

S = TypeVar("S", bound=str)


@dataclass(frozen=True, slots=True)
class Tenant:
    """What every service takes first. Without one there is no path, no store and no ledger to write to.

    ``config`` is the effective one: defaults, gateway, plan, file and overlay merged. ``revision`` is the SHA-256 of
    its canonical JSON. ``problem`` is set where the tenant's newest declaration is broken and ``config`` is its last
    good one; where there is none, ``ready`` is False and nothing runs for it. ``removed`` is set where its file is gone
    and its data is kept. Both are suspended too. ``root`` opens its state directory beneath a descriptor.

    ``member`` is the person for whom it is used, where that is known: the one that a token is bound to, or that an
    operator named. Nothing that a tenant's caller says sets it.
    """

    id: TenantId
    config: TenantConfig
    revision: str
    root: TenantRoot
    suspended: bool = False
    problem: str | None = None
    ready: bool = True
    removed: bool = False
    member: str | None = None

    @property
    def own(self) -> str | None:
        """The member who has sessions, workspace and grants apart from all others', None where those are shared."""
        return self.member if self.config.sandbox.scope == "member" else None

    @property
    def role(self) -> Role | None:
        """What the member is, as it is declared now; None where it is used for nobody in particular."""
        return self._role_of(self.member)

    def _role_of(self, name: str | None) -> Role | None:
        return next((member.role for member in self.config.members if member.name == name), None)

    def allowed(self, scopes: tuple[S, ...], member: str | None) -> tuple[S, ...]:
        """Those of a token's ``scopes`` that the role of the member it is bound to allows."""
        role = self._role_of(member)
        return scopes if role is None else tuple(scope for scope in scopes if role_allows(role, scope))

    def has_member(self, name: str | None) -> bool:
        """Whether ``name`` is a person of this tenant, or nobody in particular."""
        return name is None or any(member.name == name for member in self.config.members)

    def as_member(self, name: str | None) -> "Tenant":
        """The same tenant, used for the person ``name``; raises InvalidRequest where it has no such member."""
        if name == self.member:
            return self
        if not self.has_member(name):
            people = [member.name for member in self.config.members]
            close = nearest(name or "", people)
            hint = f"did you mean {close}?" if close else f"its members are {', '.join(people) or 'none'}."
            raise InvalidRequest(f"{self.id} has no member {name!r}: {hint}", param="member")
        return replace(self, member=name)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of everything declared. A request takes one and keeps it to its end.

    ``rate_card_hash`` is the SHA-256 of the rate card's canonical JSON, ``plan_hashes`` that of each plan's: ledger
    rows name both.
    """

    revision: str
    gateway: Gateway
    rate_card: RateCard
    rate_card_hash: str
    allowlists: Allowlists
    tenants: Mapping[TenantId, Tenant] = field(default_factory=dict)
    plans: Plans = field(default_factory=Plans)
    plan_hashes: Mapping[str, str] = field(default_factory=dict)
    permitted: dict[tuple[TenantId, str], TenantConfig] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """The models that tenants were found to be allowed under this revision, with the declaration that it was by."""

    def tenant(self, tenant_id: TenantId) -> Tenant:
        """The tenant of that id; raises NotFound."""
        try:
            return self.tenants[tenant_id]
        except KeyError:
            raise NotFound("No such tenant.") from None

    def model(self, name: str) -> ModelConfig | None:
        """The declared model of that name."""
        return self.gateway.models.get(name)


class Directory:
    """Holds the current snapshot; only the reconciler publishes."""

    def __init__(self) -> None:
        self._current: Snapshot | None = None
        self._followers: list[Callable[[], None]] = []

    @property
    def current(self) -> Snapshot:
        """The snapshot to use now; raises before the first one is published."""
        if self._current is None:
            raise CarrelError("Nothing is declared yet: the gateway is still starting.")
        return self._current

    def publish(self, snapshot: Snapshot) -> None:
        """Swap ``snapshot`` in: requests that began before keep theirs."""
        self._current = snapshot
        for call in self._followers:
            call()

    def follow(self, call: Callable[[], None]) -> None:
        """Have ``call`` called after each publication, where it was published. It must not wait, nor fail."""
        self._followers.append(call)
