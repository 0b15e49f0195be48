"""The command line does what the control plane does, all of it and nothing else.

Every command that speaks to a gateway is run against one, and every route of the control plane must have been asked by
one of them. A new command without words here fails, and so does a new route that no command asks.
"""

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
from tests.unit.cli.conftest import CommandLine

LOCAL: Final = {
    ("check",),
    ("schema",),
    ("audit", "export"),
    ("audit", "verify"),
    ("tenants", "rollback"),
    ("terminal",),
}
"""Commands that ask nothing by themselves, or what others ask too: `export` and `verify` read as `tail` does.

A terminal is spoken to over a WebSocket, as the tenant."""
BY_OTHERS: Final = {
    ("GET", "/v1/tenants/{id}/backups/running"): "a backup that takes long looks at it",
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
    ("grants", "list"): "acme", ("grants", "decide"): "acme gr_1 deny", ("cron", "list"): "--tenant acme",
    ("cron", "add"): "name message --every 3600 --tenant acme", ("cron", "remove"): "job --tenant acme",
    ("cron", "run"): "job --tenant acme", ("cron", "runs"): "--tenant acme", ("packages", "list"): "--tenant acme",
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
    "status",     "tenants restore acme --confirm",
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


async def test_every_route_has_its_command_and_every_command_its_route(
    carrel: CommandLine, edge: Edge, asked: set[tuple[str, str]], tmp_path: Path
) -> None:
    assert set(COMMANDS) == set(WORDS) | LOCAL, "say here what is said behind the command"
    (tmp_path / "secret").write_text("value")
    (tmp_path / "declared").mkdir()
    places = {"tenants": str(tmp_path / "declared"), "secret": str(tmp_path / "secret")}
    silent: list[tuple[str, ...]] = []
    for command, words in WORDS.items():
        before = set(asked)
        asked.clear()
        await carrel(*command, *words.format(**places).split())
        if not asked:
            silent.append(command)
        asked |= before
    for words in MORE:
        await carrel(*words.split())
    assert silent == []
    ours = {
        (row.method, row.path) for row in all_routes(lambda: None)
        if row.scope is not None and row.access not in ("scrape", "operator-ws")
    }  # fmt: skip
    assert ours - asked - set(BY_OTHERS) == set(), "routes that no command asks"
    assert set(BY_OTHERS) <= ours
