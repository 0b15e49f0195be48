"""`tenants.backup`, `tenants.backups.list`, `tenants.restore`: a tenant's own, to and from where its operator says."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import structlog

from carrel.errors import CarrelError, Forbidden, NotFound, Unavailable
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry
from carrel.http.services import BackupKeeping
from carrel.wire import rpc_backups
from carrel.wire.backups import BackupView
from carrel.wire.control import Actor

_log = structlog.get_logger(__name__)
_OPERATORS: Final = frozenset({
    "object_store_unavailable", "object_store_refused", "object_missing", "object_damaged", "no_backup_target",
    "vault_unavailable", "secret_missing", "storage_failed", "storage_full",
})  # fmt: skip


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("tenants.backup", scope="admin", changes=True)(backup)
    registry.method("tenants.backups.list")(list_)
    registry.method("tenants.restore", scope="admin", repeated="brings the same backup back once more")(restore)


async def backup(context: Context, params: rpc_backups.BackupParams) -> rpc_backups.BackupMade:
    """Back the tenant up now, to where its operator says."""
    if params.bucket is not None or params.prefix is not None:
        raise Forbidden("Where backups go is the operator's to say: leave `bucket` and `prefix` out.")
    _whole(context)
    with _in_public():
        made = await _keeping(context).back_up_own(context.tenant, by=Actor(context.actor, context.request_id))
    return rpc_backups.BackupMade(
        key=_key(made), tenant_id=context.tenant.id, timestamp=_millis(made.at), size=made.bytes
    )  # fmt: skip


async def list_(context: Context, params: rpc_backups.BackupsParams) -> rpc_backups.Backups:
    """The tenant's backups, newest first."""
    _whole(context)
    with _in_public():
        found = await _keeping(context).list(context.tenant, None, local=False)
    page, following = paged(found.backups, lambda one: (one.at.isoformat(), one.id), params, newest_first=True)
    return rpc_backups.Backups(
        backups=tuple(
            rpc_backups.BackupLine(
                key=_key(one), size=one.bytes, last_modified=_millis(one.at), tenant_id=context.tenant.id,
                timestamp=_millis(one.at),
            )
            for one in page
        ),
        next=following,
    )  # fmt: skip


async def restore(context: Context, params: rpc_backups.RestoreParams) -> rpc_backups.RestoreDone:
    """Bring the tenant back as it was in one of its backups; what was there is kept for its operator to let go."""
    _whole(context)
    with _in_public():
        done = await _keeping(context).restore_own(
            context.tenant, params.key, by=Actor(context.actor, context.request_id)
        )  # fmt: skip
    return rpc_backups.RestoreDone(
        tenant_id=context.tenant.id, restored_at=_millis(context.services.clock.now()),
        source_key=f"{done.source}/manifests/{done.backup}",
    )  # fmt: skip


@contextmanager
def _in_public() -> Iterator[None]:
    """What is wrong with the place is told to the operator alone: where it is says nothing to a tenant."""
    try:
        yield
    except CarrelError as error:
        if error.code in _OPERATORS:
            _log.error("a tenant's order to its backups failed", code=error.code, error=error.message)
            raise Unavailable("Backups do not work now; this tenant's operator can see why.") from error
        raise


def _whole(context: Context) -> None:
    """Raise Forbidden for a member who has things of their own: a backup is of everybody's."""
    if context.tenant.own is not None:
        raise Forbidden("A backup is of the whole tenant, and this token is one member's.")


def _key(view: BackupView) -> str:
    return f"{view.tenant}/manifests/{view.id}"


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _keeping(context: Context) -> BackupKeeping:
    if context.services.backups is None:
        raise NotFound("No backups are made here.")
    return context.services.backups
