"""What a sandbox sees as its system: a closure of store paths, or the host's /usr in a trial."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Mount:
    """One read-only bind: ``source`` on the host, ``target`` inside."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Userland:
    """A system for sandboxes. Whoever uses one holds on to the object: that is what keeps its closure.

    ``reason`` says why it is the host's, empty for a closure. ``key`` names the content (equal keys, equal content);
    ``search_path`` is PATH inside; ``shell`` an absolute path inside; ``links`` are symlinks made inside, as (target,
    link).
    """

    kind: Literal["closure", "host"]
    key: str
    mounts: tuple[Mount, ...]
    search_path: str
    shell: str
    links: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    reason: str = ""
