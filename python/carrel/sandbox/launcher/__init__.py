"""The launcher: a small process of its own that starts sandboxes, watches them and kills them.

It is packed into one archive and run with the interpreter's isolated mode and nothing but the standard library, so that
it is small, quick to start, and holds nothing of the gateway: no environment, no secret, no descriptor but its end of
one socket. Nothing here imports anything else of Carrel. It is never uid 0. Sandboxes are its children, started from
its only thread and dying with it: where it is lost, so are they, and where the gateway is lost, the socket ends and it
stops.

The socket carries JSON packets (SOCK_SEQPACKET) with descriptors beside them (SCM_RIGHTS). To the launcher:

- ``{"do": "setup", "bwrap": PATH, "filters": F}`` with descriptors whose content each sandbox gets anew, of which the
  first F are seccomp programs;
- ``{"do": "run", "id": I}`` with [order, stdin, stdout, stderr, workspace, more files ...], the order a JSON file of
  ``{"args": [...], "argv": [...], "rlimits": {NAME: [SOFT, HARD]}, "wall_seconds": S or null, "gate": BOOL, "group":
  {"tenant": T, "tenant_files": {FILE: TEXT}, "files": {FILE: TEXT}, "cpu_seconds": S}}``, with ``"oci"``
  in place of ``"args"`` and ``"argv"`` where an OCI runtime is to run it (see ``cradle``);
- ``{"do": "enter", "id": I, "in": J}`` with [order, stdin, stdout, stderr]: one more command in sandbox J, the order
  ``{"argv": [...], "env": {...}, "cwd": PATH, "rlimits": ..., "wall_seconds": S, "group": ...,
  "filters": [HEX, ...], "terminal": BOOL}``: the filters are seccomp programs besides, and the terminal, where standard
  input is one, becomes that of the command's session;
- ``{"do": "count", "id": I, "of": J}``; ``{"do": "kill", "id": I}``.

From it: ``{"ready": PID, "controllers": [...] or null, "no_groups": TEXT}``; ``{"id": I, "gate": true}`` with the
socket that listens inside, where one was wanted; ``{"id": I, "count": N}``; ``{"id": I, "ended": {...}}`` once nothing
of it runs; ``{"id": I, "failed": TEXT}`` where it could not be started.

bwrap finds the workspace, its arguments, the status socket and the files at the descriptors that the constants here
name; it closes them all before the command starts.
"""

from typing import Final

WORKSPACE_FD: Final = 3
ARGUMENTS_FD: Final = 4
STATUS_FD: Final = 5
BLOCK_FD: Final = 6
"""The same socket once more: bwrap closes its status in the process that then waits to be let go."""
FIRST_FILE: Final = 7
"""The files of ``setup`` and then those of ``run`` are at FIRST_FILE and on while bwrap reads them."""

GATE_PORT: Final = 3128
"""Where a sandbox's gate listens, on the loopback of its own network namespace."""

KEEPS_NOTHING: Final = "a runtime with a kernel of its own takes in no command from outside, so nothing is kept"
"""The reason of a sandbox that was to be kept and whose runtime cannot."""

MAX_PACKET: Final = 1 << 16
MAX_FILES: Final = 32
