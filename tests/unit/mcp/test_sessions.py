"""Session ids that are bound to whose they are."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.declare.tenant import Member, SandboxConfig
from carrel.errors import NotFound, UpstreamError
from carrel.mcp.sessions import SessionIds
from carrel.tenancy.handle import Tenant
from tests.fakes.tenants import make_tenant

IDS = SessionIds(b"k" * 32)


@pytest.fixture
def tenants(tmp_path: Path) -> Iterator[tuple[Tenant, Tenant]]:
    members = (Member(name="ada"), Member(name="bob"))
    made = (
        make_tenant(tmp_path, "acme", members=members, sandbox=SandboxConfig(scope="member")),
        make_tenant(tmp_path, "bravo"),
    )
    yield made
    for one in made:
        one.root.close()


def test_S8_an_id_is_good_for_its_own_tenant_member_and_server(tenants: tuple[Tenant, Tenant]) -> None:
    acme, bravo = tenants
    ada = acme.as_member("ada")
    given = IDS.given(ada, "notes", "abc-1")
    assert IDS.theirs(ada, "notes", given) == "abc-1"
    # After a restart too, and not on another machine.
    assert SessionIds(b"k" * 32).theirs(ada, "notes", given) == "abc-1"
    for who, server, text in (
        (acme, "notes", given), (acme.as_member("bob"), "notes", given), (bravo, "notes", given), (ada, "wiki", given),
        (ada, "notes", given + "x"), (ada, "notes", "abc-1"), (ada, "notes", ""), (ada, "notes", "ä" * 40),
        (ada, "notes", given[:32]), (replace(ada, id=bravo.id), "notes", given),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            IDS.theirs(who, server, text)
    with pytest.raises(NotFound):
        SessionIds(b"x" * 32).theirs(ada, "notes", given)


@pytest.mark.parametrize("text", ["", "with space", "a\r\nb", "x" * 257, "ä"])
def test_what_is_no_id_of_a_server(tenants: tuple[Tenant, Tenant], text: str) -> None:
    with pytest.raises(UpstreamError):
        IDS.given(tenants[0], "notes", text)
