"""The console script: the command line, or the gateway that it has become (see `launch`)."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from carrel.cli.failures import INTERRUPTED
from carrel.errors import lacking
from carrel.main.launch import become_keeper, program, start_gateway, told

if TYPE_CHECKING:
    # Models: the gateway loads the library of models in its own way, and hooks of git do without.
    from carrel.cli.conversion import Conversion
    from carrel.cli.gateway_options import GatewayOptions
    from carrel.cli.restore_options import RestoreOptions
    from carrel.wire.backups import ImportView


def _restore(options: "RestoreOptions") -> int:
    from carrel.main.restore import run_restore  # noqa: PLC0415 - most commands have nothing to do with it
    from carrel.telemetry import configure_logging  # noqa: PLC0415 - as above

    configure_logging(level="warning", json=options.json)

    return run_restore(options)


def _convert(source: Path, work: Path, tenant: str | None) -> "Sequence[Conversion]":
    from carrel.main.imports import convert  # noqa: PLC0415 - as above

    return convert(source, work, tenant)


def _reverse(archive: Path, out: Path) -> Mapping[str, object]:
    from carrel.main.exports import reverse  # noqa: PLC0415 - as above

    return reverse(archive, out)


def _look(archive: Path, tenant: str) -> "ImportView":
    from carrel.main.exports import look  # noqa: PLC0415 - as above

    return look(archive, tenant)


def _out_of_ground(error: OSError, options: "GatewayOptions") -> int:
    """Say that the disk or the machine takes no more, where that is what ``error`` is of, and end with 1."""
    if lacking(error, "it ends") is None:
        raise error
    where = error.filename or options.state_dir
    sys.stderr.write(f"carrel: the gateway cannot go on: {error.strerror} ({where}). `carrel doctor` says more.\n")
    return 1


def run() -> None:
    """The entry point of ``carrel``."""
    options = told(os.environ)
    if options is None and sys.argv[1:2] == ["git"] and sys.argv[2:3] in (["serve"], ["hook"]):
        from carrel.cli.git_calls import answer_call  # noqa: PLC0415 - what a push waits for imports little

        # The library of logs would import this one; see below.
        sys.modules["rich"] = None  # type: ignore[assignment] # which is how an import is told that there is none
        sys.exit(answer_call(sys.argv[1:], become_keeper))
    if options is None:
        from carrel.cli.app import build_app, execute, gateway_app  # noqa: PLC0415 - no part of what the gateway is

        if sys.argv[1:2] == ["gateway"]:
            # A start waits for nothing that only other commands need.
            sys.exit(execute(gateway_app(start_gateway)))
        app = build_app(
            start_gateway, become_keeper, program, _restore, converts=_convert, reverses=_reverse, looks=_look
        )  # fmt: skip
        sys.exit(execute(app))
    try:
        from carrel.main import footprint, lean  # noqa: PLC0415 - the command line starts without the gateway

        footprint.share_one_arena()
        footprint.keep_large_apart()
        footprint.expect_to_keep()
        lean.load()
        from carrel.main.gateway import run_gateway  # noqa: PLC0415 - as above

        sys.exit(run_gateway(options))
    except OSError as error:
        sys.exit(_out_of_ground(error, options))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
