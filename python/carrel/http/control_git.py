"""The control plane of what is declared over time: history, differences, ways back, pushes and pulls."""

from typing import Final

from aiohttp import web

from carrel.errors import InvalidRequest, NotFound
from carrel.http.control_tenants import reply
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, limit_in
from carrel.http.routes import Query, Route
from carrel.http.services import Git, History
from carrel.http.slices import document
from carrel.ids import parse_tenant_id
from carrel.wire import revisions

MAX_COMMITS: Final = 10_000
"""So far back commits are listed."""
MAX_HOOK_BYTES: Final = 1 << 20


async def show_history(exchange: Exchange) -> web.StreamResponse:
    """The commits that made what is declared."""
    query = exchange.request.query
    tenant, after, limit = query.get("tenant"), query.get("cursor"), limit_in(exchange)
    named = parse_tenant_id(tenant) if tenant is not None else None
    if after is None:
        found = await _history(exchange).list(named, limit=limit + 1)
        commits = found.commits
    else:
        found = await _history(exchange).list(named, limit=MAX_COMMITS)
        names = [one.revision for one in found.commits]
        if after not in names:
            raise InvalidRequest("That cursor is none of ours: leave it out to begin anew.", param="cursor")
        commits = found.commits[names.index(after) + 1 :]
    more = commits[limit - 1].revision if len(commits) > limit else None
    return reply(found.model_copy(update={"commits": commits[:limit], "next": more}))


async def show_diff(exchange: Exchange) -> web.StreamResponse:
    """What differs between two revisions."""
    query = exchange.request.query
    if "old" not in query:
        raise InvalidRequest("`old` names the revision to look from.", param="old")
    return reply(await _history(exchange).diff(query["old"], query.get("new")))


async def roll_back_declared(exchange: Exchange) -> web.StreamResponse:
    """Back to a revision, by a new commit."""
    order = await exchange.model(revisions.RollbackOrder)
    work = _history(exchange).roll_back(order.revision, by=exchange.actor)
    return reply(await exchange.finish(work, name="roll back declarations"))


async def take(exchange: Exchange) -> web.StreamResponse:
    """Bring what was pushed into force now."""
    taken = await exchange.finish(_git(exchange).take(by=exchange.actor), name="take revision")
    return await document({"revision": taken.revision, "by": taken.by, "plan": taken.plan})


async def pull(exchange: Exchange) -> web.StreamResponse:
    """Look at the remote branch now."""
    order = await exchange.model(revisions.PullOrder)
    return reply(await exchange.finish(_git(exchange).pull(order, by=exchange.actor), name="pull"))


async def nudge(exchange: Exchange) -> web.StreamResponse:
    """A forge says that its branch has moved."""
    _git(exchange).nudge(exchange.request.headers, await exchange.body(limit=MAX_HOOK_BYTES))
    return web.Response(status=202)


def _history(exchange: Exchange) -> History:
    if exchange.services.history is None:
        raise NotFound("No history is kept here.")
    return exchange.services.history


def _git(exchange: Exchange) -> Git:
    if exchange.services.git is None:
        raise NotFound("This gateway follows a plain directory: it was started without --git.")
    return exchange.services.git


_LISTED: Final = (
    Query("tenant", "Commits that changed this tenant alone."),
    *PAGING,
)
_COMPARED: Final = (
    Query("old", "The revision to look from."),
    Query("new", "The revision to look at; what is there now where it is left out."),
)

ROUTES: Final = (
    Route("GET", "/v1/history", show_history, "gateway:read", "Commits of what is declared.",
          result=revisions.HistoryList, query=_LISTED),
    Route("GET", "/v1/diff", show_diff, "gateway:read", "What differs between two revisions.",
          result=revisions.DeclaredDiff, query=_COMPARED),
    Route("POST", "/v1/rollback", roll_back_declared, "gateway:write", "Go back to a revision, by a new commit.",
          body=revisions.RollbackOrder, result=revisions.DeclaredRollback),
    Route("POST", "/v1/git/take", take, "gateway:write", "Bring what was pushed into force now.",
          result=revisions.RevisionTaken),
    Route("POST", "/v1/git/pull", pull, "gateway:write", "Look at the remote branch now.",
          body=revisions.PullOrder, result=revisions.PullAnswer),
    Route("POST", "/v1/git/nudge", nudge, "public", "A signed webhook: look at the remote branch soon.", status=202),
)  # fmt: skip
