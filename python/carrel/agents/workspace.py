"""Where a run of a tool works: which directory beneath the tenant's root is its /workspace, and how it is emptied.

A workspace of a person or a session lies beside the tenant's, never in it: mounts do not nest, and so nobody sees
another's. The names begin with what they are for, so that a member and a session never share one.
"""

import os
import re
from typing import Final
from uuid import uuid4

import structlog

from carrel.errors import CarrelError, InvalidRequest, NotFound, UnsafePath
from carrel.ids import SessionId
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot, open_beneath
from carrel.tenancy.removal import empty

_log = structlog.get_logger(__name__)
TENANT_WORKSPACE: Final = "sandbox"
OWN_WORKSPACES: Final = "sandbox.d"
INSIDE: Final = "/workspace"
_MEMBER: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def workspace_of(tenant: Tenant, *, session_id: SessionId) -> str:
    """The workspace's path beneath the tenant's root, by `sandbox.scope`.

    With the scope ``member`` and nobody known to ask, it is the session's own: no person's work is open to strangers.
    """
    if tenant.config.sandbox.scope == "tenant":
        return TENANT_WORKSPACE
    return member_workspace(tenant.own) if tenant.own is not None else session_workspace(session_id)


def member_workspace(member: str) -> str:
    """The workspace of one member, where each has their own; raises InvalidRequest for what is no name."""
    if not _MEMBER.fullmatch(member):
        raise InvalidRequest("A member's name is 1 to 64 of a-z, 0-9, '_' and '-'.", param="member")
    return f"{OWN_WORKSPACES}/member-{member}"


def session_workspace(session_id: SessionId) -> str:
    """The workspace of one session, where each has its own."""
    return f"{OWN_WORKSPACES}/session-{session_id}"


def beneath(path: str) -> str:
    """An agent's path (`/workspace/x`, `x`) as one relative to the workspace; the kernel judges the rest at opening."""
    if path in ("", ".", INSIDE, INSIDE + "/"):
        return "."
    if path.startswith(INSIDE + "/"):
        return path[len(INSIDE) :].lstrip("/") or "."
    if path.startswith("/"):
        raise UnsafePath(f"The path is outside of {INSIDE}; use the shell to look at the rest of the system.",
                         param="path")  # fmt: skip
    return path


def shown(path: str) -> str:
    """A path relative to the workspace as the agent knows it."""
    return INSIDE if path == "." else f"{INSIDE}/{path}"


def remove_workspace(root: TenantRoot, workspace: str) -> None:
    """Remove a workspace with all that hostile programs may have left in it. One that is not there is no error.

    It is taken out of the way in one step; directories are then moved up beside it one by one, so that no depth of
    nesting matters, and nothing is ever followed.
    """
    parent, _, name = workspace.rpartition("/")
    trash = f"trash-{uuid4().hex}"
    try:
        above = root.directory(parent)
    except NotFound:
        return
    try:
        os.mkdir(trash, 0o700, dir_fd=above.fd)
        fd = open_beneath(above.fd, trash, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.rename(name, "0", src_dir_fd=above.fd, dst_dir_fd=fd)
            empty(fd)
        except FileNotFoundError:
            pass
        finally:
            os.close(fd)
        os.rmdir(trash, dir_fd=above.fd)
    except (OSError, CarrelError) as error:
        _log.warning("a workspace could not be removed whole", error=type(error).__name__)
    finally:
        above.close()
