"""`config.*`."""

from pathlib import Path

from carrel.declare.base import DeclaredToken
from carrel.http.rpc.config import redacted
from tests.fakes.tenants import make_tenant
from tests.unit.http.rpc.conftest import Rpc


async def test_get_shows_the_effective_configuration(rpc: Rpc) -> None:
    view = await rpc("config.get")
    assert view["valid"] is True
    assert view["config"]["agents"]["main"]["model"] == "demo"
    assert view["hash"] == "0" * 64
    assert "display_name" in view["tenantWritableKeys"]


async def test_the_schema_is_that_of_a_tenants_file(rpc: Rpc) -> None:
    shown = await rpc("config.schema")
    assert "agents" in shown["schema"]["properties"]
    assert shown["version"] == "1.2.3"


def test_digests_are_not_shown(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, tokens=(DeclaredToken(name="ci", sha256="ab" * 32),))
    tenant.root.close()
    shown = redacted(tenant.config)
    assert shown["tokens"][0]["name"] == "ci"
    assert "ab" * 32 not in str(shown)
