"""Embeddings over the relay."""

import json
from pathlib import Path
from typing import Any

import pytest

from carrel.errors import CarrelError, UpstreamError
from carrel.ids import RequestId
from carrel.main.embeddings import Embedder, vectors_in
from carrel.relay.answer import Answer, Caller
from tests.fakes.tenants import make_snapshot, make_tenant


class Relay:
    """Answers as a vendor would."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[Any] = []

    async def pass_on(self, caller: Caller, *_: object, fields: object) -> Answer:
        body = json.loads(_[-1])  # type: ignore[arg-type] # the body
        self.bodies.append(body)
        rows = [{"index": n, "embedding": [float(n), 1]} for n in range(len(body["input"]))]
        said = json.dumps({"data": rows[::-1]}).encode()
        answer = Answer(caller, status=self.status, content_type="application/json", request_id=RequestId("r"))
        answer.begin()
        await answer.send(said[:5])
        answer.finish(said[5:])
        return answer


async def test_vectors_come_in_the_order_of_the_texts(tmp_path: Path) -> None:
    tenant, relay = make_tenant(tmp_path), Relay()
    embedder: Any = Embedder(relay)  # type: ignore[arg-type] # only what is called
    vectors = await embedder(tenant, make_snapshot(tenant), "demo", ["a", "b"], request_id=RequestId("r"))
    assert vectors == [[0.0, 1.0], [1.0, 1.0]]
    assert relay.bodies[0] == {"model": "demo", "input": ["a", "b"], "encoding_format": "float"}


async def test_a_model_that_is_not_there_or_fails_is_told(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    embedder: Any = Embedder(Relay(500))  # type: ignore[arg-type] # only what is called
    for model in ("nothing", "demo"):
        with pytest.raises(CarrelError):
            await embedder(tenant, make_snapshot(tenant), model, ["a"], request_id=RequestId("r"))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"data": [{"index": 0, "embedding": []}]}', b'{"data": [{"index": 0, "embedding": ["x"]}]}']
)
def test_what_are_no_vectors_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        vectors_in(body, 1)
