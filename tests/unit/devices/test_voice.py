"""Wake words."""

from pathlib import Path

import pytest

from carrel.devices.nodes import Nodes
from carrel.devices.voice import DEFAULT, VoiceWake
from carrel.errors import InvalidRequest
from carrel.events.hub import Hub
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant
from tests.unit.devices.test_nodes import Wire


async def test_words_are_kept_and_pushed(tmp_path: Path) -> None:
    clock, tenant, wire = FakeClock(), make_tenant(tmp_path), Wire()
    hub = Hub(clock=clock)
    nodes = Nodes(clock=clock, hub=hub)
    voice = VoiceWake(clock=clock, hub=hub, nodes=nodes)
    nodes.connect(tenant, "dev_1", wire, platform="", version="", capabilities=(), commands=())
    assert (await voice.get(tenant)).triggers == DEFAULT
    assert (await voice.set(tenant, ("hey  you", "hey you", " "))).triggers == ("hey you",)
    assert wire.told == [("voicewake.changed", {"triggers": ["hey you"]})]
    assert (await voice.get(tenant)).updated == clock.now()
    assert (await voice.set(tenant, ())).triggers == DEFAULT
    for wrong in (("x" * 65,), tuple(str(n) for n in range(33)), ("a\0b",)):
        with pytest.raises(InvalidRequest):
            await voice.set(tenant, wrong)
