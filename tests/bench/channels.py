"""What a bot costs that nobody writes to, and how long an answer takes: ``python -m tests.bench.channels [--json]``.

Gateways with the same tenants are looked at side by side: without channels, and with a bot each that polls. Then one
bot is written to in one chat, message by message, and in many chats at once. The platform is the fake Bot API of the
tests, in this process; the model is `demo`. What is left is the gateway's: taking in, the turn, the ledger, sending.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.bench.idle_workers import OPERATOR, family, share_kib
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.fakes.telegram import TOKEN, BotApi, running_bot_api

SETTLE_SECONDS: Final = 45.0
"""After that long a gateway has given back what its start used."""
CHANNEL: Final = "channels: {telegram: {kind: telegram, dm_policy: open, accounts: {main: {token: {secret: BOT}}}}}\n"


@dataclass(frozen=True, slots=True)
class Held:
    """What a gateway with its descendants holds when it rests."""

    what: str
    bots: int
    all_kib: int


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds from a message's being there to its answer's being at the platform."""

    what: str
    messages: int
    p50_ms: float
    p99_ms: float
    per_second: float


def started(home: Path, api: BotApi, tenants: int, channel: str) -> GatewayProcess:
    """A gateway with so many tenants."""
    directory = home / "tenants.d"
    directory.mkdir(parents=True)
    base = f"channels: {{telegram: {{base_url: '{api.base_url}'}}}}\n"
    (directory / "_gateway.yaml").write_text(OPERATOR + base)
    (directory / "_rate-card.yaml").write_text("markup: 1.20\nmodels: {demo: {input: 1.00, output: 2.00}}\n")
    for number in range(tenants):
        (directory / f"t{number:05}.yaml").write_text(channel or "display_name: none\n")
    return GatewayProcess(home=home, env={"CARREL_SECRET_BOT": TOKEN}).prepare(sample=False).start(wait=120)


def held(what: str, home: Path, tenants: int, channel: str) -> Held:
    """Start one, let it rest, and look at it. All of its bots are one to the platform, which holds every poll."""
    with running_bot_api(shared=True) as api:
        gateway = started(home, api, tenants, channel)
        try:
            assert gateway.process is not None
            assert not channel or until(lambda: api.polling >= tenants, seconds=120), api.polling
            time.sleep(SETTLE_SECONDS)
            return Held(what, tenants if channel else 0, sum(map(share_kib, family(gateway.process.pid))))
        finally:
            gateway.stop(wait=60)


def one_by_one(api: BotApi, messages: int) -> Took:
    """One chat."""
    took = []
    began = time.perf_counter()
    for number in range(messages):
        asked = time.perf_counter()
        api.say("hello")
        assert until(lambda due=number: len(api.sent) > due, pause=0.0005)  # type: ignore[misc] # a default that binds
        took.append(time.perf_counter() - asked)
    return figures("one chat, one by one", took, time.perf_counter() - began)


def many_at_once(api: BotApi, chats: int) -> Took:
    """As many chats, each with a message, all there at one time."""
    api.sent.clear()
    began = time.perf_counter()
    for sender in range(1000, 1000 + chats):
        api.say("hello", sender=sender)
    assert until(lambda: len(api.sent) >= chats, seconds=300)
    took = [one["at"] - began for one in api.sent]
    return figures(f"{chats} chats at once", took, max(took))


def figures(what: str, took: Sequence[float], whole: float) -> Took:
    """A row."""
    late = sorted(took)[int(len(took) * 0.99)]
    return Took(
        what, len(took), round(statistics.median(took) * 1000, 1), round(late * 1000, 1), round(len(took) / whole, 1)
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bots", type=int, default=500)
    parser.add_argument("--messages", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        home.chmod(0o755)
        rows: list[Held | Took] = [
            held("no channel", home / "none", chosen.bots, ""),
            held("a bot each, polling", home / "bots", chosen.bots, CHANNEL),
        ]
        with running_bot_api() as api:
            gateway = started(home / "talk", api, 1, CHANNEL)
            try:
                rows += [one_by_one(api, chosen.messages), many_at_once(api, chosen.messages)]
            finally:
                gateway.stop(wait=60)
    for row in rows:
        sys.stdout.write((json.dumps(asdict(row)) if chosen.json else str(row)) + "\n")


if __name__ == "__main__":
    main()
