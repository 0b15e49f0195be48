"""What sshd and git call at each push: `carrel git serve NAME` and `carrel git hook HOOK`, with ``--state-dir DIR``.

A push runs four of these, and whoever pushed waits for them. So they are told apart before there is a command line, and
each imports what it needs alone. What they print goes to whoever pushes.
"""

import contextlib
import http.client
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from carrel.cli import screen
from carrel.cli.failures import DONE, FAILED, WrongUsage, exit_code
from carrel.durability import sync_filesystem
from carrel.errors import CarrelError, Forbidden
from carrel.priority import step_back

SSH_COMMAND: Final = "CARREL_SSH_COMMAND"
"""What the other side of ssh asked for, kept while root gives itself up."""
MAX_SHOWN: Final = 100
MAX_KEYS: Final = 6
_NAMES: Final = ("tenants", "tenants.git")
_VERBS: Final = {"git-receive-pack": "receive-pack", "git-upload-pack": "upload-pack"}
_MARKS: Final = {
    "create": "+", "resume": "+", "update": "~", "suspend": "-", "remove": "-", "hold": "!", "refuse": "!",
    "broken": "!",
}  # fmt: skip
_LOOK_SECONDS: Final = 0.3
_LONGEST_LOOK_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 120.0

Become = Callable[[Path], None]
"""Given the state directory, go on as the uid whose state it is."""


def answer_call(argv: Sequence[str], become: Become) -> int:
    """Do what ``argv``, the words after `carrel`, ask for; the exit code."""
    try:
        if len(argv) != 5 or argv[1] not in _CALLS or argv[3] != "--state-dir":
            raise WrongUsage(
                "sshd and git call this, as `carrel git serve NAME --state-dir DIR`: see docs/howto/push.md."
            )
        return _CALLS[argv[1]](argv[2], Path(argv[4]), become)
    except CarrelError as error:
        screen.complain(error.message)
        return exit_code(error)


# --- ssh ---


def serve(name: str, state: Path, become: Become) -> int:
    """Serve git to one connection of ssh, by ``name``'s key."""
    from carrel.vcs.program import serving  # noqa: PLC0415 - see the module's docstring

    os.environ.setdefault(SSH_COMMAND, os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    become(state)
    repository = state / "git" / "tenants.git"
    verb = asked_verb(os.environ.get(SSH_COMMAND, ""), repository)
    argv, env = serving(repository, state / "git" / "hooks", verb, name)
    # A push waits for those whose streams run, not they for it. sshd gives each connection a session of its own; where
    # a shell in between has not made way for this process, it takes one.
    with contextlib.suppress(OSError):
        os.setsid()
    step_back()
    os.execvpe(argv[0], argv, env)  # noqa: S606 - git itself, with arguments of our own


def asked_verb(text: str, repository: Path) -> str:
    """The verb of git that ssh was asked for, on this repository; raises Forbidden for all else."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if len(words) == 2 and words[0] in _VERBS and (words[1].lstrip("/") in _NAMES or words[1] == str(repository)):
        return _VERBS[words[0]]
    if not text:
        raise WrongUsage("There is no shell here: this account takes git on tenants.git alone.")
    raise Forbidden("Only git on tenants.git is served here: push to ssh://USER@HOST/tenants.git.")


# --- hooks ---


def hook(name: str, state: Path, become: Become) -> int:
    """Run the hook ``name`` on what git writes to standard input; its exit code, 1 where a push is refused."""
    become(state)
    # By a path on this machine no `serve` came before.
    step_back()
    updates = [tuple(line.split(" ", 2)) for line in sys.stdin.read().splitlines() if line.count(" ") >= 2]
    match name:
        case "pre-receive":
            return judge(state, updates)
        case "post-receive":
            return tell(state) if updates else DONE
    raise WrongUsage("A hook is pre-receive or post-receive.")


def judge(state: Path, updates: Sequence[tuple[str, ...]]) -> int:
    """Judge a push in its quarantine, and say each thing that is wrong with it."""
    import asyncio  # noqa: PLC0415 - see the module's docstring

    from carrel.reconcile.collecting import many_come_in  # noqa: PLC0415 - see the module's docstring
    from carrel.reconcile.parsed import ParsedBefore  # noqa: PLC0415 - see the module's docstring
    from carrel.vcs.home import GitHome  # noqa: PLC0415 - see the module's docstring
    from carrel.vcs.judge import Update, judge_push  # noqa: PLC0415 - see the module's docstring

    home = GitHome(state, sys.argv[0])
    settings = home.settings()
    if settings.pull is not None:
        screen.note(f"refused: what is declared is pulled from {settings.pull.url}, so push there")
        return FAILED
    asked = [Update(*update) for update in updates]
    cache = ParsedBefore.open(state)
    with many_come_in():
        why, verdict = asyncio.run(judge_push(home.bare(settings), asked, settings.hosted, cache))
    for text in why:
        screen.note(f"refused: {text}")
    if why or verdict is None:
        return FAILED
    for problem in verdict.problems[:MAX_SHOWN]:
        screen.note(str(problem))
    if len(verdict.problems) > MAX_SHOWN:
        screen.note(f"and {len(verdict.problems) - MAX_SHOWN} more")
    if verdict.errors:
        count = len(verdict.errors)
        screen.note(f"refused: {count} error{'s' * (count != 1)}, nothing of this push is taken")
        return FAILED
    return DONE


def tell(state: Path) -> int:
    """Tell the gateway that the branch has moved, and whoever pushed what that changed. It finds that by itself too.

    A push ends when this does: what it brought outlives the machine by then.
    """
    try:
        sync_filesystem(state / "git")
    except OSError as error:
        screen.note(f"the disk did not take it for good ({error.strerror}): push again when it does")
    try:
        told = json.loads((state / "git" / "wait.json").read_text())
        wait = float(told["seconds"])
        taken = ask(state, "POST", "/v1/git/take")
        screen.say(f"{(taken['revision'] or 'nothing')[:12]} is in force")
        for line in plan_lines(taken["plan"]):
            screen.say(line)
        names = [a["tenant"] for a in taken["plan"]["actions"] if a["verb"] != "unchanged"]
        for line in ready_lines(state, names, time.monotonic() + wait):
            screen.say(line)
    except TimeoutError:
        screen.say("Taken. The gateway does not answer in time: `carrel status` tells how it goes on.")
    except OSError:
        screen.say("Taken. The gateway is not running: the revision is in force when it starts.")
    except (CarrelError, ValueError, KeyError, TypeError) as error:
        screen.say(f"Taken. How it goes on cannot be seen here ({error}): `carrel status` tells.")
    return DONE


def plan_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """A plan in short: a line for each file of the operator's and each tenant that changes."""
    for file, changes in plan["operator_changes"].items():
        yield f"~ {file}: {_keys(changes)}"
    actions = [action for action in plan["actions"] if action["verb"] != "unchanged"]
    for action in actions[:MAX_SHOWN]:
        changes = action["changes"] if action["verb"] == "update" else ()
        more = f": {_keys(changes)}" if changes else ""
        yield f"{_MARKS.get(action['verb'], '?')} {action['tenant']}: {action['verb']}{more}"
        yield from (f"    {screen.one_line(problem)}" for problem in action["problems"])
    if len(actions) > MAX_SHOWN:
        yield f"and {len(actions) - MAX_SHOWN} more"
    yield from (screen.one_line(problem) for problem in plan["problems"])
    verbs = [action["verb"] for action in actions]
    yield ", ".join(f"{verbs.count(verb)} {verb}" for verb in _MARKS if verb in verbs) or "no tenant changes"
    if plan.get("confirm"):
        yield f"what is held is done by `carrel reconcile --confirm {plan['confirm']}`"


def _keys(changes: Sequence[Mapping[str, str]]) -> str:
    names = [change["path"] for change in changes]
    more = f" and {len(names) - MAX_KEYS} more" if len(names) > MAX_KEYS else ""
    return screen.one_line(", ".join(names[:MAX_KEYS]) + more)


def ready_lines(state: Path, names: Sequence[str], deadline: float) -> Iterator[str]:
    """Each of the tenants as it stands, once it is ready or has failed, or when time is over."""
    left, shown, wait = dict.fromkeys(names), 0, _LOOK_SECONDS
    while left:
        over = time.monotonic() >= deadline
        found = {tenant["id"]: tenant for tenant in ask(state, "GET", "/v1/status?brief=true")["tenants"]}
        for name in list(left):
            tenant = found.get(name)
            if tenant is None or tenant["state"] != "Reconciling" or over:
                del left[name]
                shown += 1
                if shown <= MAX_SHOWN:
                    yield f"{name}: {tenant['state']}: {tenant['message']}" if tenant is not None else f"{name}: gone"
        if left:
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_LOOK_SECONDS)
    if shown > MAX_SHOWN:
        yield f"and {shown - MAX_SHOWN} more: `carrel status` shows them"


class _Control(http.client.HTTPConnection):
    """HTTP over the control socket, by what Python has at hand: the client of the command line is slow to import."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_SECONDS)
        self.sock.connect(str(self._path))


def ask(state: Path, method: str, path: str) -> Any:
    """What the gateway answers on its control socket; raises OSError where there is none, CarrelError if it refuses."""
    with contextlib.closing(_Control(state / "run" / "control.sock")) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        document = json.loads(answer.read())
    if answer.status >= 300:
        raise CarrelError(str(document.get("detail", f"status {answer.status}")))
    return document


_CALLS: Final[Mapping[str, Callable[[str, Path, Become], int]]] = {"serve": serve, "hook": hook}
