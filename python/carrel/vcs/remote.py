"""The remote branch that is followed: fetched under limits, and every commit that is new looked at for its signature.

Credentials come from the secrets, and go to git by a file of ours or its environment, never by its arguments.
"""

import asyncio
import base64
import os
import pwd
import resource
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from carrel import processes
from carrel.errors import CarrelError
from carrel.secrets import SecretStore
from carrel.vcs import program
from carrel.vcs.bare import SHA, Bare
from carrel.vcs.program import GitFailed, tail
from carrel.vcs.settings import PullSettings

FETCHED: Final = "refs/carrel/fetched"
_SECONDS_A_SIGNATURE: Final = 0.5
_GOOD: Final = "G"
_UNCLEAR: Final = "has no signature that can be judged"


class Unreachable(GitFailed):
    """The remote did not give its branch: it is tried again."""

    code = "remote_unreachable"
    retryable = True


class Remote:
    """The branch of ``settings``, fetched into ``repository``. ``scratch`` is a private directory for a key in use."""

    def __init__(self, repository: Bare, settings: PullSettings, secrets: SecretStore, scratch: Path) -> None:
        self._repository = repository
        self._settings = settings
        self._secrets = secrets
        self._scratch = scratch

    async def fetch(self) -> str:
        """The commit that the remote branch is at, with all that led to it brought here; raises Unreachable."""
        settings = self._settings
        if settings.scheme == "ssh":
            await asyncio.to_thread(_require_name)
        with self._credentials(await asyncio.to_thread(self._secret)) as env:
            try:
                answer = await program.run(
                    self._repository.path,
                    "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
                    "--no-auto-maintenance", *self._there(), "--end-of-options", settings.url,
                    f"+refs/heads/{settings.branch}:{FETCHED}",
                    env=env, settings=self._switches(), seconds=settings.timeout_seconds,
                    limits={resource.RLIMIT_FSIZE: settings.max_transfer_bytes},
                )  # fmt: skip
            except processes.ProcessFailed as error:
                raise Unreachable(f"{settings.url} cannot be fetched: {error.message}") from error
        if answer.returncode:
            raise Unreachable(f"{settings.url} cannot be fetched: {tail(answer)}")
        sha = (await program.output(self._repository.path, "rev-parse", f"{FETCHED}^{{commit}}")).decode().strip()
        if not SHA.fullmatch(sha):
            raise Unreachable(f"{settings.url} gave no commit for {settings.branch}.")
        return sha

    async def unsigned(self, old: str | None, new: str) -> tuple[str, ...]:
        """What is wrong with the signatures of the commits that ``new`` has and ``old`` has not, merges included."""
        signers = self._settings.allowed_signers
        if signers is None:
            return ()
        await asyncio.to_thread(_require_name)
        if not await asyncio.to_thread(os.access, signers, os.R_OK):
            raise CarrelError(
                f"The allowed signers' file {signers} cannot be read by the gateway (uid {os.geteuid()})."
            )
        span = [new, *([f"^{old}"] if old is not None else [])]
        count = int(await program.output(self._repository.path, "rev-list", "--count", *span))
        data = await program.output(
            self._repository.path, "log", "-z", "--format=%H%x00%G?%x00%an%x00%s", *span, "--",
            settings=(f"gpg.ssh.allowedSignersFile={signers}", "gpg.format=ssh"),
            seconds=60 + count * _SECONDS_A_SIGNATURE,
        )  # fmt: skip
        words = data.decode("utf-8", "replace").split("\0")
        rows = list(zip(*[iter(words)] * 4, strict=False))
        if len(rows) != count:
            raise GitFailed(f"git told of {len(rows)} commits where there are {count}.")
        return tuple(
            f"{sha[:12]} ({subject[:60]!r} by {author[:60]!r}) {_WRONG.get(state, _UNCLEAR)}"
            for sha, state, author, subject in rows
            if state != _GOOD
        )

    def _there(self) -> tuple[str, ...]:
        """A repository on this machine may be another user's: the operator names it, and nothing of it is run."""
        return ("--upload-pack=git -c safe.directory=* upload-pack",) if self._settings.scheme == "file" else ()

    def _switches(self) -> tuple[str, ...]:
        return (
            f"protocol.{self._settings.scheme}.allow=always",
            "fetch.fsckObjects=true",
            "http.followRedirects=false",
            "http.lowSpeedLimit=100",
            "http.lowSpeedTime=30",
            "credential.helper=",
            "fetch.unpackLimit=1",
        )

    def _secret(self) -> str | None:
        named = self._settings.ssh_key if self._settings.scheme == "ssh" else self._settings.token
        return self._secrets.get(named.secret).reveal() if named is not None else None

    @contextmanager
    def _credentials(self, secret: str | None) -> Iterator[Mapping[str, str]]:
        settings = self._settings
        if settings.scheme == "https" and secret is not None:
            word = base64.b64encode(f"{settings.user}:{secret}".encode()).decode()
            yield {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.{settings.url}.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {word}",
            }
            return
        if settings.scheme != "ssh":
            yield {}
            return
        with tempfile.TemporaryDirectory(prefix=".key-", dir=self._scratch) as place:
            words = ["ssh", "-F", os.devnull, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
            words += ["-o", f"UserKnownHostsFile={settings.known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"]
            words += ["-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-o", "ClearAllForwardings=yes"]
            words += ["-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes"]
            if secret is not None:
                key = Path(place, "key")
                with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
                    file.write(f"{secret}\n")
                words += ["-i", str(key)]
            yield {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


def _require_name() -> None:
    """Raises CarrelError where this uid has no name: ssh and ssh-keygen end at once then, and git with them."""
    uid = os.geteuid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise CarrelError(
            f"ssh and ssh-keygen, which git asks, work only for a user that has a name here, and uid {uid} has none: "
            "add a system user `carrel`, as which the gateway then runs, or start it as another user."
        ) from None


_WRONG: Final = {
    "N": "is not signed",
    "U": "is signed by a key that is not among the allowed signers",
    "B": "has a bad signature",
    "X": "is signed by a key whose time is over",
    "Y": "is signed by a key whose time is over",
    "R": "is signed by a key that was taken back",
}
