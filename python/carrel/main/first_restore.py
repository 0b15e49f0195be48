"""A machine that begins with nothing: whoever is declared first is brought back before that is in force.

`carrel restore` gives the order at boot, by a file in the state directory, and carries it out where it can: where
tenants are declared already. Where they are pushed, nobody is declared yet; then it stays, and the first revision that
declares somebody waits for it.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from carrel.backup.boot import Brought
from carrel.backup.keyfile import Keys
from carrel.backup.target import Secrets
from carrel.errors import CarrelError, Unavailable
from carrel.ids import TenantId
from carrel.main.bringing_back import Backups, Recorder, declared_in, noted_in

BEGUN: Final = ".restoring"
"""In the state directory while a first restore has begun and not ended."""
_log = structlog.get_logger(__name__)


class Order(BaseModel):
    """What the file says: where the backups are, None for where it is declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    place: str | None = None


def begin(state_dir: Path, place: str | None) -> None:
    """Give the order; raises CarrelError where it cannot be written."""
    try:
        (state_dir / BEGUN).write_text(Order(place=place).model_dump_json())
    except OSError as error:
        raise CarrelError(f"{state_dir / BEGUN} cannot be written: {error.strerror}.") from error


def begun(state_dir: Path) -> Order | None:
    """The order, where one was given and is not carried out."""
    try:
        text = (state_dir / BEGUN).read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CarrelError(f"{state_dir / BEGUN} cannot be read: {error.strerror}.") from error
    try:
        return Order.model_validate_json(text or "{}")
    except ValidationError as error:
        raise CarrelError(
            f"{state_dir / BEGUN} does not say where backups are: run `carrel restore` again, or remove it to begin "
            "without them."
        ) from error


def carried_out(state_dir: Path) -> None:
    """The order is done with."""
    (state_dir / BEGUN).unlink(missing_ok=True)


class Tokens(Protocol):
    """Who is let in."""

    def reload(self, tenant: TenantId) -> None:
        """Read a tenant's tokens anew."""
        ...


class FirstRestore:
    """Called with each revision before it comes into force. ``here`` says whose tenants are this gateway's."""

    def __init__(
        self, state_dir: Path, here: Callable[[TenantId], bool] | None, *, secrets: Secrets, keys: Keys,
        tokens: Tokens, audit: Recorder,
    ) -> None:  # fmt: skip
        self._state_dir = state_dir
        self._secrets = secrets
        self._keys = keys
        self._tokens = tokens
        self._audit = audit
        self._here = here

    async def __call__(self, directory: Path) -> None:
        """Carry the order out, if there is one, for all whom ``directory`` declares.

        Raises Unavailable where somebody could not be brought back: that revision waits, and is tried again. Those who
        were brought back stay so, and who has no backup begins anew.
        """
        order = await asyncio.to_thread(begun, self._state_dir)
        if order is None:
            return
        done, others = await asyncio.to_thread(self._bring, directory, order, asyncio.get_running_loop())
        if not done:
            return
        for one in done:
            if one.outcome == "restored":
                await asyncio.to_thread(self._tokens.reload, one.tenant)
        failed = [one for one in done if one.outcome == "failed"]
        if failed:
            more = f" So it is with {len(failed) - 1} more." if len(failed) > 1 else ""
            raise Unavailable(
                f"This machine begins with what was backed up, and {failed[0].tenant} could not be brought back: "
                f"{failed[0].text}{more}"
            )
        if others:
            _log.warning("there are backups of tenants that are not declared", tenants=others[:20])
        await asyncio.to_thread(carried_out, self._state_dir)

    def _bring(self, directory: Path, order: Order, loop: asyncio.AbstractEventLoop) -> tuple[list[Brought], list[str]]:
        noted = noted_in(self._audit, loop, after="before it is first in force", uid=os.getuid())
        operators, known = declared_in(directory)
        tenants = [tenant for tenant in known if self._here is None or self._here(tenant)]
        if not tenants:
            return [], []
        return Backups(self._state_dir, self._secrets, self._keys, order.place).bring(
            operators, tenants, told=_told, noted=noted, known=known
        )


def _told(brought: Brought) -> None:
    say = _log.error if brought.outcome == "failed" else _log.info
    say("first restore", tenant=brought.tenant, outcome=brought.outcome, backup=brought.backup, reason=brought.text)
