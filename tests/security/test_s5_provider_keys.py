"""Security 5: a provider's key reaches its provider and shows nowhere else."""

import traceback
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from pathlib import Path

import pytest
import structlog

from carrel.clock import SystemClock
from carrel.declare.base import SecretRef
from carrel.declare.gateway import ProviderConfig
from carrel.errors import UpstreamError
from carrel.providers.registry import Providers
from carrel.secrets import SecretStore
from carrel.telemetry import configure_logging
from carrel.wire.conversation import Message, ModelRequest, Text
from tests.fakes.tenants import make_snapshot, make_tenant
from tests.fakes.vendor import FakeVendor, Script

CANARY = "canary.key.that.matches.no.pattern"


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    async with FakeVendor() as vendor:
        yield vendor


@pytest.fixture
def log() -> Iterator[StringIO]:
    written = StringIO()
    configure_logging(level="debug", stream=written)
    yield written
    structlog.reset_defaults()


async def call(kind: str, vendor: FakeVendor, path: Path) -> str:
    """What a call with the canary as its key leaves behind: the whole traceback of its error, or nothing."""
    url = vendor.url if kind == "anthropic" else vendor.openai_url
    config = ProviderConfig.model_validate(
        {"kind": kind, "base_url": url, "api_key": SecretRef(secret="KEY"), "max_retries": 1}
    )
    store = SecretStore(credentials_dir=None, secrets_dir=None, environ={"CARREL_SECRET_KEY": CANARY})
    providers = Providers(secrets=store, clock=SystemClock())
    provider = providers.get(make_snapshot(providers={"p": config}), make_tenant(path), "p")
    try:
        _ = [event async for event in provider.stream(ModelRequest("m", (Message("user", (Text("hi"),)),)))]
    except UpstreamError as error:
        return f"{error.message} {error.details} {''.join(traceback.format_exception(error))} {providers!r}"
    finally:
        await providers.close()
    return ""


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
@pytest.mark.parametrize(
    "script",
    [
        Script(status=401, error=f"The key {CANARY} is wrong."),
        Script(status=500, error=CANARY),
        Script(error_at=0, error=f"Bad {CANARY}"),
        Script(error_at=4, error=f"Bad {CANARY}"),
        Script(drop=True),
    ],
)
async def test_S5_03_a_key_is_in_no_error_and_no_log(
    kind: str, script: Script, vendor: FakeVendor, tmp_path: Path, log: StringIO
) -> None:
    vendor.script("m", script)
    left = await call(kind, vendor, tmp_path)
    assert left
    assert CANARY not in left
    assert CANARY not in log.getvalue()


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_S5_03_a_key_reaches_its_provider(kind: str, vendor: FakeVendor, tmp_path: Path) -> None:
    assert await call(kind, vendor, tmp_path) == ""
    assert vendor.last.headers["authorization"] == f"Bearer {CANARY}"
