"""`carrel gateway`: hands what was asked for to the one who runs it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from carrel.cli.gateway_options import GatewayOptions, LogLevel
from carrel.cli.options import DEFAULT_HOST, DEFAULT_PORT, Json, StateDir, Target, parse_listen

_STATE_HELP: Final = (
    "Where it keeps its state; it is made where there is none. By default `${XDG_STATE_HOME:-~/.local/state}/carrel`."
)


def gateway_command(run_gateway: Callable[[GatewayOptions], int]) -> Callable[..., int]:
    """The command that starts a gateway by ``run_gateway`` and ends with its exit code."""

    def gateway(
        *,
        listen: Annotated[str, Parameter(help="Where to listen, as HOST:PORT.")] = f"{DEFAULT_HOST}:{DEFAULT_PORT}",
        tenants_dir: Annotated[Path, Parameter(help="The directory of declarations.")] = Path("tenants.d"),
        secrets_dir: Annotated[
            Path | None,
            Parameter(help="Where secrets are files by their names, after `$CREDENTIALS_DIRECTORY`."),
        ] = None,
        log_level: Annotated[LogLevel, Parameter(help="The least that is logged.")] = "info",
        log_json: Annotated[bool, Parameter(negative=(), show_default=False, help="As `--json`.")] = False,
        trial: Annotated[
            bool,
            Parameter(help="Start with what this machine has, and say what is missing; else refuse to start."),
        ] = True,
        state_dir: Annotated[StateDir, Parameter(help=_STATE_HELP)] = None,
        json: Annotated[Json, Parameter(help="Log in JSON.")] = False,
    ) -> int:
        """Run the gateway in the foreground. Ctrl-C drains and stops it."""
        host, port = parse_listen(listen)
        return run_gateway(
            GatewayOptions(
                host=host,
                port=port,
                tenants_dir=tenants_dir,
                state_dir=Target(state_dir).state,
                secrets_dir=secrets_dir,
                log_level=log_level,
                log_json=log_json or json,
                trial=trial,
                state_named=state_dir is not None,
            )
        )

    return gateway
