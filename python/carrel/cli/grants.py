"""`carrel grants`: what agents ask for, and the operator's decision."""

from typing import Annotated, Literal

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import understand
from carrel.cli.failures import DONE
from carrel.cli.options import HERE, Target
from carrel.cli.rpc import called, called_whole
from carrel.cli.tenants import TenantArgument
from carrel.wire import rpc


def list_(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """List a tenant's requests for access, and how each stands."""
    document = called_whole(target, tenant, "grants.list", "grants")
    if target.json:
        screen.show_json(document)
        return DONE
    grants = understand(rpc.GrantList, document).grants
    if not grants:
        screen.note(f"No agent of {tenant} has asked for anything.")
        return DONE
    rows = [
        (g.id, g.state, g.decision, _what(g), g.agent, g.session_id, g.member or "-", g.reason) for g in grants
    ]  # fmt: skip
    screen.table(("GRANT", "STATE", "DECISION", "WHAT", "AGENT", "SESSION", "MEMBER", "REASON"), rows)
    return DONE


def _what(grant: rpc.GrantView) -> str:
    caution = f" ({grant.caution})" if grant.caution is not None else ""
    return f"{grant.kind} {grant.what}{caution}"


def decide(
    tenant: TenantArgument,
    grant: Annotated[str, Parameter(name="GRANT", help="Its id, as `carrel grants list` shows it.")],
    decision: Annotated[
        Literal["once", "1h", "24h", "always", "deny"], Parameter(name="DECISION", help="For how long, or no.")
    ],
    /,
    *,
    target: Target = HERE,
) -> int:
    """Decide a request for access; a later decision replaces it, so that a grant can be taken back by `deny`."""
    document = called(target, tenant, "grants.decide", {"grant": grant, "decision": decision})
    if target.json:
        screen.show_json(document)
    else:
        decided = understand(rpc.GrantView, document)
        screen.say(f"{decided.kind} {decided.what}: {decided.state} ({decided.decision}).")
    return DONE
