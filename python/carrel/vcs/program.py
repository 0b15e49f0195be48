"""The git program on a bare repository of our own: one environment, one set of switches, bounded output.

Nothing that a repository or a home says is run or believed: no hooks, no configuration but the repository's own, no
replacement objects, no transport that was not asked for. Inside a hook git's own quarantine is passed on.
"""

import asyncio
import errno
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final, cast

from carrel import processes
from carrel.errors import CarrelError, TooLarge, lacking
from carrel.priority import step_back

SECONDS: Final = 60.0
HARDENED: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.editor=false",
    "core.alternateRefsCommand=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "gpg.program=false",
    "gpg.x509.program=false",
)
_QUARANTINE: Final = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH")
_PIECE: Final = 1 << 16
_OF_THE_MACHINE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Git says these in its own words' end, which `environment` keeps in English."""


class GitFailed(CarrelError):
    """Git refused or could not be started. What was declared is in the files all the same."""

    code = "git_failed"


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What git is started with: of this process only the path to programs and, inside a hook, the quarantine."""
    kept = {name: os.environ[name] for name in ("PATH", "TZ", *_QUARANTINE) if name in os.environ}
    return {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        **kept,
        **(more or {}),
    }


def command(repository: Path, words: tuple[str, ...], settings: tuple[str, ...] = ()) -> list[str]:
    """The arguments that run ``words`` on ``repository``; ``settings`` go over what is hardened."""
    told = (f"safe.directory={repository}", *HARDENED, *settings)
    return ["git", "--no-pager", *(w for s in told for w in ("-c", s)), f"--git-dir={repository}", *words]


async def run(
    repository: Path,
    *words: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    settings: tuple[str, ...] = (),
    seconds: float = SECONDS,
    limits: Mapping[int, int] | None = None,
) -> processes.Completed:
    """Git's answer, whatever its status; raises ProcessFailed where it cannot start or is over its time."""
    return await processes.run(
        command(repository, words, settings),
        env=environment(env), timeout=seconds, stdin=stdin, cwd="/", limits=limits, behind=True,
    )  # fmt: skip


async def output(
    repository: Path, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None,
    settings: tuple[str, ...] = (), seconds: float = SECONDS,
) -> bytes:  # fmt: skip
    """What git printed; raises GitFailed where it did not succeed."""
    answer = await run(repository, *words, stdin=stdin, env=env, settings=settings, seconds=seconds)
    if answer.returncode:
        raise failure(words[0], answer)
    return answer.stdout


async def capped(repository: Path, *words: str, limit: int, seconds: float = SECONDS) -> bytes:
    """As `output`, for an answer as long as another's objects make it; raises TooLarge beyond ``limit`` bytes."""
    return await asyncio.to_thread(_capped, command(repository, words), limit, seconds)


def _capped(argv: list[str], limit: int, seconds: float) -> bytes:
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), cwd="/",
        start_new_session=True,
    )  # fmt: skip
    step_back(process.pid)
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    data = bytearray()
    try:
        with cast("IO[bytes]", process.stdout) as stdout:
            while piece := stdout.read(_PIECE):
                data += piece
                if len(data) > limit:
                    process.kill()
                    raise TooLarge("git's answer is longer than anything that is taken here.")
    finally:
        status = process.wait()
        timer.cancel()
        timer.join()
    if status:
        raise GitFailed("git could not list what is in the commit, or took too long for it.")
    return bytes(data)


def failure(verb: str, answer: processes.Completed) -> CarrelError:
    """What it means that ``git verb`` ended badly: GitFailed, or what the machine lacks, as `errors.lacking` says."""
    told = tail(answer)
    for number in _OF_THE_MACHINE:
        reason = os.strerror(number)
        meant = lacking(OSError(number, reason), f"git {verb} left all as it was") if reason in told else None
        if meant is not None:
            return meant
    return GitFailed(f"git {verb} failed: {told}")


def tail(answer: processes.Completed) -> str:
    """The end of what git complained of."""
    return answer.stderr.decode("utf-8", "replace").strip()[-500:] or f"status {answer.returncode}"


def serving(repository: Path, hooks: Path, verb: str, name: str) -> tuple[list[str], dict[str, str]]:
    """The command and environment that serve ``verb`` to whoever has ``name``'s key, within the repository's limits."""
    settings = (
        f"safe.directory={repository}",
        f"core.hooksPath={hooks}",
        "core.fsmonitor=false",
        "core.alternateRefsCommand=false",
        "receive.fsckObjects=true",
        "transfer.fsckObjects=true",
        "receive.denyDeletes=true",
        "receive.denyNonFastForwards=true",
    )
    argv = ["git", *(word for setting in settings for word in ("-c", setting)), verb, str(repository)]
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", f"git:{name}"), ("EMAIL", f"git:{name}"))
    }
    return argv, environment(who)
