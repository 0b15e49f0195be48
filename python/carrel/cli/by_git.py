"""What `carrel doctor` looks at that git has: the work tree of what is declared,and what takes pushes."""

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from carrel.cli.client import understand
from carrel.cli.findings import Finding, some
from carrel.wire.revisions import GitStanding


def history(directory: Path, uid: int) -> Finding:
    """Whether changes of what is declared are kept by git, and ``uid`` may make them."""
    if shutil.which("git") is None:
        return Finding(
            "git", "warning", "It is missing, so changes of what is declared are not committed.",
            "Install the package `git`.",
        )  # fmt: skip
    real = directory.resolve()
    top = next((place for place in (real, *real.parents) if os.path.lexists(place / ".git")), None)
    if top is None:
        return Finding(
            "git", "warning", f"{directory} is in no git work tree, so nobody can see who changed what, or go back.",
            f"git -C {directory} init",
        )  # fmt: skip
    owner = top.stat().st_uid
    if uid not in (0, owner):
        return Finding(
            "git", "warning", f"{top} belongs to uid {owner}, so git refuses to work there for you (uid {uid}).",
            f"git config --global --add safe.directory {top}. The gateway itself needs no such thing.",
        )  # fmt: skip
    changed = _uncommitted(directory) if uid == owner else []
    if changed:
        text = f"{some(changed)}: changes that are in no commit."
        return Finding("git", "warning", text, f"git -C {directory} commit -a, or git -C {directory} restore .")
    closed = [str(place) for place in (directory, top / ".git") if not os.access(place, os.R_OK | os.W_OK)]
    if closed:
        text = f"{' and '.join(closed)} cannot be written by this user, so it can commit no change."
        return Finding("git", "warning", text, "Give its owner the right to write, or run the gateway as who has it.")
    return Finding("git", "ok", f"Changes are committed in {top}.")


def _uncommitted(directory: Path) -> list[str]:
    """Files of the declarations that differ from the last commit; none where git does not say."""
    # Nothing that the repository itself configures is run.
    words = ["git", "-C", str(directory), "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    try:
        done = subprocess.run(
            [*words, "status", "--porcelain", "--no-renames", "--", "."], capture_output=True, text=True, check=False,
            timeout=20, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line[3:] for line in done.stdout.splitlines()]


def followed(answer: object) -> Iterator[Finding]:
    """Whether what is in git is in force, as the gateway's ``answer`` for its status tells it."""
    if not isinstance(answer, dict) or not isinstance(answer.get("git"), dict):
        return
    told = understand(GitStanding, answer["git"])
    if told.refused is not None:
        text = f"{told.refused[:12]} is not taken: {told.reason}"
        yield Finding("revision", "fault", text, "Push a commit that mends it; carrel diff shows what is in force.")
    if told.pull is None:
        return
    if told.pull in ("Ready", "Waiting"):
        yield Finding("pull", "ok", f"{told.url}: {told.message}.")
    else:
        text = f"{told.url} ({told.pull}): {told.message}"
        yield Finding("pull", "fault", text, "carrel git pull looks now, and says how that ended.")


def push(state: Path, shell: Callable[[int], tuple[str, str]] | None = None) -> Iterator[Finding]:
    """Whether a push can come in, where a repository takes them. ``shell`` tells a uid's name and login shell."""
    home = state / "git"
    if not os.access(home, os.R_OK | os.X_OK):
        return
    try:
        owner = home.stat().st_uid
        name, program = (shell or _account)(owner)
        hook = (home / "hooks" / "pre-receive").read_text(encoding="utf-8")
    except (OSError, KeyError) as error:
        yield Finding("push", "fault", f"{home} is not as `carrel git init` makes it: {error}.", "carrel git init")
        return
    words = shlex.split(hook.splitlines()[-1]) if hook else []
    asked = words[1] if len(words) > 1 else ""
    if not os.access(asked, os.X_OK):
        text = f"Its hooks start {asked or 'nothing'}, which is not there: every push is refused."
        yield Finding("push", "fault", text, "carrel git init writes them anew.")
    elif not os.access(program, os.X_OK) or Path(program).name in ("nologin", "false"):
        text = f"The account {name} has the shell {program or 'none'}, so SSH runs nothing for it."
        yield Finding("push", "fault", text, f"usermod -s /bin/sh {name}: those keys can only push.")
    else:
        yield Finding("push", "ok", f"The account {name} takes pushes by SSH.")


def _account(uid: int) -> tuple[str, str]:
    found = pwd.getpwuid(uid)
    return found.pw_name, found.pw_shell
