"""What all gates share: rules that follow what is declared, caps, and an audit log that nobody can fill."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from carrel.egress.front import Front
from carrel.egress.service import CERTIFICATES, CONNECTIONS, LINES_A_MINUTE, VISITORS
from carrel.egress.visitor import Visitor
from carrel.ids import SessionId
from carrel.policy.egress.rules import Asked, Rule, rule_of
from carrel.tenancy.handle import Tenant
from tests.fakes.egress import EgressHouse, curl, egress_house
from tests.fakes.patience import eventually
from tests.unit.policy.egress.test_rules import asked


async def test_the_environment_names_the_proxy_the_certificates_and_the_placeholders(house: EgressHouse) -> None:
    house.declare({"inject": [
        {"secret": "GH", "env": "GITHUB_TOKEN", "hosts": ["api.github.com"], "header": "X", "prefix": "ghp_"},
        {"secret": "O", "env": "OTHER", "hosts": ["o.com"], "header": "X", "agents": ["other"]},
    ]})  # fmt: skip
    env = house.gate().env
    assert env["HTTPS_PROXY"] == env["https_proxy"] == env["ALL_PROXY"]
    assert env["HTTPS_PROXY"].endswith("@127.0.0.1:3128")
    assert env["GITHUB_TOKEN"].startswith("ghp_carrel_secret_")
    assert "OTHER" not in env
    assert "OTHER" in house.gate("other").env
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"):
        assert env[name] == f"/etc/{CERTIFICATES}"


async def test_the_bundle_has_the_tenants_own_root_among_the_public_ones(house: EgressHouse) -> None:
    bundle = house.gate().files[CERTIFICATES]
    assert house.egress.authority(house.tenant.id).certificate in bundle
    assert len(ssl.create_default_context(cadata=bundle.decode()).get_ca_certs()) > 10


async def test_S4_06_each_gate_has_a_password_of_its_own(house: EgressHouse) -> None:
    one, two = house.gate(), house.gate()
    given = one.env["HTTPS_PROXY"].split(":")[2].split("@")[0]
    assert one.seat(given) is one
    assert two.seat(given) is None
    assert one.seat("") is None


async def test_what_is_declared_now_is_in_force_for_gates_that_are_open(house: EgressHouse) -> None:
    gate = house.gate()
    assert not gate.decide(asked("a.com:443")).allowed
    house.declare({"allow": ["a.com"]})
    assert gate.decide(asked("a.com:443")).allowed
    house.declare({"allow": ["a.com"], "deny": ["a.com"]})
    assert not gate.decide(asked("a.com:443")).allowed


async def test_a_flood_of_refusals_is_a_few_lines_and_a_number(house: EgressHouse) -> None:
    gate = house.gate()
    for number in range(200):
        for _ in range(3):
            gate.decide(asked(f"h{number}.com:443"))
    await house.tasks.drain(10)
    assert len(house.audit.lines) == LINES_A_MINUTE


async def test_a_sandbox_opens_so_many_connections_and_no_more(house: EgressHouse) -> None:
    gate = house.gate()
    fronts = [Front(gate) for _ in range(CONNECTIONS + 1)]
    assert all(gate.opened(front) for front in fronts[:-1])
    assert not gate.opened(fronts[-1])
    gate.closed(fronts[0])
    gate.closed(fronts[0])
    assert gate.opened(fronts[-1])


class Granted:
    """Opens one host to one session."""

    def prepare(self, tenant: Tenant, /) -> None:
        return

    def rules(self, visitors: Sequence[Visitor], asked: Asked, /) -> list[Rule]:
        return [rule_of("granted.com")] if all(self.opens(visitor, asked) for visitor in visitors) else []

    def opens(self, visitor: Visitor, asked: Asked, /) -> bool:
        return visitor.session_id == "s_1"


async def test_what_is_granted_is_open_to_who_asked(tmp_path: Path) -> None:
    async with egress_house(tmp_path, grants=Granted()) as house:
        assert house.gate().decide(asked("granted.com:443")).allowed
        assert not house.egress.gate(house.tenant, agent="main").decide(asked("granted.com:443")).allowed


async def test_of_a_gate_that_several_sessions_share_nothing_is_open_that_one_was_granted(tmp_path: Path) -> None:
    async with egress_house(tmp_path, grants=Granted()) as house:
        gate, host = house.gate(), asked("granted.com:443")
        mine, theirs = house.gate(), house.egress.gate(house.tenant, agent="main", session_id=SessionId("s_2"))
        gate.follow(theirs, alone=False)
        assert not gate.decide(host).allowed
        gate.follow(mine, alone=False)
        decision = gate.decide(host)
        assert not decision.allowed
        assert "programs of other sessions run in this kept sandbox" in decision.reason
        gate.follow(theirs, alone=True)
        assert not gate.decide(host).allowed
        gate.follow(mine, alone=True)
        assert gate.decide(host).allowed
        for number in range(VISITORS + 1):
            other = house.egress.gate(house.tenant, agent="main", session_id=SessionId(f"s_1{number}"))
            gate.follow(other, alone=False)
        gate.follow(mine, alone=False)
        assert not gate.decide(host).allowed


async def test_what_each_session_does_in_a_kept_sandbox_is_noted_for_it(house: EgressHouse) -> None:
    """Whoever came last; what an earlier command has left in the background goes on as what it is."""
    gates = {name: house.egress.gate(house.tenant, agent="main", session_id=SessionId(name)) for name in ("s_1", "s_2")}
    first = gates["s_1"]
    serving = urlsplit(await house.serve(first))
    first.follow(first, alone=True)
    first.follow(gates["s_2"], alone=False)
    again = house.egress.gate(house.tenant, agent="main", session_id=SessionId("s_1"))
    first.follow(again, alone=False)
    assert again.env == first.env, "one session has one password, or its background would be cut off"
    assert gates["s_2"].env["HTTPS_PROXY"] != first.env["HTTPS_PROXY"]
    for number, (name, gate) in enumerate(gates.items()):
        password = urlsplit(gate.env["HTTPS_PROXY"]).password
        proxy = f"http://carrel:{password}@127.0.0.1:{serving.port}"
        for way, url in enumerate(("http", "https", "https")):
            asked_for = f"h{number}-{way}.test"
            await curl(proxy, f"{url}://{asked_for}/", ca=house.public.certificate, socks=way == 2)
        await eventually(lambda number=number: len(house.audit.lines) == 3 * (number + 1))  # type: ignore[misc]
        said = {line["after"]["session_id"] for line in house.audit.lines[-3:]}  # type: ignore[index]
        assert said == {name}, house.audit.lines
    first.follow(gates["s_2"], alone=False)
    assert first.seat("x" * 32) is None


@pytest.mark.parametrize("wanted", ["a.com:443"])
async def test_a_tenant_that_is_gone_reaches_nothing(house: EgressHouse, wanted: str) -> None:
    house.declare({"allow": ["a.com"]})
    gate = house.gate()
    assert gate.decide(asked(wanted)).allowed
    from dataclasses import replace  # noqa: PLC0415

    house.directory.publish(replace(house.directory.current, tenants={}))
    assert not gate.decide(asked(wanted)).allowed
    assert gate.bindings() == ()
