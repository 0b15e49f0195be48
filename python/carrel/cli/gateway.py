"""`carrel gateway`: hands what was asked for to the one who runs it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from carrel.cli.failures import WrongUsage
from carrel.cli.gateway_options import DRAIN_SECONDS, GatewayOptions, LogLevel
from carrel.cli.options import DEFAULT_HOST, DEFAULT_PORT, Json, StateDir, Target, parse_listen

_STATE_HELP: Final = (
    "Where it keeps its state; it is made where there is none. By default `${XDG_STATE_HOME:-~/.local/state}/carrel`."
)

_MOST_SECONDS: Final = 3600.0


def gateway_command(run_gateway: Callable[[GatewayOptions], int]) -> Callable[..., int]:
    """The command that starts a gateway by ``run_gateway`` and ends with its exit code."""

    def gateway(
        *,
        listen: Annotated[str, Parameter(help="Where to listen, as HOST:PORT.")] = f"{DEFAULT_HOST}:{DEFAULT_PORT}",
        tenants_dir: Annotated[
            Path | None,
            Parameter(help="The directory of declarations; without it and --git, tenants.d."),
        ] = None,
        git: Annotated[
            Path | None,
            Parameter(help="Git settings: what is declared is pushed or pulled, and kept in the state directory."),
        ] = None,
        secrets_dir: Annotated[
            Path | None,
            Parameter(help="Where secrets are files by their names, after `$CREDENTIALS_DIRECTORY`."),
        ] = None,
        audit_mark: Annotated[Path | None, Parameter(help="A file that keeps the audit log's end besides.")] = None,
        log_level: Annotated[LogLevel, Parameter(help="The least that is logged.")] = "info",
        log_json: Annotated[bool, Parameter(negative=(), show_default=False, help="As `--json`.")] = False,
        trial: Annotated[
            bool,
            Parameter(help="Start with what this machine has, and say what is missing; else refuse to start."),
        ] = True,
        state_dir: Annotated[StateDir, Parameter(help=_STATE_HELP)] = None,
        json: Annotated[Json, Parameter(help="Log in JSON.")] = False,
        drain_seconds: Annotated[
            float, Parameter(help="How long requests that run may go on when it is stopped.")
        ] = DRAIN_SECONDS,
        host: Annotated[
            Path | None,
            Parameter(help="A machine's settings, as `services.carrel` writes them: they say all that the others do."),
        ] = None,
    ) -> int:
        """Run the gateway in the foreground. Ctrl-C drains and stops it."""
        address, port = parse_listen(listen)
        if not 0 < drain_seconds <= _MOST_SECONDS:
            raise WrongUsage(f"--drain-seconds takes more than 0 and at most {_MOST_SECONDS:.0f}.")
        if git is not None and tenants_dir is not None:
            raise WrongUsage("--git and --tenants-dir are two places for what is declared: say one of them.")
        state = Target(state_dir).state
        options = GatewayOptions(
            host=address,
            port=port,
            tenants_dir=(tenants_dir or Path("tenants.d")) if git is None else pushed_to(state),
            git=git,
            audit_mark=audit_mark,
            state_dir=state,
            secrets_dir=secrets_dir,
            log_level=log_level,
            log_json=log_json or json,
            trial=trial,
            state_named=state_dir is not None,
            drain_seconds=drain_seconds,
        )
        return run_gateway(options if host is None else of_host(host, options))

    return gateway


def of_host(path: Path, given: GatewayOptions) -> GatewayOptions:
    """What the machine's settings in ``path`` say; of ``given`` only where secrets and state are counts.

    Raises DeclarationInvalid.
    """
    from carrel.declare.host import read_host  # noqa: PLC0415 - the models, which a trial does without here

    settings = read_host(path)
    state = given.state_dir if given.state_named else Path(settings.state_dir)
    return GatewayOptions(
        host=settings.listen.address,
        port=settings.listen.port,
        tenants_dir=Path(settings.tenants_dir) if settings.git is None else pushed_to(state),
        git=Path(settings.git) if settings.git is not None else None,
        audit_mark=Path(settings.audit_mark) if settings.audit_mark is not None else None,
        state_dir=state,
        secrets_dir=given.secrets_dir,
        log_level=settings.log.level,
        log_json=settings.log.json_lines,
        trial=not settings.require_closure,
        state_named=True,
        drain_seconds=settings.drain_seconds,
        launcher=Path(settings.launcher) if settings.launcher is not None else None,
        names=settings.listen.names,
        placement=settings.placement.model_dump_json() if settings.placement is not None else None,
    )


def pushed_to(state: Path) -> Path:
    """Where what came by git is, in the state directory."""
    return state / "git" / "current"
