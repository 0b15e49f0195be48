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
    verify: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Read each backup back once it is made, all of it.")
    ] = False,
    target: Target = HERE,
) -> int:
    """Back up every tenant now, but for those whose file says `enabled: false`. One that fails stops no other."""
    wanted = order(wire.BackupOrder, {"to": to, "keep": counts(keep)})
    made, failed = ask(_all(target, wanted, verify=verify))
    if target.json:
        screen.show_json({"backups": [one.model_dump(mode="json") for one in made], "failed": failed})
    else:
        screen.note(f"{len(made)} tenants are backed up, {len(failed)} not.")
    return FAILED if failed or any(one.damaged for one in made) else DONE


async def _all(
    target: Target, wanted: wire.BackupOrder, *, verify: bool
) -> tuple[list[wire.BackupView], dict[str, str]]:  # fmt: skip
    made: list[wire.BackupView] = []
    failed: dict[str, str] = {}
    async with Client(target) as client:
        found = understand(control.TenantList, await client.get("/v1/tenants"))
        for tenant in (one.id for one in found.tenants if one.backed_up):
            path = tenant_path(tenant, "backups")
            try:
                document = await client.send("POST", path, wanted, patience=LONGEST_SECONDS)
                problems = await _problems(client, tenant, wanted, document) if verify else ()
            except GatewayUnreachable:
                raise
            except CarrelError as error:
                failed[tenant] = error.message
                screen.complain(f"{tenant}: {error.message}")
                continue
            made.append(understand(wire.BackupView, document))
            if problems:
                failed[tenant] = f"The backup {made[-1].id} does not read back: {problems[0]}"
                screen.complain(f"{tenant}: {failed[tenant]}")
            if made[-1].damaged:
                screen.complain(damage(made[-1]))
            if not target.json:
                screen.say(f"{tenant}: {made[-1].id}")
    return made, failed


async def _problems(client: Client, tenant: str, wanted: wire.BackupOrder, document: object) -> tuple[str, ...]:
    """What is wrong with the backup that was just made, as read back from where it went."""
    made = understand(wire.BackupView, document)
    asked = order(wire.VerifyOrder, {"place": wanted.to, "backup": made.id})
    found = await client.send("POST", tenant_path(tenant, "backups", "verify"), asked, patience=LONGEST_SECONDS)
    return understand(wire.Verified, found).problems
