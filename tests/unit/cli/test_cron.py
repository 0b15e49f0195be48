"""`carrel cron`."""

from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def test_a_job_from_its_beginning_to_its_end(carrel: CommandLine, edge: Edge) -> None:
    tenant = ("--tenant", "acme")
    assert "has no job" in (await carrel("cron", "list", *tenant)).err
    made = await carrel("cron", "add", "digest", "hello", "--cron", "0 9 * * *", "--tz", "Europe/Vienna", *tenant)
    assert "0 9 * * * (Europe/Vienna), next " in made.out
    job = made.out.partition(":")[0]
    assert (await carrel("cron", "list", *tenant)).out.splitlines()[1].startswith(job)
    changed = await carrel("cron", "update", job, "--every", "600", "--disable", *tenant)
    assert (changed.code, f"{job}: every 600 s" in changed.out, "turned off" in changed.out) == (0, True, True)
    assert (await carrel("cron", "update", job, "--enable", *tenant, "--json")).json()["enabled"] is True
    assert (await carrel("cron", "update", job, *tenant)).code == 2
    assert (await carrel("cron", "update", job, "--at", "x", "--every", "60", *tenant)).code == 2
    done = await carrel("cron", "run", job, *tenant)
    assert (done.code, done.out) == (0, "You said: hello\n")
    assert "ok" in (await carrel("cron", "runs", job, *tenant)).out
    assert (await carrel("cron", "runs", *tenant, "--json")).json()["runs"][0]["jobId"] == job
    assert "is gone" in (await carrel("cron", "remove", job, *tenant)).out
    assert (await carrel("cron", "remove", job, *tenant)).code == 1


async def test_a_time_is_said_in_one_way(carrel: CommandLine, edge: Edge) -> None:
    tenant = ("--tenant", "acme")
    assert (await carrel("cron", "add", "x", "hello", *tenant)).code == 2
    assert (await carrel("cron", "add", "x", "hello", "--every", "60", "--tz", "UTC", *tenant)).code == 2
    assert "every 60 s" in (await carrel("cron", "add", "x", "hello", "--every", "60", *tenant)).out
    assert "at 2040" in (await carrel("cron", "add", "x", "hello", "--at", "2040-01-01T00:00:00Z", *tenant)).out
    assert (await carrel("cron", "add", "x", "hello", "--every", "60", *tenant, "--json")).json()["enabled"] is True
    assert (await carrel("cron", "list", *tenant, "--json")).json()["jobs"]
