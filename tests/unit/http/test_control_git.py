"""The control plane of what is declared over time."""

from typing import Any

import aiohttp

from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge, bearer, running_edge, token_of
from tests.fakes.gitops import FakeGit, FakeHistory


async def ask(
    edge: Edge, client: aiohttp.ClientSession, method: str, path: str, body: Any = None, *, key: str = ADMIN_KEY,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:  # fmt: skip
    told = headers if headers is not None else bearer(key)
    async with client.request(method, edge.url + path, headers=told, json=body) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_history_differences_and_the_way_back(tmp_path: Any, client: aiohttp.ClientSession) -> None:
    history = FakeHistory()
    async with running_edge(tmp_path, history=history) as edge:
        _, found = await ask(edge, client, "GET", "/v1/history?limit=1")
        assert [c["subject"] for c in found["commits"]] == ["Suspend acme"]
        assert len((await ask(edge, client, "GET", "/v1/history?tenant=bravo"))[1]["commits"]) == 0
        for query in ("limit=0", "limit=1001", "limit=x", "tenant=../x"):
            assert (await ask(edge, client, "GET", f"/v1/history?{query}"))[0] == 400, query
        assert (await ask(edge, client, "GET", "/v1/diff?old=aaaa"))[1]["cut"] is True
        assert (await ask(edge, client, "GET", "/v1/diff"))[0] == 400
        assert (await ask(edge, client, "GET", "/v1/diff?old=zzz"))[0] == 404
        _, done = await ask(edge, client, "POST", "/v1/rollback", {"revision": "aaaa"})
        assert (done["commit"], done["files"]) == ("c" * 40, ["acme.yaml"])
        assert history.rolled_back == [("aaaa", "ak_ops")]
        assert (await ask(edge, client, "POST", "/v1/rollback", {"revision": ""}))[0] == 400


async def test_who_may_only_look_changes_nothing(tmp_path: Any, client: aiohttp.ClientSession) -> None:
    git, history = FakeGit(), FakeHistory()
    async with running_edge(tmp_path, git=git, history=history) as edge:
        for key in (READER_KEY, token_of("acme")):
            for path, body in (("rollback", {"revision": "aaaa"}), ("git/take", None), ("git/pull", {})):
                assert (await ask(edge, client, "POST", f"/v1/{path}", body, key=key))[0] in (401, 403), path
        assert (await ask(edge, client, "GET", "/v1/history", key=READER_KEY))[0] == 200
        assert (await ask(edge, client, "GET", "/v1/history", key=token_of("acme")))[0] in (401, 403)
        assert (history.rolled_back, git.accepted) == ([], [])


async def test_take_pull_and_what_status_tells(tmp_path: Any, client: aiohttp.ClientSession) -> None:
    git = FakeGit()
    async with running_edge(tmp_path, git=git) as edge:
        assert (await ask(edge, client, "POST", "/v1/git/take"))[1]["by"] == "git:alice"
        assert (await ask(edge, client, "POST", "/v1/git/pull", {}))[1]["state"] == "Diverged"
        assert (await ask(edge, client, "POST", "/v1/git/pull", {"accept": "a" * 40}))[1]["state"] == "Ready"
        assert (await ask(edge, client, "POST", "/v1/git/pull", {"accept": "short"}))[0] == 400
        assert git.accepted == [None, "a" * 40]
        assert (await ask(edge, client, "GET", "/v1/status"))[1]["git"]["mode"] == "push"


async def test_a_webhook_proves_itself_and_needs_no_key(tmp_path: Any, client: aiohttp.ClientSession) -> None:
    git = FakeGit()
    async with running_edge(tmp_path, git=git) as edge:
        assert (await ask(edge, client, "POST", "/v1/git/nudge", {}, headers={"X-Gitlab-Token": "wrong"}))[0] == 401
        assert (await ask(edge, client, "POST", "/v1/git/nudge", {}, headers={"X-Gitlab-Token": "right"}))[0] == 202
        assert git.nudges == 1


async def test_where_there_is_no_git_it_says_so(edge: Edge, client: aiohttp.ClientSession) -> None:
    for method, path in (("POST", "git/take"), ("POST", "git/nudge"), ("GET", "history")):
        assert (await ask(edge, client, method, f"/v1/{path}"))[0] == 404, path
