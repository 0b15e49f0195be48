from datetime import UTC, datetime, timedelta

import pytest

from carrel.cli.failures import WrongUsage
from carrel.cli.tokens import parse_expiry
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_issue_shows_it_alone_on_standard_output(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("tenants", "token", "issue", "acme", "--name", "ci")
    assert (done.code, done.out) == (0, "tk_acme_" + "e" * 32 + "\n")
    assert "ci of acme (chat, rpc)" in done.err


async def test_one_may_be_bound_to_a_member(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("tenants", "token", "issue", "acme", "--name", "ada", "--member", "ada")
    assert (done.code, "ada of acme, as ada (chat, rpc)" in done.err) == (0, True)
    listed = (await carrel("tenants", "token", "show-prefixes", "acme")).out.splitlines()
    assert listed[1].split()[2] == "ada"


async def test_issue_in_json_has_the_token(carrel: CommandLine, edge: Edge) -> None:
    words = ("tenants", "token", "issue", "acme", "--json", "--scope", "chat", "--expires", "2099-01-01T00:00Z")
    told = (await carrel(*words)).json()
    assert told["token"] == "tk_acme_" + "e" * 32
    assert told["scopes"] == ["chat"]
    assert told["expires"].startswith("2099-01-01T00:00:00")
    assert told["name"].startswith("cli-")
    assert (await carrel(*words)).json()["name"] != told["name"]


async def test_they_are_listed_by_prefix_alone(carrel: CommandLine, edge: Edge) -> None:
    token = (await carrel("tenants", "token", "issue", "acme", "--name", "ci")).out.strip()
    listed = await carrel("tenants", "token", "show-prefixes", "acme")
    assert listed.out.splitlines()[1].split()[:2] == ["ci", token[:-24]]
    assert token not in listed.out
    assert (await carrel("tenants", "token", "show-prefixes", "acme", "--json")).json()["tokens"][0]["name"] == "ci"


async def test_rotate(carrel: CommandLine, edge: Edge) -> None:
    assert (await carrel("tenants", "token", "rotate", "acme")).out.startswith("tk_acme_")
    assert (await carrel("tenants", "token", "rotate", "acme", "--name", "ci", "--json")).json()["name"] == "ci"


async def test_revoke(carrel: CommandLine, edge: Edge) -> None:
    await carrel("tenants", "token", "issue", "acme", "--name", "ci")
    await carrel("tenants", "token", "issue", "acme", "--name", "two")
    assert (await carrel("tenants", "token", "revoke", "acme", "ci")).out == "The token ci of acme is revoked.\n"
    assert (await carrel("tenants", "token", "revoke", "acme", "two", "--json")).json()["revoked"] is True
    gone = await carrel("tenants", "token", "revoke", "acme", "ci")
    assert (gone.code, gone.out) == (1, "")


@pytest.mark.parametrize(
    "words",
    [("--name", "Not A Name"), ("--scope", "everything"), ("--expires", "soon"), ("--expires", "2001-01-01T00:00Z")],
)
async def test_what_cannot_be_issued(carrel: CommandLine, edge: Edge, words: tuple[str, str]) -> None:
    done = await carrel("tenants", "token", "issue", "acme", *words)
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("30m", NOW + timedelta(minutes=30)),
        ("12h", NOW + timedelta(hours=12)),
        ("90d", NOW + timedelta(days=90)),
        ("2w", NOW + timedelta(days=14)),
        ("2026-03-01T14:00+01:00", NOW + timedelta(hours=1)),
    ],
)
def test_when_a_token_ends(text: str, when: datetime) -> None:
    assert parse_expiry(text, NOW) == when
    assert parse_expiry(text, NOW).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "1y", "-1d", "2026-03-02", "2026-03-02T00:00", "999999w", "0m", "٣d"])
def test_when_it_cannot_end(text: str) -> None:
    with pytest.raises(WrongUsage, match="--expires"):
        parse_expiry(text, NOW)
