"""`cron.*`."""

from typing import Any

import pytest

from carrel.schedule.service import Schedule as Service
from tests.unit.http.rpc.conftest import Rpc

DAILY = {"kind": "cron", "expr": "0 9 * * *", "tz": "Europe/Vienna"}


def job(name: str = "digest", **more: Any) -> dict[str, Any]:
    return {"name": name, "message": "hello", "schedule": DAILY, **more}


async def test_a_job_is_kept_changed_run_and_removed(rpc: Rpc) -> None:
    made = await rpc("cron.add", job())
    assert (made["schedule"], made["enabled"], made["running"]) == (DAILY, True, False)
    assert made["nextRunAt"] > made["createdAt"]
    assert [one["jobId"] for one in (await rpc("cron.list"))["jobs"]] == [made["jobId"]]
    changed = await rpc("cron.update", {"jobId": made["jobId"], "name": "other", "enabled": False})
    assert (changed["name"], changed["message"], "nextRunAt" in changed) == ("other", "hello", False)
    assert (await rpc("cron.list", {"includeDisabled": False}))["jobs"] == []
    run = await rpc("cron.run", {"jobId": made["jobId"], "wait": True})
    assert (run["status"], run["text"]) == ("ok", "You said: hello")
    (kept,) = (await rpc("cron.runs", {"jobId": made["jobId"]}))["runs"]
    assert {"ok": True, "ran": True, **kept} == run
    assert (await rpc("sessions.preview", {"keys": [run["sessionId"]]}))["previews"][0]["status"] == "ok"
    assert (await rpc("cron.status"))["jobs"] == 1
    assert (await rpc("cron.remove", {"jobId": made["jobId"]}))["ok"] is True
    assert (await rpc("cron.remove", {"jobId": made["jobId"]}))["data"]["code"] == "not_found"


async def test_a_job_is_added_once_for_a_key(rpc: Rpc) -> None:
    first, second = [await rpc("cron.add", job(idempotencyKey="k")) for _ in range(2)]
    assert first == second
    assert (await rpc("cron.status"))["jobs"] == 1


@pytest.mark.parametrize(
    "schedule",
    [
        {"kind": "cron"},
        {"kind": "cron", "expr": "x"},
        {"kind": "cron", "expr": "* * * * *", "tz": "Mars"},
        {"kind": "at", "at": "tomorrow"},
        {"kind": "at", "at": "2020-01-01T00:00:00Z"},
        {"kind": "at", "at": "2040-01-01T00:00:00"},
        {"kind": "every"},
        {"kind": "every", "everySeconds": 1},
        {"kind": "every", "everySeconds": 60, "expr": "* * * * *"},
    ],
)
async def test_a_time_that_never_comes_is_refused(rpc: Rpc, schedule: dict[str, Any]) -> None:
    error = await rpc("cron.add", job(schedule=schedule))
    assert error["data"]["code"] == "invalid_request", error
    assert error["data"]["path"].startswith("schedule")
    assert (await rpc("cron.list"))["jobs"] == []


async def test_a_job_that_is_refused_was_never_kept(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept and taken away again, it would stay for ever where the gateway dies in between."""
    kept: list[Any] = []
    put = Service.put

    async def noted(self: Service, *given: Any, **named: Any) -> Any:
        kept.append(given)
        return await put(self, *given, **named)

    monkeypatch.setattr(Service, "put", noted)
    past = {"kind": "at", "at": "2020-01-01T00:00:00Z"}
    assert "past" in (await rpc("cron.add", job(schedule=past)))["message"]
    assert kept == []
    assert "jobId" in await rpc("cron.add", job(schedule=past, enabled=False))
    assert len(kept) == 1


async def test_jobs_are_listed_page_by_page_and_are_the_tenants_own(rpc: Rpc) -> None:
    for name in ("c", "a", "b"):
        await rpc("cron.add", job(name, schedule={"kind": "every", "everySeconds": 3600}))
    first = await rpc("cron.list", {"limit": 2})
    second = await rpc("cron.list", {"limit": 2, "cursor": first["next"]})
    assert [one["name"] for one in (*first["jobs"], *second["jobs"])] == ["a", "b", "c"]
    assert (await rpc("cron.list", tenant="bravo"))["jobs"] == []
    theirs = await rpc("cron.run", {"jobId": first["jobs"][0]["jobId"]}, tenant="bravo")
    assert theirs == await rpc("cron.run", {"jobId": "job_nobodys"}, tenant="bravo") | {"data": theirs["data"]}
    assert (await rpc("cron.add", job(agentId="nobody")))["data"]["code"] == "model_not_found"
