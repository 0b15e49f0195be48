"""Which models a tenant may use: those that the operator allowlists, its plan gives, and its own file names."""

from collections.abc import Iterable

from carrel.errors import ModelNotAllowed, ModelNotFound
from carrel.tenancy.handle import Snapshot, Tenant


def allowed(snapshot: Snapshot, tenant: Tenant, model: str) -> None:
    """Return where ``tenant`` may use ``model``; raises ModelNotFound where none is declared, else ModelNotAllowed."""
    if snapshot.permitted.get((tenant.id, model)) is tenant.config:
        return
    if model not in snapshot.gateway.models:
        raise ModelNotFound(f"No model is called {model[:128]!r}; GET /v1/models lists those you may use.")
    if not _permits(snapshot, tenant, model):
        raise ModelNotAllowed(f"Model {model!r} is not among those you may use; GET /v1/models lists them.")
    snapshot.permitted[tenant.id, model] = tenant.config


def allowed_models(snapshot: Snapshot, tenant: Tenant) -> tuple[str, ...]:
    """The declared models that ``tenant`` may use, in the order they are declared."""
    return tuple(model for model in snapshot.gateway.models if _permits(snapshot, tenant, model))


def matches(patterns: Iterable[str], model: str) -> bool:
    """Whether a pattern names ``model``: an exact name, or a prefix that ends in `*`."""
    for pattern in patterns:  # noqa: SIM110 - asked twice for every call, and a generator costs more than the rest
        if model == pattern or (pattern.endswith("*") and model.startswith(pattern[:-1])):
            return True
    return False


def _permits(snapshot: Snapshot, tenant: Tenant, model: str) -> bool:
    if not matches(snapshot.allowlists.models, model):
        return False
    own = tenant.config.models
    return own is None or matches(own, model)
