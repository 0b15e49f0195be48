"""Tries again, later each time, what a store could not do just then; and tells its own write from another's."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from carrel.objects.pace import Pace
from carrel.objects.protocol import (
    ObjectChanged,
    ObjectDamaged,
    ObjectInfo,
    ObjectMissing,
    ObjectStore,
    StoreUnavailable,
)

T = TypeVar("T")
ATTEMPTS: Final = 7
FIRST_SECONDS: Final = 0.4
MOST_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long: ``attempts`` in all, the wait doubling from ``first`` to ``most`` seconds, jittered."""

    attempts: int = ATTEMPTS
    first: float = FIRST_SECONDS
    most: float = MOST_SECONDS

    def wait(self, state: RetryCallState) -> float:
        """Seconds before the next try."""
        full = min(self.most, self.first * 2.0 ** (state.attempt_number - 1))
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads tries, keeps no secret


def tried(work: Callable[[], T], *, pace: Pace, patience: Patience) -> T:
    """What ``work`` gives, tried again where the store could not do it just then."""
    pace.check()
    tries = Retrying(
        retry=retry_if_exception_type(StoreUnavailable),
        stop=stop_after_attempt(patience.attempts),
        wait=patience.wait,
        sleep=pace.sleep,
        reraise=True,
    )
    return tries(work)


class PatientStore:
    """``store`` with patience, throttled by ``pace``.

    Before the first conditional write it is found out whether conditions hold there. ``proven`` are the names of stores
    of which that is known, to which ``name``, this one's, is added then.
    """

    def __init__(
        self, store: ObjectStore, *, pace: Pace, patience: Patience | None = None, name: str = "",
        proven: set[str] | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._name = name
        self._proven = proven if proven is not None else set()
        self._pace = pace
        self._patience = patience or Patience()

    @property
    def conditional(self) -> bool:
        """See `ObjectStore`."""
        return self._store.conditional

    def require_conditions(self) -> None:
        """See `ObjectStore`."""
        if self._name not in self._proven:
            self._tried(self._store.require_conditions)
            self._proven.add(self._name)

    def get(self, key: str, *, most: int) -> tuple[bytes, str]:
        """See `ObjectStore`."""

        def work() -> tuple[bytes, str]:
            found = self._store.get(key, most=most)
            self._pace.spend(len(found[0]))
            return found

        return self._tried(work)

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        """See `ObjectStore`. Where an answer was lost, a write that was done all the same is found to be ours."""
        if absent or replaces is not None:
            self.require_conditions()
        unsure = False

        def work() -> str:
            nonlocal unsure
            self._pace.spend(len(data))
            try:
                return self._store.put(key, data, replaces=replaces, absent=absent)
            except StoreUnavailable:
                unsure = True
                raise
            except ObjectChanged:
                mine = self._mine(key, data) if unsure else None
                if mine is None:
                    raise
                return mine

        return self._tried(work)

    def _mine(self, key: str, data: bytes) -> str | None:
        try:
            found, tag = self._store.get(key, most=len(data) + 1)
        except (ObjectMissing, ObjectDamaged):
            # Gone, or larger: another's.
            return None
        return tag if found == data else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`. A listing that breaks is begun anew: it is given out once it is whole."""
        return iter(self._tried(lambda: [*self._store.list(prefix)]))

    def folders(self) -> Iterator[str]:
        """See `ObjectStore`."""
        return iter(self._tried(lambda: [*self._store.folders()]))

    def delete(self, keys: Sequence[str]) -> None:
        """See `ObjectStore`."""
        self._tried(lambda: self._store.delete(keys))

    def close(self) -> None:
        """See `ObjectStore`."""
        self._store.close()

    def _tried(self, work: Callable[[], T]) -> T:
        return tried(work, pace=self._pace, patience=self._patience)
