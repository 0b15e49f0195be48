"""The corner of the state directory that git has: where each thing is, and the making of it."""

import asyncio
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.durability import make_directory, sync_directory
from carrel.errors import CarrelError, NotFound
from carrel.vcs.bare import Bare
from carrel.vcs.keys import Keys
from carrel.vcs.settings import GitSettings, load_settings

HOOKS: Final = ("pre-receive", "post-receive")
DEFAULT: Final = (
    "# Whether tenants.d is pushed to this host or pulled from elsewhere: see docs/howto/push.md.\npush: {}\n"
)


@dataclass(frozen=True, slots=True)
class GitHome:
    """``state``/git. ``program`` is the `carrel` that hooks and forced commands start."""

    state: Path
    program: str

    @property
    def path(self) -> Path:
        """All of it."""
        return self.state / "git"

    @property
    def repository(self) -> Path:
        """The bare repository."""
        return self.path / "tenants.git"

    @property
    def settings_file(self) -> Path:
        """The settings in force, which hooks read too."""
        return self.path / "settings.yaml"

    @property
    def mark_file(self) -> Path:
        """The last commit that was pulled: what is older is not taken again."""
        return self.path / "mark.json"

    def keys(self) -> Keys:
        """Who may push."""
        return Keys(self.path / "authorized_keys", program=self.program, state=self.state)

    def settings(self) -> GitSettings:
        """The settings in force; raises NotFound before they were made."""
        if not self.settings_file.exists():
            raise NotFound(f"There is no repository in {self.state}: `carrel git init` makes it.")
        return load_settings(self.settings_file)

    def bare(self, settings: GitSettings) -> Bare:
        """The repository by its settings."""
        return Bare(self.repository, branch=settings.hosted.branch)

    async def make(self, settings_from: Path | None = None) -> GitSettings:
        """Make what is missing, with the settings of a file where it is named.

        Raises DeclarationInvalid where they are wrong, CarrelError where the state cannot be written.
        """
        settings = await asyncio.to_thread(self._lay_out, settings_from)
        await self.bare(settings).init(receives=settings.hosted.max_transfer_bytes)
        return settings

    def _lay_out(self, settings_from: Path | None) -> GitSettings:
        given = load_settings(settings_from) if settings_from is not None else None
        try:
            make_directory(self.path)
            if settings_from is not None:
                _replace(self.settings_file, settings_from.read_bytes(), 0o600)
            elif not self.settings_file.exists():
                _replace(self.settings_file, DEFAULT.encode(), 0o600)
            settings = given or self.settings()
            make_directory(self.path / "hooks")
            for name in HOOKS:
                _replace(self.path / "hooks" / name, self._hook(name).encode(), 0o700)
            seconds = settings.push.wait_seconds if settings.push is not None else 0
            _replace(self.path / "wait.json", json.dumps({"seconds": seconds}).encode(), 0o600)
            self.keys().renew()
        except OSError as error:
            raise CarrelError(f"{self.path} cannot be written: {error.strerror}.") from error
        return settings

    def _hook(self, name: str) -> str:
        words = shlex.join([self.program, "git", "hook", name, "--state-dir", str(self.state)])
        return f"#!/bin/sh\nexec {words}\n"


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Put ``data`` at ``path`` at once, unless it is there already."""
    try:
        if path.read_bytes() == data:
            return
    except OSError:
        pass
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)
