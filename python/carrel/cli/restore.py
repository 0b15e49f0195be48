"""`carrel restore`: all tenants back before a gateway starts. What does it is handed down by who composes the whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from carrel.cli.failures import WrongUsage
from carrel.cli.gateway import pushed_to
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
            Literal["empty", "always", "first"],
            Parameter(
                help="`empty`: only tenants that have nothing. `always`: what there is is kept beside. `first`: as "
                "`empty`, but only where there is no state of anybody yet; what broke off then goes on."
            ),
        ] = "empty",
        tenants: Annotated[
            list[str] | None, Parameter(name="--tenant", negative=(), help="Only this one; said once for each.")
        ] = None,
        dry_run: Annotated[
            bool, Parameter(negative=(), show_default=False, help="Only say what would be done.")
        ] = False,
        skip_damaged: Annotated[
            bool,
            Parameter(negative=(), show_default=False, help="Leave out files that are not whole in the store."),
        ] = False,
        tenants_dir: Annotated[
            Path | None, Parameter(help="The directory of declarations; without it and --git, tenants.d.")
        ] = None,
        git: Annotated[
            Path | None,
            Parameter(
                help="Git settings, as a gateway has them: what is declared is pulled first. Where it is pushed and "
                "nobody has pushed yet, a gateway brings back whom the first push declares."
            ),
        ] = None,
        host: Annotated[
            Path | None,
            Parameter(help="A machine's settings: state, declarations and placement are as they say."),
        ] = None,
        secrets_dir: Annotated[
            Path | None, Parameter(help="Where secrets are files by their names, after `$CREDENTIALS_DIRECTORY`.")
        ] = None,
        state_dir: StateDir = None,
        json: Json = False,
    ) -> int:
        """Bring all declared tenants back from their newest backups, while no gateway runs: on a new machine, say."""
        where = _where(state_dir, tenants_dir, git, host)
        secrets = secrets_dir.absolute() if secrets_dir is not None else None
        return run_restore(
            RestoreOptions(
                where.state, where.declared, secrets, place, when, tuple(tenants or ()), dry_run, json, where.git,
                where.placement, skip_damaged,
            )
        )  # fmt: skip

    return restore


@dataclass(frozen=True, slots=True)
class _Where:
    state: Path
    declared: Path
    git: Path | None
    placement: str | None = None


def _where(state_dir: Path | None, tenants_dir: Path | None, git: Path | None, host: Path | None) -> _Where:
    """Where state and declarations are; raises WrongUsage where that is said twice, DeclarationInvalid."""
    if sum(one is not None for one in (tenants_dir, git, host)) > 1:
        raise WrongUsage("--tenants-dir, --git and --host each say where declarations are: name one of them.")
    state = Target(state_dir).state.absolute()
    if host is None:
        declared = (tenants_dir or Path("tenants.d")).absolute() if git is None else pushed_to(state)
        return _Where(state, declared, git.absolute() if git is not None else None)
    from carrel.declare.host import read_host  # noqa: PLC0415 - the models, which most commands do without

    settings = read_host(host)
    state = state if state_dir is not None else Path(settings.state_dir)
    placement = settings.placement.model_dump_json() if settings.placement is not None else None
    if settings.git is not None:
        return _Where(state, pushed_to(state), Path(settings.git), placement)
    return _Where(state, Path(settings.tenants_dir), None, placement)
