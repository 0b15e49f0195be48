"""What tests of the real runner run it with."""

from collections.abc import AsyncIterator, Iterator

import pytest

from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.sandboxed import LAUNCH_UID, reachable, workspace_tenant


@pytest.fixture
async def runner() -> AsyncIterator[BwrapSandbox]:
    made = BwrapSandbox(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    with reachable() as path:
        made = workspace_tenant(path)
        yield made
        made.root.close()
