"""Accounts through the whole gateway: linked by a browser, used by what runs in a sandbox, and never had by it."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.gateway_process import REPOSITORY, GatewayProcess
from tests.fakes.oauth_vendor import SECRET, declared
from tests.fakes.patience import until
from tests.fakes.person import Person, Shown
from tests.system.test_egress import ADDRESS, ASK, Host, roots, run, running_host

host = pytest.fixture(scope="module")(running_host)


class Vendor:
    """A vendor as a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def turn(self, **knobs: Any) -> None:
        request = urllib.request.Request(
            f"{self.url}/knobs", json.dumps(knobs).encode(), {"Content-Type": "application/json"}
        )  # fmt: skip
        urllib.request.urlopen(request, timeout=60).close()

    def told(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/log", timeout=60) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer

    @property
    def grant(self) -> dict[str, Any]:
        """What was granted last."""
        grant: dict[str, Any] = self.told()["grants"][-1]
        return grant


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.oauth_vendor"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'python'}"},
    )  # fmt: skip
    assert process.stdout is not None
    yield Vendor(process.stdout.readline().strip())
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, host: Host, vendor: Vendor) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(home=tmp_path_factory.mktemp("connections") / "home").prepare()
    roots(gateway, host)
    gateway.env["CARREL_SECRET_VENDOR_SECRET"] = SECRET
    where = f"{ADDRESS}:{host.port}"
    provider = declared(vendor.url, allow=[{"hosts": [where]}])
    file = gateway.tenants_dir / "_gateway.yaml"
    file.write_text(f"{file.read_text()}\noauth_providers: {json.dumps({'vendor': provider})}\n")
    egress = {"allow": [where], "inject": [{"connection": "vendor", "env": "VENDOR_TOKEN"}]}
    file = gateway.tenants_dir / "demo.yaml"
    file.write_text(f"{file.read_text()}\negress: {json.dumps(egress)}\n")
    yield gateway.start()
    assert gateway.stop() == 0, gateway.text


def through(url: str) -> Shown:
    """What a person is shown at last."""

    async def walk() -> Shown:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            return await Person(client).through(url)

    return asyncio.run(walk())


def link(gateway: GatewayProcess) -> None:
    made = gateway.cli("connections", "link", "vendor", "--tenant", "demo")
    assert made.returncode == 0, made.stderr
    shown = through(made.stdout.strip())
    assert (shown.status, "connected as octocat" in shown.text) == (200, True), shown.text


def found_in(gateway: GatewayProcess, value: str) -> str:
    done = subprocess.run(
        ["grep", "-r", "-l", value, str(gateway.home)], capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.stdout


USE = f'{ASK} -H "Authorization: Bearer $VENDOR_TOKEN" '


def test_S5_01_an_account_is_used_and_its_token_never_had(served: GatewayProcess, host: Host, vendor: Vendor) -> None:
    told = run(served, USE + host.url)
    assert "connections.link" in told, "nobody has linked it: the refusal says how"
    link(served)
    told = run(served, f"{USE}{host.url}/used; echo; env; cat /proc/*/environ")
    access, refresh = vendor.grant["access"][0], vendor.grant["refresh"][0]
    assert host.requests[-1]["headers"]["Authorization"] == f"Bearer {access}"
    assert "carrel_secret_" in told
    told += run(served, f'{ASK} -H "X-Other: $VENDOR_TOKEN" {host.url}/other')
    assert "placeholder_misplaced" in told
    for value in (access, refresh, SECRET):
        assert value not in told
        assert value not in served.text
        assert found_in(served, value) == ""
    assert "octocat" in served.cli("connections", "list", "--tenant", "demo").stdout
    audit = served.cli("audit", "tail", "--json").stdout
    for action in ("connections.link", "connections.begin", "connections.linked"):
        assert f'"{action}"' in audit
    # Removed, the sandbox has nothing, and neither has who had read the token.
    assert "taken its token back" in served.cli("connections", "remove", "vendor", "--tenant", "demo").stdout
    assert vendor.grant["over"] is True
    assert "connection_unusable" in run(served, USE + host.url)


def test_a_token_that_ends_is_renewed_on_its_way(served: GatewayProcess, host: Host, vendor: Vendor) -> None:
    vendor.turn(expires_in=60)
    link(served)
    vendor.turn(expires_in=3600)
    for _ in range(2):
        run(served, f"{USE}{host.url}/renewed")
        assert host.requests[-1]["headers"]["Authorization"] == f"Bearer {vendor.grant['access'][1]}"
    assert len(vendor.grant["access"]) == 2


def test_a_kill_while_the_vendor_answers_loses_nothing_that_is_good(
    served: GatewayProcess, host: Host, vendor: Vendor
) -> None:
    for grace in (True, False):
        vendor.turn(expires_in=60, token_delay=0, grace=grace)
        link(served)
        vendor.turn(expires_in=3600, token_delay=600)
        waiting = threading.Thread(target=lambda: run_until_killed(served, f"{USE}{host.url}/cut"))
        waiting.start()
        # The vendor has given a new refresh token, and its answer is on its way.
        assert until(lambda: len(vendor.grant["refresh"]) == 2)
        served.kill()
        waiting.join(60)
        vendor.turn(token_delay=0)
        served.start()
        told = run(served, f"{USE}{host.url}/after", "after")
        listed = served.cli("connections", "list", "--tenant", "demo", "--json").stdout
        if grace:
            # As most vendors have it: the token before is good until the new one is used.
            assert host.requests[-1]["headers"]["Authorization"] == f"Bearer {vendor.grant['access'][-1]}"
            assert '"state": "ok"' in listed
    # Where it was taken back, nobody can know more than this, and whoever looks is told what happened.
    assert "the answer to an earlier renewal never arrived here" in told
    assert '"state": "needs_relink"' in listed
    link(served)
    run(served, f"{USE}{host.url}/again", "again")
    assert host.requests[-1]["headers"]["Authorization"] == f"Bearer {vendor.grant['access'][0]}"


def run_until_killed(gateway: GatewayProcess, command: str) -> None:
    try:
        run(gateway, command, "cut")
    except (OSError, AssertionError):
        return
