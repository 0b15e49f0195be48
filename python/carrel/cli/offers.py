"""`carrel plans`: what tenants can be on."""

from carrel.cli import screen
from carrel.cli.client import request, understand
from carrel.cli.failures import DONE
from carrel.cli.options import HERE, Target
from carrel.wire import control


def plans(*, target: Target = HERE) -> int:
    """List the plans of _plans.yaml that are in force, with what each is for."""
    document = request(target, "GET", "/v1/plans")
    if target.json:
        screen.show_json(document)
        return DONE
    told = understand(control.PlansView, document)
    if not told.plans:
        screen.note("No plan is declared: _plans.yaml has none.")
        return DONE
    rows = [
        (
            name, plan.display_name, _text(plan.max_members), plan.max_thinking,
            _limit(plan.quotas.get("tokens_per_month")), _text(plan.sandbox.get("memory_bytes")),
            _text(plan.sandbox.get("cpu_seconds")), plan.billing.get("rule", "markup"),
            _text(plan.billing.get("platform_fee_usd")), told.hashes.get(name, "")[:12],
        )
        for name, plan in sorted(told.plans.items())
    ]  # fmt: skip
    screen.table(
        ("PLAN", "NAME", "PEOPLE", "THINKING", "TOKENS/MONTH", "MEMORY", "CPU S", "BILLED BY", "FEE USD", "HASH"),
        [tuple(None if cell is None else str(cell) for cell in row) for row in rows],
    )
    return DONE


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _limit(value: object) -> str | None:
    return _text(value.get("hard") if isinstance(value, dict) else value)
