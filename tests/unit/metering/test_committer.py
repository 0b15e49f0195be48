import asyncio

from carrel.metering.committer import Committer
from tests.fakes.patience import soon


async def test_groups_are_synced_in_order_and_told_of_on_the_loop() -> None:
    synced: list[int] = []
    committer = Committer(synced.append)
    loop = asyncio.get_running_loop()
    told: list[object] = []
    last = loop.create_future()
    committer.commit([1, 2], told.append)
    committer.commit([3], last.set_result)
    assert await soon(last) is None
    assert synced == [1, 2, 3]
    assert told == [None]
    committer.close()
    committer.close()


async def test_an_error_is_handed_over_and_the_next_group_goes_on() -> None:
    def sync(fd: int) -> None:
        if fd == 1:
            raise OSError(28, "full")

    committer = Committer(sync)
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    committer.commit([1], first.set_result)
    committer.commit([2], second.set_result)
    assert isinstance(await soon(first), OSError)
    assert await soon(second) is None
    committer.close()


def test_one_that_was_never_used_closes() -> None:
    Committer(lambda fd: None).close()
