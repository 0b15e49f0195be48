"""`carrel sandboxes`: those that are kept between commands."""

from typing import Annotated, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import path_of, request, understand, whole
from carrel.cli.failures import DONE, FAILED, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order, tenant_path
from carrel.cli.tenants import TenantArgument
from carrel.wire import control

LONGEST_SECONDS: Final = 86_400.0
SandboxArgument = Annotated[str, Parameter(name="SANDBOX", help="Its id, as `carrel sandboxes list` shows it.")]


def list_(
    tenant: Annotated[str | None, Parameter(name="--tenant", help="Those of this tenant alone.")] = None,
    *,
    target: Target = HERE,
) -> int:
    """List the sandboxes that are kept and run now."""
    document = whole(target, path_of("sandboxes"), "sandboxes", {"tenant": tenant} if tenant is not None else None)
    if target.json:
        screen.show_json(document)
        return DONE
    rows = [
        (s.id, s.tenant, s.agent, s.workspace, screen.moment(s.started), screen.moment(s.used), str(s.commands),
         str(s.running))
        for s in understand(control.SandboxList, document).sandboxes
    ]  # fmt: skip
    if not rows:
        screen.note("No sandbox is kept now.")
        return DONE
    screen.table(("SANDBOX", "TENANT", "AGENT", "WORKSPACE", "STARTED", "USED", "COMMANDS", "RUNNING"), rows)
    return DONE


def stop(tenant: TenantArgument, sandbox: SandboxArgument, /, *, target: Target = HERE) -> int:
    """End a sandbox with all that runs in it; the next command starts it anew."""
    request(target, "DELETE", tenant_path(tenant, "sandboxes", sandbox))
    if target.json:
        screen.show_json({"id": sandbox, "stopped": True})
    else:
        screen.say(f"{sandbox} is stopped.")
    return DONE


def logs(tenant: TenantArgument, sandbox: SandboxArgument, /, *, target: Target = HERE) -> int:
    """Show the last of what background processes in a sandbox wrote."""
    document = request(target, "GET", tenant_path(tenant, "sandboxes", sandbox, "log"))
    if target.json:
        screen.show_json(document)
    else:
        screen.write(understand(control.SandboxLog, document).text)
    return DONE


def exec_(
    tenant: TenantArgument,
    sandbox: SandboxArgument,
    /,
    *command: Annotated[str, Parameter(name="COMMAND", help="The command and its arguments, after `--`.")],
    timeout: Annotated[float | None, Parameter(help="Seconds after which it is killed.")] = None,
    target: Target = HERE,
) -> int:
    """Run a command in a sandbox, with the tenant's limits. Ends with 1 where the command did not end with 0."""
    if not command:
        raise WrongUsage("Name a command after `--`: carrel sandboxes exec ID SANDBOX -- ps -ef")
    wanted = order(control.SandboxExec, {"argv": command, "timeout_seconds": timeout})
    path = tenant_path(tenant, "sandboxes", sandbox, "exec")
    document = request(target, "POST", path, wanted, patience=LONGEST_SECONDS)
    done = understand(control.SandboxExecuted, document)
    if target.json:
        screen.show_json(document)
    else:
        screen.write(done.stdout)
        for line in done.stderr.splitlines():
            screen.note(line)
        if done.killed is not None:
            screen.complain(f"killed: {done.killed}")
        elif done.exit_code is None:
            screen.complain(f"ended by signal {done.signal}")
    return DONE if done.exit_code == 0 else FAILED
