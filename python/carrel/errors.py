"""The one error hierarchy.

An error carries a stable machine-readable ``code``, a sentence that is safe to show to whoever asked, and whether
trying the same again may help. Edges map codes to statuses and dialects; nothing here knows of HTTP.
"""

import errno
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Final


class CarrelError(Exception):
    """Root of every error that Carrel raises on purpose.

    ``message`` is public: it names what was wrong, where, and what to do; it never holds a secret, a host path
    of the state directory, or another tenant's name. ``details`` are public machine-readable additions.
    """

    code: str = "internal_error"
    retryable: bool = False

    def __init__(self, message: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, object] = dict(details or {})


class Unauthorized(CarrelError):
    """No credential, or one that is unknown, malformed, expired or revoked. One message for all of them."""

    code = "unauthorized"

    def __init__(self, message: str = "A valid credential is required: send `Authorization: Bearer <token>`.") -> None:
        super().__init__(message)


class Forbidden(CarrelError):
    """The credential is good and does not allow this."""

    code = "forbidden"


class TenantSuspended(CarrelError):
    """The tenant is suspended: nothing runs for it until it is resumed."""

    code = "tenant_suspended"


class TenantNotReady(CarrelError):
    """The tenant is declared but cannot be served now (its files or overlay are broken and no good version exists)."""

    code = "tenant_not_ready"


class InvalidRequest(CarrelError):
    """What was sent cannot be used. ``param`` is the path of the field, as ``messages[2].content``."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message, details=details)
        self.param = param


class TooLarge(InvalidRequest):
    """A body, file or argument is over its limit."""

    code = "too_large"


class NotFound(CarrelError):
    """No such thing for this tenant; another tenant's thing gives the very same answer."""

    code = "not_found"


class Conflict(CarrelError):
    """The thing exists already, or changed since it was read."""

    code = "conflict"


class ModelNotFound(NotFound):
    """No model of that name is declared."""

    code = "model_not_found"


class ModelNotAllowed(Forbidden):
    """The model is declared, and this tenant may not use it."""

    code = "model_not_allowed"


class QuotaExceeded(CarrelError):
    """A hard quota would be passed. ``retry_after`` is in seconds; ``reset_at`` is when the window opens again."""

    code = "quota_exceeded"
    retryable = True

    def __init__(self, message: str, *, quota: str, retry_after: float, reset_at: datetime) -> None:
        super().__init__(message, details={"quota": quota, "reset_at": reset_at.isoformat()})
        self.quota = quota
        self.retry_after = retry_after
        self.reset_at = reset_at


class RateLimited(CarrelError):
    """Too many attempts from one place (failed authentication, say); ``retry_after`` is in seconds."""

    code = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UpstreamError(CarrelError):
    """A model provider refused or failed. ``status`` is its HTTP status, None where no answer came."""

    code = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, details=details)
        self.status = status
        self.retryable = retryable
        self.retry_after = retry_after


class UpstreamAuth(UpstreamError):
    """A model provider refused the key that is configured for it: nothing that the caller could mend."""

    code = "upstream_auth"


class UpstreamTimeout(UpstreamError):
    """A model provider did not answer, or stopped answering, within the call's deadline."""

    code = "upstream_timeout"


class Unavailable(CarrelError):
    """Not now: draining, an environment still building, a dependency missing. Says when or what to mend."""

    code = "unavailable"
    retryable = True


class StorageFailed(CarrelError):
    """The disk fails, or takes no writes any more: nothing was acknowledged; what can be read still is."""

    code = "storage_failed"
    retryable = True


class StorageFull(StorageFailed):
    """The disk is full: nothing was acknowledged; reads go on."""

    code = "storage_full"


class DiskQuotaExceeded(CarrelError):
    """The tenant's workspaces take as much of the disk as they may: nothing was written. Says how much that is."""

    code = "disk_quota_exceeded"


class UnsafePath(InvalidRequest):
    """A path leaves its root, passes through a link, or is not a plain file of ours."""

    code = "unsafe_path"


class SandboxUnavailable(CarrelError):
    """The sandbox cannot be given as declared on this machine; nothing was run. Says what is missing."""

    code = "sandbox_unavailable"


class SandboxBusy(SandboxUnavailable):
    """The tenant, or the machine, runs as many commands as it may. Says which limit it is; nothing was run."""

    code = "sandbox_busy"
    retryable = True


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FAILED: Final = frozenset({errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EREMOTEIO})
"""What a disk says that breaks, is gone, or was made read-only by its file system, which does so after it broke."""
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def lacking(error: OSError, undone: str) -> CarrelError | None:
    """What the kernel's refusal means where it is not of the request but of the machine, else None.

    ``undone`` is half a sentence on what was not done, as `the change was not made`. StorageFull, StorageFailed, or
    Unavailable where the gateway has too few descriptors or too little memory for now.
    """
    reason = os.strerror(error.errno or 0)
    if error.errno in _FULL:
        return StorageFull(f"The disk is full: {undone}.")
    if error.errno in _FAILED:
        return StorageFailed(f"The disk fails ({reason}): {undone}. Try again; the operator finds it in the log.")
    if error.errno in _SHORT:
        return Unavailable(f"The gateway is short of what it needs ({reason}): {undone}. Try again in a moment.")
    return None


class InternalError(CarrelError):
    """A fault of ours. The message tells the caller nothing but the request id to quote."""

    code = "internal_error"
