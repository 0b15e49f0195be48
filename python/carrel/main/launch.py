"""From the command line to a process that is the gateway and nothing else.

What `carrel gateway` was told is parsed by the whole command line, which a gateway that runs for months should not keep
in memory. So the command, once understood and no longer root, executes itself anew in the same process, and finds there
what it was told. Here is what both sides of that need, and nothing that either would not want.
"""

import os
import socket
import sys
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from carrel.cli.gateway_options import GatewayOptions
from carrel.errors import CarrelError
from carrel.main.privilege import Places, drop_root

TOLD: Final = "CARREL_GATEWAY"
"""Set for the process that executes itself anew: ``PID:OPTIONS``, and in which process that holds."""

SYSTEM_PROGRAM: Final = Path("/run/current-system/sw/bin/carrel")
"""The `carrel` of a NixOS system: its name stays while what it leads to is exchanged."""


class CannotStart(CarrelError):
    """Something that the gateway needs is not there, or not as production settings demand it."""

    code = "cannot_start"


def start_gateway(options: GatewayOptions) -> int:
    """Become the gateway: this command executed anew, as an unprivileged uid. Raises CannotStart, CannotDropRoot."""
    options = replace(
        options,
        tenants_dir=options.tenants_dir.absolute(),
        state_dir=options.state_dir.absolute(),
        secrets_dir=options.secrets_dir.absolute() if options.secrets_dir is not None else None,
        git=options.git.absolute() if options.git is not None else None,
    )
    _refuse_misnamed(options)
    os.environ[TOLD] = f"{os.getpid()}:{options.text()}"
    # The very command that was started, without the columns of every instruction: they are marks in tracebacks.
    command = [sys.executable, "-X", "no_debug_ranges", *sys.orig_argv[1:]]
    drop_root(places_of(options), argv=command)
    # Not root: nothing had to be given up, and nobody else started this.
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, command)  # noqa: S606 - see above


def places_of(options: GatewayOptions) -> Places:
    """The directories that a gateway of ``options`` works with."""
    if options.git is None:
        return Places(options.state_dir, options.tenants_dir, options.secrets_dir)
    return Places(options.state_dir, None, options.secrets_dir, reads_of(options.git, options.state_dir))


def reads_of(git: Path, state: Path) -> tuple[Path, ...]:
    """What is read where declarations come by git: the file of its settings, and the files that they name."""
    from carrel.vcs.settings import load_settings  # noqa: PLC0415 - few are told to follow a branch

    try:
        pull = load_settings(git).pull
    except CarrelError:
        # Whoever works by them says what is wrong.
        pull = None
    named = pull.reads if pull is not None else ()
    return tuple(path for path in (git, *named) if not path.is_relative_to(state))


def told(environ: MutableMapping[str, str]) -> GatewayOptions | None:
    """What this process was executed anew for; taken out of ``environ``, so that no child is told."""
    pid, _, text = environ.pop(TOLD, "").partition(":")
    return GatewayOptions.from_text(text) if pid == str(os.getpid()) else None


def _refuse_misnamed(options: GatewayOptions) -> None:
    """Raise CannotStart for a path that cannot be what it was named as."""
    if options.git is None:
        _require_directory(options.tenants_dir, "--tenants-dir says where tenants are declared")
    elif not options.git.is_file():
        raise CannotStart(f"{options.git} is not a file: --git says where the git settings are (carrel git init).")
    if os.path.lexists(options.state_dir):
        _require_directory(options.state_dir, "--state-dir says where state is kept")
    if options.secrets_dir is not None:
        _require_directory(options.secrets_dir, "--secrets-dir says where secrets are files")


def _require_directory(path: Path, advice: str) -> None:
    try:
        found = path.is_dir()
    except OSError as error:
        raise CannotStart(f"{path} cannot be looked at ({error.strerror}): {advice}.") from error
    if not found:
        raise CannotStart(f"{path} is not a directory: {advice}.")


def program() -> str:
    """The `carrel` that hooks and forced commands start: this one, by a name that stays."""
    own = Path(sys.argv[0]).absolute()
    return str(SYSTEM_PROGRAM if own.is_relative_to("/nix/store") and SYSTEM_PROGRAM.exists() else own)


def become_keeper(state: Path, *reads: Path) -> None:
    """Go on as the uid whose state it is, executed anew, where root called; else only return."""
    if os.getuid() == 0:
        drop_root(Places(state, None, reads=reads))


def free_port(options: GatewayOptions) -> int:
    """The port to listen on, seen to be free before anything is begun; 0 asks for any."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((options.host, options.port))
            return int(probe.getsockname()[1])
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotStart(
            f"{options.host}:{options.port} cannot be listened on: {reason}. Choose another with --listen."
        ) from error
