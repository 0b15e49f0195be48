"""A sandbox that only waits: it is whole before anybody is sent in, and ends with whoever holds it."""

import asyncio
import os

import pytest

from carrel.ids import TenantId
from carrel.sandbox.asleep import Log, entering, put_to_sleep
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.patience import eventually, soon
from tests.fakes.sandboxed import shell


async def test_it_waits_and_ends_when_it_is_given_up(runner: BwrapSandbox, tenant: Tenant) -> None:
    root = tenant.root.directory("sandbox")
    try:
        made = await put_to_sleep(runner._link, runner._start_worker, tenant.id, shell("never run"), root)
    finally:
        root.close()
    assert not made.ending.done()
    made.close()
    assert (await soon(asyncio.shield(made.ending))).exit_code is not None
    made.close()


async def test_the_log_keeps_the_last_of_what_is_written() -> None:
    log = Log()
    reading, writing = os.pipe()
    log.take([reading])
    os.write(writing, b"one ")
    os.write(writing, b"two")
    os.close(writing)
    await eventually(lambda: log.text() == b"one two")
    log.close()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_order_names_what_the_launcher_needs(terminal: bool) -> None:
    job = shell("true", wall_seconds=5.0)
    order = entering(TenantId("acme"), job, gate=None, terminal=terminal)
    assert order["argv"] == job.argv
    assert (order["wall_seconds"], order["terminal"], order["filters"]) == (5.0, terminal, [])
