"""Containers whose runtime has a kernel of its own (gVisor): their limits are held around that kernel, and within it.

Such a kernel is a process of the host's: what a command has in memory, and in /tmp, is a file in memory of that
process, whose length ``RLIMIT_FSIZE`` bounds; what a command starts are its threads. A command's own descriptors, time
and files are counted by the kernel inside, which is told its limits and refusals by the bundle.
"""

import contextlib
import os
import select
from pathlib import Path
from typing import Any, Final

from carrel.sandbox.launcher import KEEPS_NOTHING

_MEMFD: Final = "/memfd:"
_BLOCK: Final = 512
LOOK_MILLISECONDS: Final = 50
_NEARLY: Final = 3
"""An eighth of a memory that is full may lie between what was given out, or not have been seen to be taken."""
_FOR_WANT: Final = (128 + 7, 128 + 11)
"""What touches memory that there is not gets a signal (bus, segment)."""
_TEXT: Final = 4000


def fitted(order: dict[str, Any], *, root: str) -> dict[str, Any]:
    """The order as such a runtime takes it, which is root of a user namespace that knows the launcher alone.

    ``root`` is where its files will lie.
    Raises OSError where a limit would not be held, or what is asked for cannot be done.
    """
    own: dict[str, Any] = order["kernel"]
    if order["podman"] is not None:
        raise OSError(
            "podman hands a container its streams as descriptors of the host's kernel, which a runtime with a kernel "
            "of its own does not take: leave out the mode's `engine`"
        )
    if own["kept"]:
        raise OSError(KEEPS_NOTHING)
    if own["problem"]:
        raise OSError(own["problem"])
    config = order["config"]
    linux = config["linux"]
    maps = {
        name: [{**one, "hostID": 0} for one in linux[name]] for name in ("uidMappings", "gidMappings")
    }  # fmt: skip
    limits = [{"type": f"RLIMIT_{name}", "soft": soft, "hard": hard} for name, (soft, hard) in own["inside"].items()]
    return {
        **order,
        "rlimits": own["around"],
        "config": {
            **config,
            "process": {**config["process"], "rlimits": limits, "args": own["args"]},
            # A mount of its own, or it would be as read-only as what it is in.
            "mounts": [*map(_devices_usable, config["mounts"]), _bound(root, "/workspace")],
            "linux": {**linux, **maps, "seccomp": own["seccomp"]},
        },
    }


class Memory:
    """What the kernel ``process`` gives out to whoever runs in it: one of its files in memory, which grows."""

    def __init__(self, process: int, limit: int) -> None:
        self._process = process
        self._limit = limit
        self._held = _files(process)
        self._most = 0

    def watch(self) -> None:
        """Look at it until the kernel has ended. It counts no refusal, and gives back what it took from who died."""
        handle = os.pidfd_open(self._process)
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            while not ended.poll(LOOK_MILLISECONDS):
                self.look()
        finally:
            os.close(handle)
            for fd in self._held:
                os.close(fd)

    def look(self) -> None:
        """See how much is taken now."""
        self._most = max([self._most, *(os.fstat(fd).st_blocks * _BLOCK for fd in self._held)])

    def judged(self, code: int) -> dict[str, Any]:
        """What there is to say of an end with ``code``: whether it was for want of memory, of which none was left."""
        if self._most < self._limit - (self._limit >> _NEARLY):
            return {}
        if code in _FOR_WANT:
            return {"killed": "memory"}
        taken, limit = self._most >> 20, self._limit >> 20
        return {"said": f"The sandbox was out of memory: {taken} of {limit} MiB were given out."}


def last_words(log: str) -> str:
    """What such a kernel said as it broke, in a sentence; nothing where it did not."""
    try:
        said = Path(log).read_bytes()[:_TEXT].decode("utf-8", "replace")
    except OSError:
        return ""
    if "failed to create new OS thread" in said:
        return "The sandbox's own kernel could start no further thread: Resource temporarily unavailable"
    if "out of memory" in said or "cannot allocate memory" in said:
        return "The sandbox's own kernel ended: out of memory"
    line = next((line for line in said.splitlines() if line.strip()), "")
    return f"The sandbox's own kernel ended: {line[:200]}" if line else ""


def _bound(root: str, place: str) -> dict[str, Any]:
    options = ["rbind", "rw", "nosuid", "nodev"]
    return {"destination": place, "type": "bind", "source": root + place, "options": options}


def _devices_usable(mount: dict[str, Any]) -> dict[str, Any]:
    """The mount, without what lets such a kernel open no device for writing; what is written there is its memory."""
    if mount["destination"] != "/dev":
        return mount
    return {**mount, "options": [option for option in mount["options"] if option != "ro"]}


def _files(process: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(link.readlink()).startswith(_MEMFD):
                    found.append(os.open(link, os.O_PATH | os.O_CLOEXEC))
    return found
