"""What adapters over an SDK share: the client is made once and late, and what the SDK raises becomes ours."""

import asyncio
import threading

import httpx2
import openai
import pytest

from carrel.clock import SystemClock
from carrel.declare.gateway import ProviderConfig
from carrel.errors import UpstreamError
from carrel.providers.sdk import SdkProvider
from carrel.secrets import Secret

REQUEST = httpx2.Request("POST", "http://vendor.example/")


class Client:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


class Provider(SdkProvider[Client]):
    """Has a client that is no vendor's."""

    def __init__(self) -> None:
        super().__init__("somebody", ProviderConfig(kind="openai"), key=Secret("sk-ours"), clock=SystemClock())
        self.made_in: list[threading.Thread] = []

    def _make_client(self) -> Client:
        self.made_in.append(threading.current_thread())
        return Client()

    async def ready(self) -> Client:
        """Its client."""
        return await self._ready()

    async def fail(self, error: Exception) -> None:
        """Raise what an SDK raised."""
        with self._failures(openai):
            raise error


async def test_the_client_is_made_once_at_the_first_call_and_not_in_the_loop() -> None:
    provider = Provider()
    await provider.close()
    assert provider.made_in == []
    first, second = await asyncio.gather(provider.ready(), provider.ready())
    assert first is second
    assert len(provider.made_in) == 1
    assert provider.made_in[0] is not threading.main_thread()
    await provider.close()
    assert first.closed == 1


async def test_a_refusal_of_the_vendor_is_ours_without_the_key() -> None:
    response = httpx2.Response(401, request=REQUEST)
    body = {"error": {"message": "no such key: sk-ours"}}
    with pytest.raises(UpstreamError) as raised:
        await Provider().fail(openai.APIStatusError("refused", response=response, body=body))
    assert raised.value.status == 401
    assert "sk-ours" not in str(raised.value)


@pytest.mark.parametrize("error", [openai.APIConnectionError(request=REQUEST), httpx2.ReadError("cut")])
async def test_a_lost_connection_names_the_provider(error: Exception) -> None:
    with pytest.raises(UpstreamError, match="somebody"):
        await Provider().fail(error)


async def test_what_is_nobody_elses_fault_goes_on() -> None:
    with pytest.raises(ZeroDivisionError):
        await Provider().fail(ZeroDivisionError())
