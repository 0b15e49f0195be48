"""`carrel restore`: all tenants back before a gateway starts. What does it is handed down by who composes the whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from carrel.cli.options import Json, StateDir, Target
from carrel.cli.restore_options import RestoreOptions


def restore_command(run_restore: Callable[[RestoreOptions], int]) -> Callable[..., int]:
    """The command that brings all tenants back by ``run_restore`` and ends with its exit code."""

    def restore(
        *,
        place: Annotated[
            str | None,
            Parameter(name="--from", help="Where the backups are, `s3://bucket/prefix` or `file:///directory`."),
        ] = None,
        when: Annotated[
            Literal["empty", "always"],
            Parameter(help="`empty`: only tenants that have nothing. `always`: what there is is kept beside."),
        ] = "empty",
        tenants: Annotated[
            list[str] | None, Parameter(name="--tenant", negative=(), help="Only this one; said once for each.")
        ] = None,
        dry_run: Annotated[
            bool, Parameter(negative=(), show_default=False, help="Only say what would be done.")
        ] = False,
        tenants_dir: Annotated[Path, Parameter(help="The directory of declarations.")] = Path("tenants.d"),
        secrets_dir: Annotated[
            Path | None, Parameter(help="Where secrets are files by their names, after `$CREDENTIALS_DIRECTORY`.")
        ] = None,
        state_dir: StateDir = None,
        json: Json = False,
    ) -> int:
        """Bring all declared tenants back from their newest backups, while no gateway runs: on a new machine, say."""
        return run_restore(
            RestoreOptions(
                state_dir=Target(state_dir).state.absolute(),
                tenants_dir=tenants_dir.absolute(),
                secrets_dir=secrets_dir.absolute() if secrets_dir is not None else None,
                place=place,
                when=when,
                tenants=tuple(tenants or ()),
                dry_run=dry_run,
                json=json,
            )
        )

    return restore
