"""The host's own /usr as a userland, for a trial: read-only, and said to be what it is."""

from pathlib import Path
from typing import Final

from carrel.errors import Unavailable
from carrel.tenancy.userland import Mount, Userland

_MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_SHELLS: Final = ("/usr/bin/bash", "/bin/bash", "/usr/bin/sh", "/bin/sh")
_NAMED_ELSEWHERE: Final = "/etc/alternatives"
"""Where some systems keep what a name in /usr/bin stands for: links, and nothing that is secret."""


def host_userland(reason: str, *, root: Path = Path("/")) -> Userland:
    """The userland of the system at ``root`` as it is; ``reason`` says why it is not a closure.

    Raises Unavailable where there is no shell in it, as on NixOS, whose /usr is empty.
    """
    shell = next((path for path in _SHELLS if (root / path.lstrip("/")).is_file()), None)
    if shell is None:
        raise Unavailable(
            "There is no userland for tools: the host has no shell in /usr or /bin to lend, and there is no closure "
            f"({reason})."
        )
    mounts, links = [Mount(str(root / "usr"), "/usr")], []
    for name in _MERGED:
        path = root / name
        if path.is_symlink():
            links.append((str(path.readlink()), f"/{name}"))
        elif path.is_dir():
            mounts.append(Mount(str(path), f"/{name}"))
    if (root / _NAMED_ELSEWHERE.lstrip("/")).is_dir():
        mounts.append(Mount(str(root / _NAMED_ELSEWHERE.lstrip("/")), _NAMED_ELSEWHERE))
    return Userland("host", "host", tuple(mounts), _PATH, shell, tuple(links), reason=reason)
