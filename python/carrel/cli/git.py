"""`carrel git`: the repository that tenants.d is pushed to, who may push, and a look at what is pulled."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import path_of, request, understand
from carrel.cli.failures import DONE, FAILED
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order
from carrel.wire.revisions import PullAnswer, PullOrder

if TYPE_CHECKING:
    from carrel.vcs.home import GitHome

WORDS: Final = ("init", "authorize", "keys", "revoke")

Become = Callable[..., None]
"""Given the state directory and what else to read, go on as the uid whose state it is."""


class GitCommands:
    """The commands that work on the state directory itself, as the uid that it belongs to, by their last word.

    ``program`` gives the `carrel` that hooks and forced commands start.
    """

    def __init__(self, become: Become, program: Callable[[], str]) -> None:
        self._become = become
        self._program = program

    def by_word(self) -> Mapping[str, Callable[..., int]]:
        """Each of them."""
        return {word: getattr(self, word) for word in WORDS}

    def _home(self, target: Target, *reads: Path) -> "GitHome":
        from carrel.vcs.home import GitHome  # noqa: PLC0415 - adapters that other commands do without

        state = target.state.absolute()
        self._become(state, *(path.absolute() for path in reads))
        return GitHome(state, self._program())

    def init(
        self,
        *,
        settings: Annotated[
            Path | None, Parameter(help="A file of git settings; by default one that takes pushes to main.")
        ] = None,
        target: Target = HERE,
    ) -> int:
        """Make the repository in the state directory that tenants.d can be pushed to."""
        home = self._home(target, *([settings] if settings is not None else []))
        made = asyncio.run(home.make(settings))
        told = {
            "repository": str(home.repository), "settings": str(home.settings_file), "mode": made.mode,
            "branch": made.hosted.branch, "authorized_keys": str(home.keys().path),
        }  # fmt: skip
        if target.json:
            screen.show_json(told)
            return DONE
        screen.say(f"The repository is {home.repository}, its settings are {home.settings_file}.")
        screen.say(f"Start the gateway with: carrel gateway --state-dir {home.state} --git {home.settings_file}")
        if made.push is not None:
            screen.say("Let people push with: carrel git authorize KEYFILE --name NAME")
            screen.say(f"sshd reads their keys with: AuthorizedKeysFile {home.keys().path}")
        return DONE

    def authorize(
        self,
        keyfile: Annotated[Path, Parameter(name="KEYFILE", help="The public key; it ends in .pub.")],
        /,
        *,
        name: Annotated[str, Parameter(help="Who it is: the audit log says git:NAME.")],
        target: Target = HERE,
    ) -> int:
        """Let a key push to the repository, and do nothing else."""
        from carrel.vcs.keys import parse_key, read_key_file  # noqa: PLC0415 - as in `_home`

        home = self._home(target, keyfile)
        key = parse_key(read_key_file(keyfile), name)
        home.settings()
        home.keys().authorize(key)
        if target.json:
            screen.show_json({"name": key.name, "kind": key.kind, "fingerprint": key.fingerprint})
        else:
            screen.say(f"{key.name} may push: {key.kind} {key.fingerprint}")
        return DONE

    def keys(self, *, target: Target = HERE) -> int:
        """List who may push."""
        home = self._home(target)
        home.settings()
        found = home.keys().list()
        if target.json:
            screen.show_json({"keys": [{"name": k.name, "kind": k.kind, "fingerprint": k.fingerprint} for k in found]})
        else:
            screen.table(("NAME", "TYPE", "FINGERPRINT"), [(k.name, k.kind, k.fingerprint) for k in found])
        return DONE

    def revoke(
        self,
        name: Annotated[str, Parameter(name="NAME", help="Whose keys.")],
        /,
        *,
        fingerprint: Annotated[
            str | None, Parameter(help="This one of them alone, as `carrel git keys` shows it.")
        ] = None,
        target: Target = HERE,
    ) -> int:
        """Take keys away: the next connection with them is refused."""
        home = self._home(target)
        home.settings()
        count = home.keys().revoke(name, fingerprint)
        if target.json:
            screen.show_json({"name": name, "revoked": count})
        else:
            screen.say(f"{name} may no longer push with {count} key{'s' * (count != 1)}.")
        return DONE


def pull(
    *,
    accept: Annotated[
        str | None,
        Parameter(help="A commit to take though it does not hold the one that was taken last. Its whole name."),
    ] = None,
    target: Target = HERE,
) -> int:
    """Look at the remote branch now, and say how that ended."""
    document = request(target, "POST", path_of("git", "pull"), order(PullOrder, {"accept": accept}), patience=300.0)
    answer = understand(PullAnswer, document)
    if target.json:
        screen.show_json(document)
    else:
        screen.say(f"{answer.state}: {screen.one_line(answer.message)}")
    return DONE if answer.state == "Ready" else FAILED
