"""An edge between both vendors' own SDKs and a fake vendor of both dialects: real relay and adapters, a fake meter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anthropic
import openai

from carrel.clock import SystemClock
from carrel.declare.base import SecretRef
from carrel.declare.gateway import ModelConfig, ProviderConfig
from carrel.providers.guard import Guard
from carrel.providers.registry import Providers
from carrel.relay.guarded import GuardedRelay
from carrel.relay.relay import Relay
from carrel.secrets import SecretStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from tests.fakes.edge import Edge, FakeMeter, running_edge, token_of
from tests.fakes.patience import PATIENCE
from tests.fakes.vendor import FakeVendor

KEY = "sk-operator-0123456789"
SIZE: dict[str, Any] = {"context_window": 32_768, "max_output": 4_096, "inputs": ("text", "image")}


@dataclass
class VendorEdge:
    """Everything that runs. Models `gpt-X` are the vendor's `X` in OpenAI's dialect, `claude-X` in Anthropic's."""

    edge: Edge
    vendor: FakeVendor
    gpt: openai.AsyncOpenAI
    claude: anthropic.AsyncAnthropic

    def model(self, name: str, **more: Any) -> str:
        """Declare ``name``, by its prefix."""
        kind, _, upstream = name.partition("-")
        config = ModelConfig(provider=kind, upstream=upstream, **{**SIZE, **more})
        current = self.edge.directory.current
        models = {**current.gateway.models, name: config}
        self.edge.directory.publish(replace(current, gateway=current.gateway.model_copy(update={"models": models})))
        return name

    @property
    def settled(self) -> tuple[Any, str, bool]:
        """How the last call was settled; what is settled stays as it is."""
        return self.edge.meter.reservations[-1].settled[0]

    def providers(self, **more: Any) -> None:
        """Declare both providers, with ``more`` in each."""
        current = self.edge.directory.current
        key = SecretRef(secret="VENDOR")
        made = {
            "gpt": ProviderConfig(
                kind="openai", base_url=self.vendor.openai_url, api_key=key, **{"max_retries": 0, **more}
            ),
            "claude": ProviderConfig(
                kind="anthropic", base_url=self.vendor.url, api_key=key, **{"max_retries": 0, **more}
            ),
        }
        providers = {**current.gateway.providers, **made}
        gateway = current.gateway.model_copy(update={"providers": providers})
        self.edge.directory.publish(replace(current, gateway=gateway))


@asynccontextmanager
async def vendor_edge(state: Path, **overrides: Any) -> AsyncIterator[VendorEdge]:
    """It all, closed at the end."""
    clock, meter, tasks, metrics = SystemClock(), FakeMeter(), Tasks("vendor edge"), Metrics()
    secrets = SecretStore(credentials_dir=None, secrets_dir=None, environ={"CARREL_SECRET_VENDOR": KEY})
    guard = Guard(clock)
    providers = Providers(secrets=secrets, clock=clock, guard=guard)
    relay = Relay(meter=meter, secrets=secrets, clock=clock, tasks=tasks, metrics=metrics)
    try:
        async with (
            FakeVendor() as vendor,
            running_edge(
                state, providers=providers, relay=GuardedRelay(relay, guard), meter=meter, **overrides
            ) as edge,
            openai.AsyncOpenAI(
                base_url=f"{edge.url}/v1", api_key=token_of("acme"), max_retries=0, timeout=PATIENCE
            ) as gpt,
            anthropic.AsyncAnthropic(
                base_url=edge.url, api_key=token_of("acme"), max_retries=0, timeout=PATIENCE
            ) as claude,
        ):
            made = VendorEdge(replace(edge, meter=meter), vendor, gpt, claude)
            made.providers()
            yield made
    finally:
        await relay.close()
        await providers.close()
        await tasks.close()
