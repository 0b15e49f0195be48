"""What an operator sees of kept sandboxes and does to them. Each change has its line in the audit log."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from carrel.audit.log import Audit
from carrel.errors import NotFound
from carrel.ids import TenantId
from carrel.sandbox.modes import limits_in
from carrel.sandbox.protocol import Sandbox
from carrel.tenancy.handle import Tenant
from carrel.wire import control


class Sandboxes:
    """The workers of all tenants, each known to its own tenant's path alone."""

    def __init__(self, *, sandbox: Sandbox, audit: Audit) -> None:
        self._sandbox = sandbox
        self._audit = audit

    def list(self, tenant: TenantId | None) -> control.SandboxList:
        """Those that run, of one tenant or of all."""
        kept = [one for one in self._sandbox.kept() if tenant is None or one.tenant == tenant]
        views = []
        for one in sorted(kept, key=lambda one: one.began):
            agent, _, workspace = one.name.partition(":")
            views.append(
                control.SandboxView(
                    id=one.id, tenant=one.tenant, agent=agent, workspace=workspace, started=one.began, used=one.used,
                    commands=one.commands, running=one.running,
                )
            )  # fmt: skip
        return control.SandboxList(sandboxes=tuple(views))

    def log(self, tenant: TenantId, sandbox_id: str) -> control.SandboxLog:
        """What background processes in it wrote; raises NotFound."""
        self._require(tenant, sandbox_id)
        return control.SandboxLog(id=sandbox_id, text=self._sandbox.log(sandbox_id).decode("utf-8", "replace"))

    async def stop(self, tenant: TenantId, sandbox_id: str, *, by: control.Actor) -> None:
        """End it with all that runs in it; raises NotFound."""
        self._require(tenant, sandbox_id)
        async with self._noted("sandboxes.stop", tenant, sandbox_id, by):
            await self._sandbox.stop(sandbox_id)

    async def execute(
        self, tenant: Tenant, sandbox_id: str, order: control.SandboxExec, *, by: control.Actor
    ) -> control.SandboxExecuted:
        """Run a command in it, with the limits of its mode; raises NotFound, SandboxUnavailable."""
        self._require(tenant.id, sandbox_id)
        template = self._sandbox.template(sandbox_id)
        limits = limits_in(tenant.config.sandbox, template.confinement.mode)
        if order.timeout_seconds is not None:
            seconds = min(order.timeout_seconds, limits.wall_seconds)
            limits = limits.model_copy(update={"wall_seconds": seconds})
        job = replace(template, argv=order.argv, stdin=order.stdin.encode(), limits=limits)
        async with self._noted("sandboxes.exec", tenant.id, sandbox_id, by, after={"argv": _short(order.argv)}):
            done = await self._sandbox.run(tenant, job)
        return control.SandboxExecuted(
            exit_code=done.exit_code, signal=done.signal, stdout=done.stdout.decode("utf-8", "replace"),
            stderr=done.stderr.decode("utf-8", "replace"), output_dropped=done.output_dropped, killed=done.killed,
            seconds=done.seconds,
        )  # fmt: skip

    def _require(self, tenant: TenantId, sandbox_id: str) -> None:
        if not any(one.id == sandbox_id and one.tenant == tenant for one in self._sandbox.kept()):
            raise NotFound("No such sandbox runs: `carrel sandboxes list` shows those that do.")

    def _noted(
        self, action: str, tenant: TenantId, target: str, by: control.Actor, *, after: object = None
    ) -> AbstractAsyncContextManager[None]:
        return self._audit.change(
            actor=by.name, action=action, target=target, tenant=tenant, request_id=by.request_id, after=after
        )


def _short(argv: Sequence[str]) -> list[str]:
    """What the audit log keeps of a command: an argument may be a whole program."""
    return [word if len(word) <= 200 else word[:200] + "…" for word in argv[:20]]
