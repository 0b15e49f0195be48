"""The registry, loaded at the first call of a method: it is megabytes of models, and chat alone does without."""

import asyncio
from typing import Final

from carrel.http.rpc.registry import Registry


class LateMethods:
    """All methods. Loading them is done in a thread, so that no stream waits for it."""

    def __init__(self) -> None:
        self._registry: Registry | None = None

    async def registry(self) -> Registry:
        """Every room's methods. Of two first callers both wait until they are all there."""
        if self._registry is None:
            self._registry = await asyncio.to_thread(_load)
        return self._registry


def _load() -> Registry:
    from carrel.http.rpc.methods import REGISTRY  # noqa: PLC0415 - see the module's docstring

    return REGISTRY


METHODS: Final = LateMethods()
"""Those of this gateway."""
