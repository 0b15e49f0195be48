"""`carrel backup all`: one tenant after the other, so that a night's backups crowd out no morning's messages."""

from typing import Annotated

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.backups import LONGEST_SECONDS, KeepOption, counts, damage
from carrel.cli.client import Client, ask, understand
from carrel.cli.failures import DONE, FAILED, GatewayUnreachable
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order, tenant_path
from carrel.errors import CarrelError
from carrel.wire import backups as wire
from carrel.wire import control


def backup_all(
    *,
    to: Annotated[
        str | None, Parameter(help="Where to, `s3://bucket/prefix` or `file:///directory`; by default as declared.")
    ] = None,
    keep: KeepOption = None,
    target: Target = HERE,
) -> int:
    """Back up every tenant now, but for those whose file says `enabled: false`. One that fails stops no other."""
    wanted = order(wire.BackupOrder, {"to": to, "keep": counts(keep)})
    made, failed = ask(_all(target, wanted))
    if target.json:
        screen.show_json({"backups": [one.model_dump(mode="json") for one in made], "failed": failed})
    else:
        screen.note(f"{len(made)} tenants are backed up, {len(failed)} not.")
    return FAILED if failed or any(one.damaged for one in made) else DONE


async def _all(target: Target, wanted: wire.BackupOrder) -> tuple[list[wire.BackupView], dict[str, str]]:
    made: list[wire.BackupView] = []
    failed: dict[str, str] = {}
    async with Client(target) as client:
        found = understand(control.TenantList, await client.get("/v1/tenants"))
        for tenant in (one.id for one in found.tenants if one.backed_up):
            path = tenant_path(tenant, "backups")
            try:
                document = await client.send("POST", path, wanted, patience=LONGEST_SECONDS)
            except GatewayUnreachable:
                raise
            except CarrelError as error:
                failed[tenant] = error.message
                screen.complain(f"{tenant}: {error.message}")
                continue
            made.append(understand(wire.BackupView, document))
            if made[-1].damaged:
                screen.complain(damage(made[-1]))
            if not target.json:
                screen.say(f"{tenant}: {made[-1].id}")
    return made, failed
