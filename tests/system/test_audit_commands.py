"""The audit log by the command line: every command that changes something has its line, with who gave it.

The commands come from the command line itself: one that is new has to be said here, or to be named with the reason why
it has no line.
"""

import asyncio
import hashlib
import json
import os
import secrets
import shlex
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from carrel.cli.app import ALL_WORDS, GROUPS, build_app, execute
from carrel.main.exports import look
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.fakes.person import Person
from tests.fakes.telegram import BotApi
from tests.system.test_audit import bot as bot_fixture
from tests.system.test_audit import home as home_fixture
from tests.system.test_audit import vendor as vendor_fixture

bot, home, vendor = bot_fixture, home_fixture, vendor_fixture
LOOKS: Final = """
check | plan | schema | status | history | diff | plans | tenants list | tenants show | tenants backups
tenants snapshots | tenants token show-prefixes | tenants quota show | tenants quota requests | billing report
billing invoice | billing verify | billing rates | grants list | channels status | cron list | cron runs | skills list
connections list | packages list | packages search | packages log | secrets list | sandboxes list | sandboxes logs
git keys | audit tail | audit search | audit verify | audit export | audit key | audit mark | doctor | completion | man
"""
WITHOUT_A_LINE: Final = {
    "chat": "Model calls are in the ledger and what was said is in the transcript.",
    "terminal": "A terminal has a line for its start and its end: test_terminal.py.",
    "rpc": "Its methods have their lines: test_audit.py.",
    "gateway": "It runs; what is done through it has lines.",
    "node": "It connects; that it asks to be paired has a line: test_audit.py.",
    "admin-key": "It prints a key, which counts once it is declared.",
    "billing push": "It is not available yet, and says so.",
    "git pull": "Who moved the branch has the line, `git.pull`: test_pull.py.",
    "git init": "It makes an empty repository, beside the gateway.",
    "git authorize": "The gateway sees the key, and has the line: test_push.py.", "git revoke": "As above.",
    "restore": "It is said below, where no gateway runs.",
}  # fmt: skip
CHANGES: Final = [
    ("tenants create", "newco --plan starter", "tenants.create tokens.rotate"),
    ("tenants resize", "newco --plan pro", "tenants.resize"),
    ("tenants quota update", "newco --tokens-per-day 9", "tenants.quota"),
    ("tenants quota decide", "demo {request} reject", "quota.decide"),
    ("tenants token issue", "newco --name ci", "tokens.issue"),
    ("tenants token rotate", "newco --name ci", "tokens.rotate"),
    ("tenants token revoke", "newco ci", "tokens.revoke"),
    ("tenants suspend", "newco", "tenants.suspend"), ("tenants resume", "newco", "tenants.resume"),
    ("suspend", "newco", "tenants.suspend"), ("resume", "newco", "tenants.resume"),
    ("secrets set", "newco KEY --from-file {file}", "secrets.set"),
    ("secrets rotate", "newco KEY --from-file {file}", "secrets.rotate"),
    ("secrets reseal", "newco", "secrets.reseal"), ("secrets remove", "newco KEY", "secrets.remove"),
    ("cron add", "yearly 'say hello' --every 31622400 --tenant demo --json", "cron.add"),
    ("cron update", "{jobId} --disable --tenant demo", "cron.update"),
    ("cron run", "{jobId} --tenant demo", "cron.run"), ("cron remove", "{jobId} --tenant demo", "cron.remove"),
    ("skills install", "{skill} --tenant demo", "skills.install"),
    ("skills update", "rhyme --disable --tenant demo", "skills.update"),
    ("skills remove", "rhyme --tenant demo", "skills.remove"),
    ("packages add", "gzip --tenant demo", "packages.add"),
    ("packages remove", "gzip --tenant demo", "packages.remove"),
    ("channels pair", "telegram {code} --tenant demo", "channels.pair"),
    ("channels stop", "telegram --tenant demo", "channels.stop"),
    ("channels start", "telegram --tenant demo", "channels.start"),
    ("channels logout", "telegram --tenant demo", "channels.logout"),
    ("connections link", "vendor --tenant demo --json", "connections.link"),
    ("connections remove", "vendor --tenant demo", "connections.remove"),
    ("grants decide", "demo {grant} deny", "grants.decide"),
    ("sandboxes exec", "demo {sandbox} -- true", "sandboxes.exec"),
    ("sandboxes stop", "demo {sandbox}", "sandboxes.stop"),
    ("tenants snapshot", "demo --json", "tenants.snapshot"), ("tenants rollback", "demo {id}", "tenants.rollback"),
    ("tenants snapshots", "demo --remove {id}", "tenants.snapshot.remove"),
    ("tenants backup", "newco", "tenants.backup"), ("backup all", "", "tenants.backup " * 3),
    ("backup verify", "newco", "tenants.backup.verify"), ("backup collect", "newco", "tenants.backup.collect"),
    ("tenants restore", "newco", "tenants.restore"),
    ("tenants restore", "newco --undo", "tenants.restore.undo"),
    ("tenants restore", "newco", "tenants.restore"),
    ("tenants restore", "newco --confirm", "tenants.restore.confirm"),
    ("tenants export", "newco --to {archive}", "tenants.export"),
    ("tenants import", "{archive} --as newco --replace", "tenants.import"),
    ("tenants import", "{archive} --as newco --replace", "tenants.import"),
    ("tenants import", "{archive} --as fresh", "tenants.create tenants.import"),
    ("tenants remove", "fresh", "tenants.remove"), ("reconcile", "", "reconcile"),
    ("rollback", "HEAD~1", "declared.rollback"),
    ("tenants remove", "fresh --purge", "tenants.remove tenants.delete tenants.purge"),
]  # fmt: skip


def test_every_command_is_said_here() -> None:
    every = {" ".join(words) for words in ALL_WORDS if words not in GROUPS}
    looks = {words.strip() for line in LOOKS.splitlines() for words in line.split("|") if words.strip()}
    changes = {words for words, _, _ in CHANGES} - looks
    assert not looks & set(WITHOUT_A_LINE) | changes & set(WITHOUT_A_LINE)
    assert looks | changes | set(WITHOUT_A_LINE) == every


@dataclass
class Walk:
    """Commands said to a gateway in this process, and what its audit log has of each."""

    gateway: GatewayProcess
    capture: pytest.CaptureFixture[str]
    known: dict[str, str] = field(default_factory=dict)

    def say(self, words: str) -> Any:
        """What a command answers, where that is JSON; its status is 0."""
        self.capture.readouterr()
        code = execute(build_app(lambda _: 0, looks=look), shlex.split(words.format_map(self.known)))
        wrote = self.capture.readouterr()
        assert code == 0, (words, wrote)
        return json.loads(wrote.out) if "--json" in words else None

    def lines(self) -> list[dict[str, Any]]:
        """All that the record has now, but for what nobody asked for."""
        files = sorted((self.gateway.state_dir / "audit").glob("????-??-??.jsonl"))
        found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [one for one in found if not one["actor"].startswith(("schedule", "edit", "link:"))]

    def said(self, words: str, rest: str, *, who: str, actions: list[str]) -> None:
        """Say a command: it has these lines and no others, and all went well."""
        before = len(self.lines())
        told = self.say(f"{words} {rest}")
        added = self.lines()[before:]
        assert sorted(one["action"] for one in added) == sorted(actions), (words, rest, added)
        assert {(one["actor"], one["outcome"]) for one in added if one["actor"] != "carrel"} <= {(who, "ok")}, added
        if isinstance(told, dict):
            self.known |= {name: str(value) for name, value in told.items()}


@pytest.fixture
def walk(
    home: GatewayProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Walk:
    monkeypatch.setenv("CARREL_STATE_DIR", str(home.state_dir))
    for name in ("CARREL_URL", "CARREL_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").write_text("a value\n")
    (tmp_path / "SKILL.md").write_text("---\nname: rhyme\ndescription: Rhymes.\n---\nRhyme.\n")
    names = {"file": "file", "skill": "SKILL.md", "archive": "newco.tar.gz"}
    return Walk(home, capsys, {name: str(tmp_path / file) for name, file in names.items()})


def test_every_command_that_changes_something_has_its_line_with_who_gave_it(walk: Walk, bot: BotApi) -> None:
    bot.say("let me in")
    assert until(bot.texts)
    walk.known["code"] = bot.texts()[0].partition("code is ")[2][:8]
    asking = prepared(walk)
    who = f"uid:{os.getuid()}"
    for words, rest, actions in CHANGES:
        if words == "connections remove":
            connected(walk.known["url"])
        walk.said(words, rest, who=who, actions=actions.split())
        if words == "grants decide":
            asking.join()
    by_an_admin_key(walk)
    before_a_start(walk)


def prepared(walk: Walk) -> threading.Thread:
    """A kept sandbox, a request for a quota, and a grant that an agent waits for."""
    walk.say("chat demo 'run: touch here'")
    walk.known["sandbox"] = walk.say("sandboxes list --json")["sandboxes"][0]["id"]
    asked = {"quota": "requests_per_hour", "limit": "99", "reason": "more"}
    walk.known["request"] = walk.gateway.rpc("tenants.quota.request", asked)["id"]
    wanted = json.dumps({"kind": "host", "what": "example.org", "reason": "to look"})
    message = {"message": f"tool: request_access {wanted}", "sessionId": "other"}
    asking = threading.Thread(target=walk.gateway.rpc, args=("sessions.send", message))
    walk.gateway.rpc("sessions.create", {"sessionId": "other"})
    asking.start()
    assert until(lambda: walk.gateway.rpc("grants.list")["grants"])
    walk.known["grant"] = walk.gateway.rpc("grants.list")["grants"][0]["id"]
    return asking


def connected(url: str) -> None:
    """Somebody opens the link, and allows it at the vendor's."""

    async def open_it() -> None:
        import aiohttp  # noqa: PLC0415

        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as browser:
            assert (await Person(browser).through(url)).status == 200

    asyncio.run(open_it())


def by_an_admin_key(walk: Walk) -> None:
    key = f"ak_ops_{secrets.token_hex(16)}"
    operator = walk.gateway.tenants_dir / "_gateway.yaml"
    declared = f"admin_keys: [{{name: ops, sha256: {hashlib.sha256(key.encode()).hexdigest()}}}]\n"
    operator.write_text(operator.read_text() + declared)
    walk.say("reconcile")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CARREL_URL", walk.gateway.url)
        patched.setenv("CARREL_ADMIN_KEY", key)
        walk.said("tenants suspend", "newco", who="ak_ops", actions=["tenants.suspend"])
        walk.said("secrets set", "newco KEY --from-file {file}", who="ak_ops", actions=["secrets.set"])


def before_a_start(walk: Walk) -> None:
    """`carrel restore`, which asks no gateway: a line for each tenant that came back."""
    assert walk.gateway.stop() == 0
    before = len(walk.lines())
    elsewhere = walk.gateway.home / "backups"
    (walk.gateway.state_dir / "backups").rename(elsewhere)
    done = walk.gateway.cli(
        "restore", "--when", "always", "--tenant", "newco", "--tenants-dir", str(walk.gateway.tenants_dir),
        "--from", f"file://{elsewhere}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [line] = walk.lines()[before:]
    assert (line["action"], line["tenant"], line["outcome"]) == ("tenants.restore", "newco", "ok")
    assert line["actor"].startswith("uid:")
    assert walk.gateway.cli("audit", "verify").returncode == 0
