from dataclasses import replace
from datetime import UTC, datetime

import pytest

from carrel.plan.conditions import TYPES, Facts, Removal, Trouble, claims_of, headline, state_of

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CASES: list[tuple[Facts, str, str]] = [
    (Facts(), "Ready", "Applied"),
    (Facts(suspended=True), "Suspended", "Declared"),
    (Facts(problem="acme.yaml:1:1: what"), "Stalled", "Invalid"),
    (Facts(served=False, suspended=True, problem="x"), "Stalled", "NeverGood"),
    (Facts(waits=True), "Reconciling", "OperatorsInvalid"),
    (Facts(trouble=Trouble("NoDirectory", "Full.", 2, AT)), "Reconciling", "NoDirectory"),
    (Facts(trouble=Trouble("NoDirectory", "A file is in the way.")), "Stalled", "NoDirectory"),
    (Facts(environment="building"), "Ready", "BuildingEnvironment"),
    (Facts(environment="failed", environment_reason="no jq"), "Stalled", "EnvironmentFailed"),
    (Facts(drift=("tenants/acme: mode 0755",)), "Ready", "Drifted"),
    (Facts(removal=Removal("held", confirm="abc")), "Stalled", "RemovalNeedsConfirm"),
    (Facts(removal=Removal("refused")), "Stalled", "Protected"),
    (Facts(suspended=True, removal=Removal("kept", AT)), "Removed", "FileRemoved"),
    (Facts(suspended=True, removal=Removal("deleting")), "Removed", "Deleting"),
    (Facts(suspended=True, resting="it is being restored"), "Suspended", "Resting"),
    (Facts(suspended=True, removal=Removal("unowned")), "Removed", "NotInInventory"),
]


@pytest.mark.parametrize(("facts", "state", "reason"), CASES)
def test_each_case_has_its_state_and_its_reason(facts: Facts, state: str, reason: str) -> None:
    claims = claims_of(facts)
    assert tuple(claim.type for claim in claims) == TYPES
    assert (state_of(claims), headline(claims).reason) == (state, reason)


@pytest.mark.parametrize(("facts", "state", "reason"), CASES)
def test_who_is_not_served_as_declared_is_not_ready(facts: Facts, state: str, reason: str) -> None:
    ready = claims_of(facts)[0]
    assert (ready.status == "True") == (state == "Ready")


def test_what_is_tried_again_says_when_and_what_is_not_says_so() -> None:
    told = claims_of(Facts(trouble=Trouble("NoDirectory", "Full.", 3, AT)))[1].message
    assert told == "Full. Tried 3 times; again at 2026-03-01T12:00:00Z."
    told = claims_of(Facts(trouble=Trouble("NoDirectory", "No.")))[2].message
    assert told == "No. It is not tried again before something changes."


def test_a_removed_tenant_says_until_when_its_data_is_kept() -> None:
    facts = Facts(suspended=True, removal=Removal("kept", AT))
    _, reconciling, _, suspended = claims_of(facts)
    assert "until 2026-03-01T12:00:00Z" in suspended.message
    assert (reconciling.status, reconciling.reason) == ("True", "AwaitingDeletion")
    assert claims_of(replace(facts, removal=Removal("kept")))[1].status == "False"
