"""Security 1.2 within one tenant: with `sandbox.scope: member` two people see nothing of each other, in real sandboxes.

Who somebody is comes from the record of their token, and from nothing that they can say.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from carrel.http.rpc.methods import REGISTRY
from carrel.http.rpc.registry import Method
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.launcher import running
from tests.fakes.patience import until
from tests.security.test_s1_boundary import masked, wanted_params

MEMBERS = """members: [{name: ada, role: admin}, {name: bob, role: owner}, {name: eve, role: viewer}]
sandbox: {scope: member, keep: true}
quotas: {requests_per_minute: 100000, requests_per_second: 10000}
"""
BOBS = {"tenant": "demo", "session": "bobs-session", "token": "bob", "agent": "main", "terminal": "term_" + "b0" * 12,
        "channel": "bobs-channel"}  # fmt: skip
NOBODYS = {
    "tenant": "demo",
    "session": "none-session",
    "token": "nob",
    "agent": "main",
    "terminal": "term_" + "f0" * 12,
    "channel": "none-channel",
}
EVERY = {**BOBS, **{f"no {kind}": name for kind, name in NOBODYS.items()}}
ALL = ("chat", "rpc", "admin")
_COUNTS = (
    "createdAt|inputTokens|outputTokens|totalTokens|totalSessions|count|used|reserved|resetAt|tokenUsagePercent|"
    "durationMs"
)


class People:
    """A gateway with two members of one tenant, and a token of each and of nobody in particular."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.tokens = {name: self.issue(name, "--member", name) for name in ("ada", "bob")}
        self.tokens["all"] = self.issue("all")

    def issue(self, name: str, *more: str, scopes: tuple[str, ...] = ALL) -> str:
        words = [word for scope in scopes for word in ("--scope", scope)]
        done = self.gateway.cli("tenants", "token", "issue", "demo", "--name", name, *words, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def rpc(self, who: str, method: str, params: object = None) -> Any:
        return self.gateway.rpc(method, params, token=self.tokens[who])

    def say(self, who: str, message: str, session: str) -> str:
        """One turn over the OpenAI dialect, where a session of that id begins at its first message."""
        answer = self.gateway.request(
            "POST", "/v1/chat/completions", {"model": "agent:main", "messages": [{"role": "user", "content": message}]},
            token=self.tokens[who], headers={"X-Carrel-Session": session, "X-Carrel-Member": "bob", "X-Member": "bob"},
        )  # fmt: skip
        assert answer.status == 200, answer.body
        return str(answer.json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    gateway = GatewayProcess(home=tmp_path_factory.mktemp("members") / "home").prepare()
    file = gateway.tenants_dir / "demo.yaml"
    file.write_text(file.read_text().replace("plan: starter", "plan: pro") + MEMBERS)
    made = People(gateway.start())
    made.say("bob", "run: echo bobs-words > secret; touch /tmp/bobs; sleep 8231 &", "bobs-session")
    # What packages there are is found out behind the first who asks: two who ask after that are told the same.
    assert until(lambda: "being found out" not in json.dumps(made.rpc("ada", "packages.search", {"query": "a"})))
    yield made
    assert gateway.stop() == 0, gateway.text


def test_S1_02_two_members_see_nothing_of_each_others_files_processes_and_workers(people: People) -> None:
    assert "exit code 0" in people.say("ada", "run: touch mine", "bobs-session")
    seen = people.say("ada", "run: ls -a /workspace /tmp; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; cat secret", "adas")
    assert "mine" in seen
    for word in ("secret\n", "bobs", "8231"):
        assert word not in seen.replace("cat secret", "").replace("cat: secret: ", ""), seen
    # What is permitted: bob, and he in another session of his.
    seen = people.say("bob", "run: cat secret; ls /tmp; cat /proc/[0-9]*/cmdline | tr '\\0' ' '", "another-of-bobs")
    assert "bobs-words" in seen
    assert "8231" in seen
    assert running("8231")
    kept = json.loads(people.gateway.cli("sandboxes", "list", "--json").stdout)["sandboxes"]
    assert {one["workspace"] for one in kept} == {"sandbox.d/member-ada", "sandbox.d/member-bob"}


def test_S1_02_a_session_of_one_id_is_another_session_for_each(people: People) -> None:
    people.say("ada", "adas words", "shared-name")
    people.say("bob", "bobs words", "shared-name")
    for who, other in (("ada", "bobs words"), ("bob", "adas words")):
        told = json.dumps(people.rpc(who, "sessions.preview", {"keys": ["shared-name"]}))
        assert f"{who}s words" in told
        assert other not in told
    assert people.rpc("ada", "sessions.delete", {"sessionId": "shared-name"})["ok"] is True
    assert "bobs words" in json.dumps(people.rpc("bob", "sessions.preview", {"keys": ["shared-name"]}))


def test_S1_02_a_token_of_nobody_in_particular_sees_no_members_sessions(people: People) -> None:
    assert people.rpc("all", "sessions.preview", {"keys": ["bobs-session"]})["previews"][0]["status"] == "missing"
    assert "bobs-words" not in people.say("all", "run: cat secret; ls ..", "bobs-session").replace("cat secret", "")
    people.say("all", "hello", "common")
    listed = [s["sessionId"] for s in people.rpc("all", "sessions.list")["sessions"]]
    assert "common" in listed
    assert "another-of-bobs" not in listed


def test_S1_02_a_member_comes_to_no_terminal_of_anothers(people: People) -> None:
    people.tokens["narrow"] = people.issue("narrow", "--member", "ada", scopes=("chat", "rpc"))
    made = people.rpc("bob", "terminal.spawn", {"sessionId": "bobs-session"})["terminalId"]
    for name in ("terminal.attach", "terminal.close", "terminal.read"):
        answers = [people.rpc("narrow", name, {"terminalId": one}) for one in (made, NOBODYS["terminal"])]
        told = [masked((200, json.dumps(answer).replace(made, NOBODYS["terminal"])), EVERY) for answer in answers]
        assert told[0] == told[1]
        assert '"code"' in told[0][1], "both are refused"
    assert made not in str(people.rpc("narrow", "terminal.list"))
    assert made in str(people.rpc("bob", "terminal.list"))
    assert made in str(people.rpc("ada", "terminal.list")), "who has the scope `admin` sees all members'"
    assert people.rpc("bob", "terminal.close", {"terminalId": made})["ok"] is True


@pytest.mark.parametrize("method", list(REGISTRY), ids=lambda m: m.name)
def test_S1_05_every_rpc_method_with_the_ids_of_another_member(people: People, method: Method) -> None:
    names = list(wanted_params(method, BOBS))
    for subset in (*([name] for name in names), names):
        answers = []
        for ids in (BOBS, NOBODYS):
            if method.name == "sessions.create":
                # A name is free for everybody until they take it themselves.
                people.rpc("ada", "sessions.delete", {"sessionId": ids["session"]})
            params = {k: v for k, v in wanted_params(method, ids).items() if k in subset or k == "message"}
            answer = people.rpc("ada", method.name, params)
            if "token" in answer:
                # Without a name it is their own that is rotated.
                people.tokens["ada"] = answer.pop("token")
            if method.name == "terminal.spawn" and "terminalId" in answer:
                people.rpc("ada", "terminal.close", {"terminalId": answer["terminalId"]})
            answers.append(masked((200, json.dumps(answer)), EVERY))
        told = [_without_counts(text) for _, text in answers]
        assert told[0] == told[1], subset
    for ids in (BOBS, NOBODYS):
        people.rpc("ada", "sessions.delete", {"sessionId": ids["session"]})
    preview = people.rpc("bob", "sessions.preview", {"keys": ["bobs-session"]})["previews"][0]
    assert preview["status"] == "ok"


def _without_counts(text: str) -> str:
    """What differs from call to call, and not by whose the ids are."""
    return re.sub(rf'"({_COUNTS})": ?("[^"]*"|[0-9.]+)', r'"\1": 0', text)


@pytest.mark.parametrize("path", ["/rpc?member=bob", "/rpc?member=bob&as=bob"])
def test_S1_02_nothing_that_a_caller_says_makes_them_another(people: People, path: str) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "sessions.list", "params": {}}
    headers = {"X-Carrel-Member": "bob", "X-Member": "bob", "From": "bob"}
    told = {
        who: people.gateway.request("POST", path, call, token=people.tokens[who], headers=headers).body.decode()
        for who in ("ada", "all", "bob")
    }
    assert "another-of-bobs" in told["bob"]
    assert "another-of-bobs" not in told["ada"] + told["all"]
    assert (
        people.gateway.request("POST", "/v1/tenants/demo/rpc?member=bob", call, token=people.tokens["ada"]).status
        == 403
    )


def test_S1_02_a_role_bounds_every_token_of_its_member_from_the_next_request_on(people: People) -> None:
    refused = people.gateway.cli(
        "tenants", "token", "issue", "demo", "--name", "x", "--member", "eve", "--scope", "chat"
    )
    assert refused.returncode == 1
    assert "eve is a viewer" in refused.stderr
    issued = people.gateway.cli("tenants", "token", "issue", "demo", "--name", "eve", "--member", "eve")
    assert issued.returncode == 0, issued.stderr
    eve = people.tokens["eve"] = issued.stdout.strip()
    chat = {"model": "agent:main", "messages": [{"role": "user", "content": "hello"}]}

    assert people.rpc("eve", "sessions.list")["sessions"] == []
    assert people.rpc("eve", "tenants.usage")["tenantId"] == "demo"
    assert "a viewer, who may only look" in people.rpc("eve", "sessions.create", {})["message"]
    answer = people.gateway.request("POST", "/v1/chat/completions", chat, token=eve)
    assert (answer.status, b"the role of eve (viewer)" in answer.body) == (403, True)

    bob = people.tokens["bob"]
    file = people.gateway.tenants_dir / "demo.yaml"
    file.write_text(file.read_text().replace("{name: bob, role: owner}", "{name: bob, role: viewer}"))
    assert until(lambda: "may only look" in json.dumps(people.rpc("bob", "sessions.create", {})))
    assert people.gateway.request("POST", "/v1/chat/completions", chat, token=bob).status == 403
    file.write_text(file.read_text().replace("{name: bob, role: viewer}", "{name: bob, role: member}"))
    assert until(lambda: people.gateway.request("POST", "/v1/chat/completions", chat, token=bob).status == 200)
    assert "needs the scope 'admin'" in people.rpc("bob", "tenants.rotate", {})["message"]
