"""The command line does what the control plane does, all of it and nothing else.

Every command that speaks to a gateway is run against one, and every route of the control plane must have been asked by
one of them. A new command without words here fails, and so does a new route that no command asks.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from carrel.cli.app import COMMANDS
from carrel.http import routes
from carrel.http.app import all_routes
from carrel.http.exchange import Exchange
from carrel.http.routes import Route
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine, Done

LOCAL: Final = {
    ("check",): "reads a directory",
    ("schema",): "prints what it knows itself",
    ("audit", "export"): "writes a directory of what `audit tail` asks for",
    ("audit", "verify"): "as `audit export`",
    ("tenants", "rollback"): "is in MORE, behind a snapshot",
    ("terminal",): "is spoken to over a WebSocket, as the tenant",
    ("billing", "push"): "is not available yet, and says so",
}
"""Commands that ask nothing by themselves, or what others ask too, and why."""
BY_OTHERS: Final = {
    ("GET", "/v1/tenants/{id}/backups/running"): "a backup that takes long looks at it",
    ("DELETE", "/v1/tenants/{id}/backups/running"): "an interrupt of a backup that takes long",
    ("GET", "/v1/tenants/{id}/usage/recount/running"): "a recount that takes long looks at it",
    ("POST", "/v1/git/take"): "the hook of a push",
    ("GET", "/v1/tenants/{id}/export"): "`tenants export`, which writes a file of a real tenant's",
    ("POST", "/v1/tenants/{id}/import"): "`tenants import`, which reads one",
}
WORDS: Final[Mapping[tuple[str, ...], str]] = {
    ("plan",): "{tenants}", ("status",): "acme", ("reconcile",): "", ("suspend",): "acme", ("resume",): "acme",
    ("history",): "", ("diff",): "abc", ("rollback",): "abc", ("git", "pull"): "", ("plans",): "",
    ("tenants", "create"): "newco", ("tenants", "list"): "", ("tenants", "show"): "acme",
    ("tenants", "resize"): "acme --plan pro", ("tenants", "suspend"): "acme", ("tenants", "resume"): "acme",
    ("tenants", "remove"): "acme", ("tenants", "backup"): "acme", ("tenants", "backups"): "acme",
    ("tenants", "restore"): "acme", ("backup", "verify"): "acme", ("backup", "collect"): "acme", ("backup", "all"): "",
    ("tenants", "snapshot"): "acme", ("tenants", "snapshots"): "acme",
    ("tenants", "token", "show-prefixes"): "acme", ("tenants", "token", "issue"): "acme --name ci",
    ("tenants", "token", "rotate"): "acme", ("tenants", "token", "revoke"): "acme ci",
    ("tenants", "quota", "show"): "acme", ("tenants", "quota", "update"): "acme --tokens-per-day 5",
    ("tenants", "quota", "requests"): "", ("tenants", "quota", "decide"): "acme qr_1 reject",
    ("chat",): "acme hello", ("rpc",): "acme health", ("billing", "report"): "acme",
    ("billing", "invoice"): "acme", ("billing", "verify"): "acme", ("billing", "rates"): "",
    ("grants", "list"): "acme", ("grants", "decide"): "acme gr_1 deny", ("channels", "status"): "--tenant acme",
    ("channels", "pair"): "t --tenant acme", ("channels", "start"): "t --tenant acme",
    ("channels", "stop"): "t --tenant acme", ("channels", "logout"): "t --tenant acme",
    ("cron", "list"): "--tenant acme",
    ("cron", "add"): "name message --every 3600 --tenant acme", ("cron", "remove"): "job --tenant acme",
    ("cron", "update"): "job --disable --tenant acme",
    ("cron", "run"): "job --tenant acme", ("cron", "runs"): "--tenant acme", ("packages", "list"): "--tenant acme",
    ("skills", "list"): "--tenant acme", ("skills", "install"): "{secret} --tenant acme",
    ("skills", "update"): "it --disable --tenant acme", ("skills", "remove"): "it --tenant acme",
    ("connections", "list"): "--tenant acme", ("connections", "link"): "vendor --tenant acme",
    ("connections", "remove"): "vendor --tenant acme",
    ("packages", "search"): "jq --tenant acme", ("packages", "add"): "jq --tenant acme",
    ("packages", "remove"): "jq --tenant acme", ("packages", "log"): "--tenant acme", ("secrets", "list"): "acme",
    ("secrets", "set"): "acme KEY --from-file {secret}", ("secrets", "rotate"): "acme KEY --from-file {secret}",
    ("secrets", "remove"): "acme KEY", ("secrets", "reseal"): "acme", ("sandboxes", "list"): "",
    ("sandboxes", "stop"): "acme sb_1", ("sandboxes", "exec"): "acme sb_1 -- true", ("sandboxes", "logs"): "acme sb_1",
    ("audit", "tail"): "", ("audit", "search"): "word", ("audit", "key"): "",
    ("audit", "mark"): "", ("doctor",): "{tenants}",
}  # fmt: skip
"""What is said behind each command. Variants that ask other routes are in `MORE`."""
MORE: Final = (
    "plan", "tenants quota requests acme", "tenants snapshots acme --remove sn_1", "tenants rollback acme sn_1",
    "status",     "tenants restore acme --confirm", "tenants export acme --to s3://bucket/a/",
    "tenants import s3://bucket/a.tar.gz --as acme", "tenants import s3://bucket/a.tar.gz --as newest",
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The routes that the edge is asked by, whatever it answers."""
    seen: set[tuple[str, str]] = set()
    real = routes.admit

    def admit(exchange: Exchange, route: Route) -> None:
        seen.add((route.method, route.path))
        real(exchange, route)

    monkeypatch.setattr(routes, "admit", admit)
    return seen


def words_of(command: tuple[str, ...], tmp_path: Path) -> list[str]:
    (tmp_path / "secret").write_text("value")
    (tmp_path / "declared").mkdir(exist_ok=True)
    places = {"tenants": str(tmp_path / "declared"), "secret": str(tmp_path / "secret")}
    return [*command, *WORDS[command].format(**places).split()]


async def test_every_route_has_its_command_every_command_its_route_and_an_answer_in_json(
    carrel: CommandLine, edge: Edge, asked: set[tuple[str, str]], tmp_path: Path
) -> None:
    assert set(COMMANDS) == set(WORDS) | set(LOCAL), "say in WORDS what is said behind the command, or in LOCAL why not"
    silent: list[tuple[str, ...]] = []
    wrong: dict[str, str] = {}
    for command in WORDS:
        before = set(asked)
        asked.clear()
        said = words_of(command, tmp_path)
        at = said.index("--") if "--" in said else len(said)
        done = await carrel(*said[:at], "--json", *said[at:])
        if not asked:
            silent.append(command)
        if not answers_in_json(done):
            wrong[" ".join(command)] = f"{done.code}: {done.out[-300:]!r} {done.err[-300:]!r}"
        asked |= before
    for words in MORE:
        await carrel(*words.split())
    assert silent == [], "commands that ask no route: mend their WORDS, or say in LOCAL why"
    assert wrong == {}, "with --json standard output is JSON and nothing else; a failure is JSON on standard error"
    ours = {
        (row.method, row.path) for row in all_routes(lambda: None)
        if row.scope is not None and row.access not in ("scrape", "operator-ws")
    }  # fmt: skip
    assert ours - asked - set(BY_OTHERS) == set(), (
        "routes that no command asks: what a program can do the command line does too. Give each a command in "
        "cli.app.COMMANDS with words in WORDS (or MORE), or say in BY_OTHERS who asks it"
    )
    assert set(BY_OTHERS) <= ours


def answers_in_json(done: Done) -> bool:
    """Whether all of standard output is one document or one a line, and a failure without any is one on the other."""
    try:
        if done.code == 1 and not done.out:
            return set(json.loads(done.err)["error"]) >= {"code", "message"}
        return done.code in (0, 1) and all(json.loads(text) is not None for text in _documents(done.out))
    except (ValueError, KeyError):
        return False


def _documents(text: str) -> list[str]:
    try:
        json.loads(text)
    except ValueError:
        return text.splitlines()
    return [text]


@pytest.mark.parametrize("command", sorted(set(WORDS) - {("doctor",)}), ids=" ".join)
def test_every_command_ends_with_3_where_no_gateway_answers(
    carrel: CommandLine, command: tuple[str, ...], tmp_path: Path
) -> None:
    done = carrel.run(*words_of(command, tmp_path))
    assert (done.code, done.out) == (3, ""), done.err
    assert "Start one with" in done.err
