"""A whole gateway with a bot: somebody is let in and talks, and kill -9 in the middle neither loses nor doubles."""

import json
import os
import random
import re
import time
from collections.abc import Iterator

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.fakes.telegram import TOKEN, BotApi, running_bot_api
from tests.system.conftest import StartGateway

SEED = 20260301
KILLS = 40 if os.environ.get("CARREL_TEST_LONG") else 2
CODE = re.compile(r"Your code is ([2-9A-Z]{8}):")


@pytest.fixture
def api() -> Iterator[BotApi]:
    with running_bot_api() as running:
        yield running


def with_bot(new_gateway: StartGateway, api: BotApi, channel: str) -> GatewayProcess:
    """A gateway whose tenant ``demo`` has a channel."""
    gateway = new_gateway(args=("--trial",), env={"CARREL_SECRET_BOT": TOKEN, "CARREL_SECRET_HOOK": "s3cret-proof"})
    file, config = gateway.tenants_dir / "demo.yaml", gateway.tenants_dir / "_gateway.yaml"
    file.write_text(f"{file.read_text()}\nchannels: {{telegram: {{kind: telegram, {channel}}}}}\n")
    base = f"channels: {{public_url: 'https://carrel.example.com', telegram: {{base_url: '{api.base_url}'}}}}"
    config.write_text(f"{config.read_text()}\n{base}\n")
    return gateway.start()


CALLED = "accounts: {main: {token: {secret: BOT}, delivery: webhook, webhook_secret: {secret: HOOK}}}"
POLLED = "accounts: {main: {token: {secret: BOT}}}"


def test_from_a_code_to_an_answer_over_a_backup_and_on_by_webhook(new_gateway: StartGateway, api: BotApi) -> None:
    gateway = with_bot(new_gateway, api, POLLED)
    operator = gateway.tenants_dir / "_gateway.yaml"
    operator.write_text(f"{operator.read_text()}\nbackup:\n  to: file://{gateway.state_dir}/backups\n")
    api.say("hello")
    assert until(api.texts)
    found = CODE.search(api.texts()[0])
    assert found is not None
    done = gateway.cli("channels", "pair", "telegram", found[1], "--tenant", "demo")
    assert done.returncode == 0, done.stderr
    api.say("say: one")
    assert until(lambda: len(api.texts()) == 3)
    assert until(lambda: gateway.cli("tenants", "backup", "demo").returncode == 0, pause=0.2)
    assert gateway.cli("channels", "pair", "telegram", "--tenant", "demo", "--remove", "42").returncode == 0
    api.say("shut out")
    assert until(lambda: len(api.texts()) == 4)
    assert CODE.search(api.texts()[3])
    done = gateway.cli("tenants", "restore", "demo")
    assert done.returncode == 0, done.stderr
    api.say("let in again, as the backup has it")
    assert until(lambda: len(api.texts()) == 5), gateway.text
    assert not CODE.search(api.texts()[4])
    api.reach = gateway.url
    declared = gateway.tenants_dir / "demo.yaml"
    declared.write_text(declared.read_text().replace(POLLED, CALLED))
    assert until(lambda: api.webhook), gateway.text
    api.say("by the other way")
    assert until(lambda: len(api.texts()) == 6), gateway.text
    assert gateway.cli("channels", "logout", "telegram", "--tenant", "demo").returncode == 0
    assert not api.webhook
    assert gateway.stop() == 0
    assert TOKEN.partition(":")[2] not in gateway.text
    for path in gateway.state_dir.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_no_message_is_lost_or_asked_twice_over_kill_9(new_gateway: StartGateway, api: BotApi) -> None:
    gateway = with_bot(new_gateway, api, f"{POLLED}, dm_policy: open")
    chance = random.Random(SEED)  # noqa: S311 - moments to kill at
    said = 0
    for _ in range(KILLS):
        for sender in (1, 2):
            said += 1
            api.say(f"run: echo number-{said}; sleep 0.1", sender=sender)
        time.sleep(chance.random())
        gateway.kill()
        gateway.start()
    assert until(lambda: len(api.texts(1)) >= KILLS and len(api.texts(2)) >= KILLS), (api.sent, gateway.text)
    assert until(lambda: not waiting(gateway))
    for sender in (1, 2):
        asked = questions(gateway, sender)
        assert len(asked) == len(set(asked)) == KILLS, asked
        # A piece that was on its way when the gateway died may be there twice, and is the very same text then.
        answers = [text for index, text in enumerate(api.texts(sender)) if text not in api.texts(sender)[:index]]
        assert len(api.texts(sender)) - len(answers) <= KILLS
        assert len(api.texts(sender)) >= KILLS


def waiting(gateway: GatewayProcess) -> bool:
    """Whether a session still runs: the newest message of each is its agent's, where none does."""
    sessions = gateway.rpc("sessions.list")["sessions"]
    previews = gateway.rpc("sessions.preview", {"keys": [s["sessionId"] for s in sessions], "limit": 1})["previews"]
    return any(one["items"][-1]["role"] != "assistant" for one in previews if one["items"])


def questions(gateway: GatewayProcess, sender: int) -> list[str]:
    """What the agent was asked in the chat of ``sender``, each as often as it is in a transcript."""
    found = []
    for path in sorted((gateway.state_dir / "tenants" / "demo" / "sessions").glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        if lines[0].get("key") == f"telegram/main/dm/{sender}":
            found += [
                line["content"][0]["text"]
                for line in lines
                if line["type"] == "message" and line["role"] == "user" and line["content"][0]["type"] == "text"
            ]
    return found
