"""Responses through the whole gateway: kept over a restart, and what was made when it was killed."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import PATIENCE, until
from tests.system.test_money import report
from tests.system.test_vendor import client, declare
from tests.system.test_vendor import vendor as vendor_fixture

vendor = vendor_fixture


@pytest.fixture
def gateway(tmp_path: Path, vendor: str) -> Iterator[GatewayProcess]:
    made = GatewayProcess(home=tmp_path / "home").prepare()
    declare(made, vendor)
    made.start()
    yield made
    assert made.stop() == 0, made.text


def test_a_gateway_that_is_killed_keeps_what_it_said_and_says_what_it_did_not(gateway: GatewayProcess) -> None:
    with client(gateway) as gpt:
        kept = gpt.responses.create(model="fake-ok", input="hello")
        stream = gpt.responses.create(model="fake-endless", input="hello", background=True, stream=True)
        first = next(iter(stream))
        assert first.type == "response.created"
        assert "fake: closed, 1 calls" in gateway.cli("status").stdout
    gateway.kill()
    gateway.start()
    with client(gateway) as gpt:
        assert gpt.responses.retrieve(kept.id).output_text == "Hello from the fake vendor."
        assert gpt.responses.create(model="fake-thinking", input="and?", previous_response_id=kept.id).output_text
        lost = gpt.responses.retrieve(first.response.id)
        assert (lost.status, lost.background) == ("failed", True)
        assert until(lambda: any(row["model"] == "fake-endless" for row in report(gateway)))
        gpt.responses.delete(kept.id)
        with pytest.raises(openai.NotFoundError):
            gpt.responses.retrieve(kept.id)
    metrics = gateway.request("GET", "/metrics", timeout=PATIENCE).body.decode()
    assert 'carrel_provider_circuit{provider="claude",state="closed"} 1.0' in metrics
