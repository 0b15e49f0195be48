"""A tenant with one of everything: all of it is kept and carried out, and comes back here, elsewhere and as another.

What a tenant's directory holds is held against the one list of it, both ways: state that is new has to be in the list,
and what is in the list has to be made here.
"""

import asyncio
import contextlib
import http.client
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import aiohttp
import apsw
import pytest

from carrel.backup.contents import CONTENTS, held
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.oauth_vendor import SECRET
from tests.fakes.oauth_vendor import declared as declared_vendor
from tests.fakes.patience import PATIENCE, until
from tests.fakes.person import Person
from tests.fakes.telegram import TOKEN, BotApi
from tests.system.conftest import StartGateway
from tests.system.test_audit import bot as bot_fixture
from tests.system.test_connections import Vendor
from tests.system.test_connections import vendor as vendor_fixture

bot, vendor = bot_fixture, vendor_fixture

ID = "newt-7q"
SEALED = {"GREETING": "a value of the vault"}
SKILL = "---\nname: rhyme\ndescription: Rhymes.\n---\nRhyme.\n"
MASTER = "1 " + "QUFB" * 10 + "QUE=\n"
DECLARED: Final = """members: [{name: ada, role: owner}]
sandbox: {scope: member}
channels: {telegram: {kind: telegram, accounts: {main: {token: {secret: BOT}}}}}
"""


class Local(http.client.HTTPConnection):
    """The control socket: a command for each of so many questions takes long on a busy machine."""

    def __init__(self, gateway: GatewayProcess) -> None:
        super().__init__("carrel", timeout=PATIENCE)
        self._place = gateway.state_dir / "run" / "control.sock"

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._place))


def ask(gateway: GatewayProcess, method: str, path: str, body: Any = None) -> Any:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with contextlib.closing(Local(gateway)) as local:
        local.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        reply = local.getresponse()
        text = reply.read()
    assert reply.status < 300, (path, text)
    return json.loads(text) if "json" in (reply.headers["Content-Type"] or "") else text


def rpc(gateway: GatewayProcess, tenant: str, method: str, **params: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = ask(gateway, "POST", f"/v1/tenants/{tenant}/rpc", call)
    assert "result" in answer, (method, answer)
    return answer["result"]


def declared(gateway: GatewayProcess, tenant: str) -> str:
    """Declare a tenant; its token."""
    return str(ask(gateway, "POST", "/v1/tenants", {"id": tenant})["token"])


def bill(gateway: GatewayProcess, tenant: str) -> Any:
    return ask(gateway, "GET", f"/v1/tenants/{tenant}/usage?period=today")["rows"]


def by_others(gateway: GatewayProcess, bot: BotApi, token: str) -> None:
    """What members, strangers, agents and vendors have a part in."""
    (gateway.tenants_dir / f"{ID}.yaml").write_text(DECLARED)
    ask(gateway, "POST", "/v1/reconcile")
    issued = ask(gateway, "POST", f"/v1/tenants/{ID}/tokens", {"name": "ada", "member": "ada"})
    told = gateway.rpc("sessions.send", {"message": "run: echo mine > own"}, token=issued["token"])
    assert "text" in told, told
    bot.say("let me in")
    assert until(bot.texts)
    rpc(gateway, ID, "channels.pair", channel="telegram", code=bot.texts()[0].partition("code is ")[2][:8])
    url = rpc(gateway, ID, "connections.link", provider="vendor")["url"]
    asyncio.run(connected(url))
    wanted = json.dumps({"kind": "host", "what": "example.org", "reason": "to look"})
    message = {"message": f"tool: request_access {wanted}", "sessionId": "s_asks"}
    assert gateway.rpc("sessions.create", {"sessionId": "s_asks"}, token=token)["sessionId"] == "s_asks"
    asking = threading.Thread(target=gateway.rpc, args=("sessions.send", message), kwargs={"token": token})
    asking.start()
    assert until(lambda: rpc(gateway, ID, "grants.list")["grants"])
    rpc(gateway, ID, "grants.decide", grant=rpc(gateway, ID, "grants.list")["grants"][0]["id"], decision="1h")
    asking.join()


async def connected(url: str) -> None:
    """Somebody opens the link, and allows it at the vendor's."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as browser:
        assert (await Person(browser).through(url)).status == 200


def fill(gateway: GatewayProcess, token: str) -> None:
    """One of everything that a tenant may have by itself."""
    rpc(gateway, ID, "config.patch", patch={"display_name": "Newt"})
    rpc(gateway, ID, "agents.files.set", agentId="main", name="SOUL.md", content="Be kind.")
    rpc(gateway, ID, "sessions.create", sessionId="s_one")
    rpc(gateway, ID, "sessions.send", sessionId="s_one", message="run: echo hello > file; ln -s file link")
    rpc(gateway, ID, "memory.add", text="likes marmalade")
    rpc(gateway, ID, "cron.add", name="yearly", message="hello", schedule={"kind": "every", "everySeconds": 31_000_000})
    rpc(gateway, ID, "skills.install", content=SKILL)
    rpc(gateway, ID, "voicewake.set", triggers=["newt"])
    rpc(gateway, ID, "sessions.search", query="hello")
    rpc(gateway, ID, "tenants.quota.request", quota="requests_per_hour", limit="99", reason="more")
    code = rpc(gateway, ID, "device.pair.code")["code"]
    asked = gateway.request("POST", "/v1/devices/pair", {"code": code, "name": "phone"}).json()
    rpc(gateway, ID, "device.pair.approve", requestId=asked["requestId"])
    claim = {"requestId": asked["requestId"], "secret": asked["secret"]}
    assert gateway.request("POST", "/v1/devices/claim", claim).status == 200
    for name, value in SEALED.items():
        ask(gateway, "PUT", f"/v1/tenants/{ID}/secrets/{name}", {"value": value})
    told = gateway.request("POST", "/v1/responses", {"model": "agent:main", "input": "hello"}, token=token)
    assert told.status == 200, told.body
    keyed = {"sessionId": "k", "idempotencyKey": "a"}
    assert gateway.rpc("sessions.create", keyed, token=token)["sessionId"] == "k"
    made = gateway.rpc("terminal.spawn", {"cols": 80, "rows": 24, "record": True}, token=token)
    assert gateway.rpc("terminal.close", {"terminalId": made["terminalId"]}, token=token)["ok"] is True
    ask(gateway, "POST", f"/v1/tenants/{ID}/snapshots", {})


def files(top: Path) -> set[str]:
    """Files of a tenant, without what goes with a database that is open."""
    found = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_symlink() or path.is_file()}
    return {path for path in found if not path.endswith(("-wal", "-shm", "-journal"))}


def lines(found: Iterable[str]) -> set[str]:
    """The lines of the list that have these."""
    return {line.path for path in found if (line := held(path)) is not None}


def mentions(top: Path) -> set[str]:
    """Files in which the tenant's id is."""
    return {path for path in files(top) if not (top / path).is_symlink() and ID.encode() in (top / path).read_bytes()}


def what(gateway: GatewayProcess, tenant: str) -> dict[str, Any]:
    """What the tenant's people see of all that."""
    return {
        "name": rpc(gateway, tenant, "tenants.get")["displayName"],
        "sessions": {one["sessionId"] for one in rpc(gateway, tenant, "sessions.list")["sessions"]} - {"after"},
        "said": rpc(gateway, tenant, "sessions.preview", keys=["s_one"])["previews"],
        "found": len(rpc(gateway, tenant, "sessions.search", query="hello")["hits"]) > 0,
        "notes": [one["text"] for one in rpc(gateway, tenant, "memory.search", query="marmalade")["hits"]],
        "jobs": [one["name"] for one in rpc(gateway, tenant, "cron.list")["jobs"]],
        "skills": [one["name"] for one in rpc(gateway, tenant, "skills.status")["skills"]],
        "soul": rpc(gateway, tenant, "agents.files.get", agentId="main", name="SOUL.md")["file"]["content"],
        "wake": rpc(gateway, tenant, "voicewake.get")["triggers"],
        "secrets": [one["name"] for one in ask(gateway, "GET", f"/v1/tenants/{tenant}/secrets")["secrets"]],
        "recordings": [one["terminalId"] for one in rpc(gateway, tenant, "terminal.recordings")["recordings"]],
    }  # fmt: skip


@pytest.fixture
def masters(tmp_path: Path) -> tuple[str, ...]:
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "carrel-master-key").write_text(MASTER)
    (secrets / "carrel-master-key").chmod(0o600)
    return ("--trial", "--secrets-dir", str(secrets))


def test_everything_is_kept_and_nothing_of_it_holds_to_its_id_or_host(
    new_gateway: StartGateway, masters: tuple[str, ...], tmp_path: Path, bot: BotApi, vendor: Vendor
) -> None:
    old = new_gateway("old", args=masters, env={"CARREL_SECRET_BOT": TOKEN, "CARREL_SECRET_VENDOR_SECRET": SECRET})
    operator = old.tenants_dir / "_gateway.yaml"
    operator.write_text(f"{operator.read_text()}\nbackup:\n  to: file://{old.state_dir}/backups\n"
                        f"channels: {{telegram: {{base_url: '{bot.base_url}'}}}}\n"
                        f"oauth_providers: {json.dumps({'vendor': declared_vendor(vendor.url)})}\n")  # fmt: skip
    old.start()
    token = declared(old, ID)
    fill(old, token)
    by_others(old, bot, token)
    top = old.state_dir / "tenants" / ID
    put_by(top / "usage/damaged")
    there = files(top)
    unknown = {path for path in there if held(path) is None}
    assert not unknown, f"in no line of carrel/backup/contents.py: {sorted(unknown)}"
    kept = {path for path in there if (line := held(path)) is not None and line.kept}
    assert {"terminals", "responses", "devices", "memory"} <= {path.partition("/")[0] for path in kept}
    seen = what(old, ID)
    assert all(seen.values()), seen

    ask(old, "POST", f"/v1/tenants/{ID}/backups", {})
    # With what is in no backup.
    everything = files(top)
    archive = ask(old, "GET", f"/v1/tenants/{ID}/export")
    whole_databases(archive, tmp_path)
    rpc(old, ID, "sessions.create", sessionId="after")
    rpc(old, ID, "sessions.send", sessionId="after", message="said since")
    ask(old, "POST", f"/v1/tenants/{ID}/restore", {})
    assert what(old, ID) == seen
    charged = bill(old, ID)
    assert charged

    declared(old, "other")
    ask(old, "POST", "/v1/tenants/other/restore", {"source": ID})
    declared(old, "third")
    ask(old, "POST", "/v1/tenants/third/import", archive)
    left = {path for path in kept if (line := held(path)) is not None and line.other == "left"}
    own = {"credentials/tokens.json", "usage/ledger.sqlite"}
    everything |= files(old.state_dir / "tenants/third")
    assert lines(everything) == {one.path for one in CONTENTS}, "what is in the list and not made here, or otherwise"
    for name in ("other", "third"):
        assert what(old, name) == seen, name
        here = old.state_dir / "tenants" / name
        assert kept - left <= files(here), name
        assert not files(here) & (left - own), name
        assert mentions(here) <= {"imported.json"}, name
        assert bill(old, name) == [], name
        # Each secret is opened as this tenant's own.
        ask(old, "POST", f"/v1/tenants/{name}/secrets")
    assert bill(old, ID) == charged
    assert old.stop() == 0, old.text

    new = new_gateway("new", args=masters).start()
    declared(new, ID)
    assert ask(new, "POST", f"/v1/tenants/{ID}/import?sealed=true", archive)["seal"] == "own"
    assert what(new, ID) == seen
    assert kept <= files(new.state_dir / "tenants" / ID)
    assert new.stop() == 0, new.text


def put_by(place: Path) -> None:
    """What a restore over a damaged ledger leaves: `tests.system.test_backups` makes one."""
    owner = place.parent.stat()
    place.mkdir(mode=0o700)
    (place / "ledger-0").write_bytes(b"no database")
    for path in (place, place / "ledger-0"):
        os.chown(path, owner.st_uid, owner.st_gid)


def whole_databases(archive: bytes, work: Path) -> None:
    """Each was copied at one moment."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = [info for info in tar if info.name.endswith(".sqlite")]
        assert len(found) >= 5
        for info in found:
            source = tar.extractfile(info)
            assert source is not None
            (work / "one.sqlite").write_bytes(source.read())
            with contextlib.closing(apsw.Connection(str(work / "one.sqlite"))) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], info.name
