"""What is declared and in no commit is told, and looked for only where something moved."""

from collections.abc import Collection

from carrel.errors import CarrelError, Conflict
from carrel.gitops.uncommitted import Uncommitted
from tests.fakes.clock import FakeClock


class Place:
    def __init__(self) -> None:
        self.moved: object = 1
        self.names: tuple[str, ...] = ("acme.yaml",)
        self.error: CarrelError | None = None
        self.looks = 0

    async def signature(self) -> object:
        return self.moved

    async def uncommitted(self) -> tuple[str, ...]:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.names


class Told:
    def __init__(self) -> None:
        self.heard: list[Collection[str]] = []

    async def see_uncommitted(self, names: Collection[str]) -> None:
        self.heard.append(names)


async def test_what_moved_is_looked_at_once() -> None:
    place, told = Place(), Told()
    looking = Uncommitted(place, told, FakeClock())
    await looking.look()
    await looking.look()
    assert (place.looks, told.heard) == (1, [("acme.yaml",)])
    place.moved = 2
    await looking.look()
    assert (place.looks, told.heard) == (2, [("acme.yaml",)]), "nothing new is no news"
    place.moved, place.names = 3, ()
    await looking.look()
    assert told.heard == [("acme.yaml",), ()]


async def test_without_a_history_there_is_nothing_to_differ_from() -> None:
    place, told = Place(), Told()
    looking = Uncommitted(place, told, FakeClock())
    await looking.look()
    place.moved, place.error = 2, Conflict("no commit yet")
    await looking.look()
    assert told.heard[-1] == ()
    place.moved = None
    await looking.look()
    assert place.looks == 2


async def test_what_cannot_be_seen_is_looked_at_again() -> None:
    place, told = Place(), Told()
    place.error = CarrelError("git is gone")
    looking = Uncommitted(place, told, FakeClock())
    await looking.look()
    place.error = None
    await looking.look()
    assert (place.looks, told.heard) == (2, [("acme.yaml",)])
