"""Linking, listing, using and removing, with a vendor that is strict."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.connections.record import ConnectionUnusable
from carrel.declare.tenant import Member, SandboxConfig
from carrel.errors import Forbidden, InvalidRequest, NotFound
from carrel.wire.oauth import OAuthRefused, OAuthUnclear, Returned, returned
from tests.fakes.connections import HERE, linking
from tests.fakes.oauth_vendor import Knobs


async def test_a_person_links_an_account_and_its_token_is_used(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        text = await house.link(scopes=("read", "write"))
        consent = house.connections.consent("vendor", text)
        assert (consent.shown, consent.link.scopes) == ("Vendor", ("read", "write"))
        url, state, browser = await house.connections.begin("vendor", text, request_id="req_1")
        for part in (f"state={state}", "code_challenge_method=S256", "scope=read+write", "response_type=code"):
            assert part in url
        assert "code_verifier" not in url
        back = await house.allow(url)
        assert back["iss"] == house.vendor.url
        made = await house.connections.finish(returned(back.items()), browser, request_id="req_2")
        assert (made.account, made.scopes, made.state) == ("octocat", ("read", "write"), "ok")
        (one,) = await house.connections.list(house.tenant)
        assert one == made
        token = await house.connections.token(house.tenant, "vendor", provider="vendor")
        assert house.vendor.grants[0].access == [token.reveal()]
        assert house.vendor.grants[0].redirect_uri == f"{HERE}/oauth/callback"
        assert [line for line in house.audit.recorded if line[0].startswith("connections")] == [
            ("connections.begin", "vendor", "ok"), ("connections.linked", "vendor", "ok"),
        ]  # fmt: skip
        assert '"event":"connections.changed"' in house.told[0]
        assert token.reveal() not in house.told[0]


async def test_what_comes_back_is_taken_once_and_from_its_own_browser(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        url, _, browser = await house.connections.begin("vendor", await house.link(), request_id="req_1")
        came = returned((await house.allow(url)).items())
        with pytest.raises(NotFound):
            await house.connections.finish(came, "another browser", request_id="req_2")
        assert house.vendor.grants == []
        both = await asyncio.gather(
            *(house.connections.finish(came, browser, request_id="req_3") for _ in range(2)), return_exceptions=True
        )
        assert [type(one).__name__ for one in both] == ["Connection", "NotFound"]
        assert len(house.vendor.grants) == 1
        assert not house.vendor.grants[0].over


async def test_what_a_vendor_may_do_wrong_links_nothing(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        for knobs, error, said in (
            ({"iss": "https://evil.example"}, OAuthUnclear, "another issuer"),
            ({"iss": ""}, OAuthUnclear, "names no issuer"),
            ({"deny": "access_denied"}, OAuthRefused, "access_denied"),
            ({"answer": {"token_type": "mac"}}, OAuthUnclear, "mac"),
            ({"answer": {"access_token": "with space"}}, OAuthUnclear, "access_token"),
            ({"answer": {"error": "slow"}}, OAuthRefused, "slow"),
        ):
            house.vendor.knobs = Knobs(**knobs)
            url, _, browser = await house.connections.begin("vendor", await house.link(), request_id="req_1")
            with pytest.raises(error, match=said):
                await house.connections.finish(returned((await house.allow(url)).items()), browser, request_id="req_2")
        assert await house.connections.list(house.tenant) == []
        assert house.audit.recorded[-1] == ("connections.linked", "vendor", "failed: oauth_refused")
        # Without an issuer that is declared, one of another host is refused all the same.
        house.declare(issuer=None)
        house.vendor.knobs = Knobs(iss="https://evil.example")
        with pytest.raises(OAuthUnclear):
            await house.linked()
        house.vendor.knobs = Knobs(iss="")
        await house.linked()


async def test_an_id_token_is_of_this_request(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        house.declare(scopes=["openid"], account_url=None)
        house.vendor.knobs.id_nonce = "another"
        with pytest.raises(OAuthUnclear, match="nonce"):
            await house.linked()
        house.vendor.knobs.id_nonce = None
        await house.linked()
        assert [one.account for one in await house.connections.list(house.tenant)] == ["octo@example.com"]


async def test_what_may_be_asked_for(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        with pytest.raises(InvalidRequest, match="'write'"):
            await house.link(scopes=("writ",))
        with pytest.raises(NotFound, match="did you mean vendor"):
            await house.link(provider="vendr")
        config = house.tenant.config.model_copy(update={"oauth_providers": ("other*",)})
        house.tenant = replace(house.tenant, config=config)
        with pytest.raises(NotFound):
            await house.link()


async def test_a_tenant_that_has_changed_meanwhile(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        url, _, browser = await house.connections.begin("vendor", await house.link(), request_id="req_1")
        came = returned((await house.allow(url)).items())
        text = await house.link()
        current = house.directory.current
        house.directory.publish(replace(current, tenants={}))
        with pytest.raises(NotFound):
            house.connections.consent("vendor", text)
        with pytest.raises(NotFound):
            await house.connections.finish(came, browser, request_id="req_2")
        assert house.vendor.grants == []


async def test_removing_revokes_with_the_vendor_and_goes_on_where_it_fails(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        snapshot = house.directory.current
        await house.linked()
        _, revoked = await house.connections.remove(snapshot, house.tenant, "vendor", shared=True)
        assert revoked
        assert house.vendor.grants[0].over
        assert house.vendor.log[-1] == {"path": "/revoke", "hint": "refresh_token"}
        with pytest.raises(NotFound):
            await house.connections.remove(snapshot, house.tenant, "vendor", shared=True)
        with pytest.raises(ConnectionUnusable, match=r"connections\.link"):
            await house.connections.token(house.tenant, "vendor", provider="vendor")
        await house.linked(name="other")
        house.declare(revoke_url="http://127.0.0.1:1/revoke")
        _, revoked = await house.connections.remove(house.directory.current, house.tenant, "other", shared=True)
        assert not revoked
        assert await house.connections.list(house.tenant) == []


async def test_a_member_has_their_own_before_the_tenants(tmp_path: Path) -> None:
    members = (Member(name="ada"), Member(name="bob"))
    async with linking(tmp_path, members=members, sandbox=SandboxConfig(scope="member")) as house:
        ada, bob = house.tenant.as_member("ada"), house.tenant.as_member("bob")
        await house.linked()
        await house.linked(tenant=ada)
        shared, adas = (grant.access[0] for grant in house.vendor.grants)
        for who, token in ((house.tenant, shared), (ada, adas), (bob, shared)):
            assert (await house.connections.token(who, "vendor", provider="vendor")).reveal() == token
        assert [one.member for one in await house.connections.list(ada)] == [None, "ada"]
        assert [one.member for one in await house.connections.list(bob)] == [None]
        snapshot = house.directory.current
        with pytest.raises(Forbidden):
            await house.connections.remove(snapshot, bob, "vendor", shared=False)
        await house.connections.remove(snapshot, ada, "vendor", shared=False)
        assert [one.member for one in await house.connections.list(ada)] == [None]
        # Each is told of their own alone; this listener is nobody in particular.
        assert len(house.told) == 1


async def test_a_connection_with_another_provider_is_not_taken(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        await house.linked(name="work")
        gateway = house.directory.current.gateway
        providers = {**gateway.oauth_providers, "other": gateway.oauth_providers["vendor"]}
        current = house.directory.current
        changed = gateway.model_copy(update={"oauth_providers": providers})
        house.directory.publish(replace(current, gateway=changed))
        with pytest.raises(ConnectionUnusable, match="is with vendor"):
            await house.connections.token(house.tenant, "work", provider="other")


async def test_an_unknown_state_is_nobodys(tmp_path: Path) -> None:
    async with linking(tmp_path) as house:
        with pytest.raises(NotFound):
            await house.connections.finish(Returned("state", "code"), "browser", request_id="req_1")
