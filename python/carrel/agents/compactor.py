"""Has a history summarised, metered as every call is, and writes the summary into the transcript."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from carrel.agents.candidates import Candidate
from carrel.agents.compaction import KEPT_SHARE, excerpt, request_for_summary, room, split, tokens_of
from carrel.agents.entries import CompactionEntry, ModelCallEntry
from carrel.agents.history import Said
from carrel.agents.model_calls import Ask, CallEnd, ModelCalls
from carrel.agents.session import OpenSession
from carrel.agents.sizes import text_of
from carrel.agents.streams import closing
from carrel.declare.rate_card import TokenCounts
from carrel.errors import UpstreamError
from carrel.ids import RequestId
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.conversation import ModelRequest

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Whose session is to be made room in, and who may be asked for a summary."""

    session: OpenSession
    tenant: Tenant
    snapshot: Snapshot
    candidates: Sequence[Candidate]
    request_id: RequestId


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did. ``model`` wrote the summary, None where it is an excerpt."""

    messages: int
    tokens_before: int
    model: str | None
    usage: TokenCounts


class Compactor:
    """Makes room in sessions."""

    def __init__(self, calls: ModelCalls) -> None:
        self._calls = calls

    async def compact(self, place: Place) -> Compacted | None:
        """Fold up all but the newest of the session; None where there is nothing to fold.

        Raises QuotaExceeded. A model that fails does not stand in the way: an excerpt does instead.
        """
        session = place.session
        said = session.history()
        first = place.candidates[0].config
        most = room(first.context_window, min(first.max_output, first.context_window // 2)) // KEPT_SHARE
        parts = split(said, most=most)
        if parts is None:
            return None
        summary, usage, model = await self._summary(place, parts.old)
        before = tokens_of([item.message for item in said])
        await session.append(
            CompactionEntry(
                summary=summary or excerpt(parts.old), keep_from=parts.keep_from, tokens_before=before, model=model
            )
        )
        return Compacted(len(parts.old), before, model, usage)

    async def _summary(self, place: Place, old: Sequence[Said]) -> tuple[str, TokenCounts, str | None]:
        """The summary (empty where no model wrote one), what asking for it used, and who wrote it."""
        session = place.session
        ends: list[CallEnd] = []

        async def accepted() -> None:
            return

        async def ended(end: CallEnd) -> None:
            ends.append(end)
            await session.append(call_entry(end, request_id=place.request_id, purpose="compaction"))

        def request(candidate: Candidate) -> ModelRequest:
            config = candidate.config
            return request_for_summary(
                old, model=candidate.upstream, context_window=config.context_window, max_output=config.max_output
            )

        ask = Ask(
            tenant=place.tenant,
            snapshot=place.snapshot,
            request_id=place.request_id,
            session_id=session.id,
            agent=session.header.agent,
            candidates=place.candidates,
            request=request,
            accepted=accepted,
            ended=ended,
        )
        try:
            async with closing(self._calls.stream(ask)) as events:
                async for _ in events:
                    continue
        except UpstreamError as error:
            _log.warning("no summary could be had", tenant=place.tenant.id, session=session.id, error=error.message)
        usage = sum((end.usage for end in ends), TokenCounts())
        last = next((end for end in reversed(ends) if end.outcome == "ok"), None)
        text = text_of(last.message).strip() if last is not None and last.message is not None else ""
        return text, usage, last.candidate.name if last is not None and text else None


def call_entry(end: CallEnd, *, request_id: RequestId, purpose: Literal["turn", "compaction"]) -> ModelCallEntry:
    """The transcript's line on a call."""
    finished = end.finished
    return ModelCallEntry(
        request_id=request_id,
        purpose=purpose,
        model=end.candidate.name,
        provider=end.candidate.config.provider,
        outcome=end.outcome,
        stop=finished.stop if finished is not None else None,
        usage=end.usage,
        estimated=end.estimated,
        provider_request_id=finished.provider_request_id if finished is not None else None,
        seconds=round(end.seconds, 3),
    )
