"""Texts turned into vectors by a model of the tenant's, over the relay: allowed, reserved and metered like any call."""

import json
from collections.abc import Sequence

from carrel.errors import CarrelError, UpstreamError
from carrel.http.services import DirectRelay
from carrel.ids import RequestId
from carrel.relay.answer import CallerGone
from carrel.relay.collected import Collected
from carrel.relay.dialects.embeddings import EmbeddingsFields
from carrel.tenancy.handle import Snapshot, Tenant


class Embedder:
    """See `memory.service.Embeds`."""

    def __init__(self, relay: DirectRelay) -> None:
        self._relay = relay

    async def __call__(
        self, tenant: Tenant, snapshot: Snapshot, model: str, texts: Sequence[str], /, *, request_id: RequestId
    ) -> Sequence[Sequence[float]]:
        if model not in snapshot.gateway.models:
            raise CarrelError(f"There is no model {model!r} to embed with.")
        body = json.dumps({"model": model, "input": list(texts), "encoding_format": "float"}).encode()
        caller = Collected()
        try:
            answer = await self._relay.pass_on(
                caller, tenant, snapshot, request_id, body, fields=EmbeddingsFields.read(body)
            )
        except CallerGone:
            raise UpstreamError("The vectors were more than can be taken.") from None
        if answer.status != 200:
            raise UpstreamError(f"The model {model!r} answered {answer.status}.", status=answer.status)
        return vectors_in(caller.body, len(texts))


def vectors_in(body: bytes, count: int) -> Sequence[Sequence[float]]:
    """The vectors of an answer in OpenAI's form, in the order of the texts; raises UpstreamError."""
    try:
        rows = sorted(json.loads(body)["data"], key=lambda row: int(row["index"]))
        vectors = [[float(number) for number in row["embedding"]] for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise UpstreamError("The model gave no vectors in OpenAI's form.") from error
    if len(vectors) != count or len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
        raise UpstreamError("The model gave other vectors than were asked for.")
    return vectors
