"""The hub: numbers, who hears what, and going on where one stopped."""

import json
from pathlib import Path

import pytest

from carrel.events.hub import KEPT, KEPT_SECONDS, Event, Hub, Subscription
from carrel.tenancy.handle import Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def acme(tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path)


class Ear:
    """Remembers the numbers and kinds that it heard."""

    def __init__(self, *kinds: str, own: str | None = None) -> None:
        self.heard: list[tuple[int, str]] = []
        self.subscription = Subscription(own, kinds, self._hear)

    def _hear(self, event: Event) -> None:
        self.heard.append((event.seq, event.kind))


def test_events_are_numbered_and_kept_for_who_comes_back(clock: FakeClock, acme: Tenant) -> None:
    hub, first, second = Hub(clock=clock), Ear(), Ear()
    assert hub.subscribe(acme, first.subscription).seq == 0
    for _ in range(3):
        hub.publish(acme, "session.text", {"text": "x"})
    hub.leave(acme, first.subscription)
    hub.publish(acme, "session.text", {"text": "missed"})
    resumed = hub.subscribe(acme, second.subscription, epoch=hub.epoch, after=2)
    assert (resumed.seq, resumed.missed) == (4, False)
    assert [seq for seq, _ in second.heard] == [3, 4]
    assert [seq for seq, _ in first.heard] == [1, 2, 3]


def test_another_epoch_or_too_old_a_place_is_told(clock: FakeClock, acme: Tenant) -> None:
    hub, ear = Hub(clock=clock), Ear()
    hub.subscribe(acme, ear.subscription)
    for _ in range(KEPT + 10):
        hub.publish(acme, "a", {})
    assert hub.subscribe(acme, Ear().subscription, epoch=hub.epoch, after=3).missed
    assert hub.subscribe(acme, Ear().subscription, epoch="0" * 16, after=KEPT + 10).missed
    assert hub.subscribe(acme, Ear().subscription, epoch=hub.epoch, after=10**9).missed
    assert not hub.subscribe(acme, Ear().subscription, epoch=hub.epoch, after=10).missed


def test_nothing_is_kept_where_nobody_listened_for_long(clock: FakeClock, acme: Tenant) -> None:
    hub, ear = Hub(clock=clock), Ear()
    assert hub.publish(acme, "a", {}) == 1
    assert hub.subscribe(acme, ear.subscription, epoch=hub.epoch, after=0).missed
    hub.leave(acme, ear.subscription)
    clock.advance(KEPT_SECONDS + 1)
    hub.publish(acme, "a", {})
    assert hub.subscribe(acme, Ear().subscription, epoch=hub.epoch, after=1).missed


def test_kinds_and_members_narrow_what_is_heard(clock: FakeClock, acme: Tenant, tmp_path: Path) -> None:
    hub, bravo = Hub(clock=clock), make_tenant(tmp_path, "bravo")
    ears = {"all": Ear(), "cron": Ear("cron"), "ann": Ear(own="ann"), "bob": Ear(own="bob")}
    for ear in ears.values():
        hub.subscribe(acme, ear.subscription)
    hub.publish(acme, "cron.finished", {})
    hub.publish(acme, "cronies", {})
    hub.publish(acme, "session.text", {}, own="ann")
    hub.publish(bravo, "cron.finished", {})
    assert {name: [seq for seq, _ in ear.heard] for name, ear in ears.items()} == {
        "all": [1, 2], "cron": [1], "ann": [1, 2, 3], "bob": [1, 2],
    }  # fmt: skip
    assert len(hub.listeners(acme)) == 4
    assert not hub.listeners(bravo)


def test_an_event_is_a_notification(clock: FakeClock, acme: Tenant) -> None:
    hub, texts = Hub(clock=clock), []
    hub.subscribe(acme, Subscription(None, (), lambda event: texts.append(event.text)))
    hub.publish(acme, "config.changed", {"revision": "r"})
    assert json.loads(texts[0]) == {
        "jsonrpc": "2.0", "method": "event",
        "params": {"seq": 1, "event": "config.changed", "ts": 1772366400000, "payload": {"revision": "r"}},
    }  # fmt: skip
