"""A small gateway for the tests of stepping down from root: started as a gateway is, it tells what it can do.

It prints one JSON object once it is no longer root, then answers each line that it is told: ``socket`` with the uid
that comes in, ``watch`` with ``watching`` and then the name and content of the file that changes.
"""

import asyncio
import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from carrel.errors import CarrelError
from carrel.main import privilege
from carrel.main.privilege import Places, drop_root
from carrel.vcs.git import Git

SECONDS = 20.0
IN_CLOSE_WRITE, IN_MOVED_TO = 0x8, 0x80
BWRAP = (
    "bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--assert-userns-disabled", "--new-session",
    "--die-with-parent", "--cap-drop", "ALL", "--clearenv", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib",
    "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin", "--proc", "/proc", "--dev", "/dev",
)  # fmt: skip


def attempt(work: Callable[[], object]) -> object:
    """What ``work`` gives, or the kind of error it ends with."""
    try:
        return work()
    except OSError as error:
        return type(error).__name__ if error.errno != 30 else "read-only"


def sandboxed(workspace: Path, script: str) -> list[str]:
    """What ``script`` prints in a sandbox with ``workspace`` given by descriptor."""
    fd = os.open(workspace, os.O_PATH | os.O_DIRECTORY)
    done = subprocess.run(
        [*BWRAP, "--bind-fd", str(fd), "/workspace", "--chdir", "/workspace", "--remount-ro", "/",
         "/bin/sh", "-c", script],
        pass_fds=[fd], capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    os.close(fd)
    return [str(done.returncode), *done.stdout.splitlines(), *done.stderr.splitlines()]


def declared(places: Places) -> Path:
    """The directory of declarations, which these tests always have."""
    assert places.tenants_dir is not None
    return places.tenants_dir


def report(places: Places, starter: int) -> dict[str, object]:
    """Everything that the tests judge."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if line.startswith(("Cap", "No")))
    before = standing()
    descriptors = [str(path) for path in Path("/proc/self/fd").iterdir() if int(path.name) > 2 and path.exists()]
    again = drop_root(places)
    forged = drop_root(places, environ={privilege.STARTER: "12345:1"})
    made = declared(places) / "made.yaml"
    home = declared(places).parents[1]
    workspace = places.state_dir / "workspace"
    workspace.mkdir(exist_ok=True)
    assert places.secrets_dir is not None
    secret = places.secrets_dir / "KEY"
    return {
        "starter": starter,
        "again": again,
        "forged": forged,
        "unchanged": before == standing(),
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "status": {name: value.strip() for name, value in status.items()},
        "root_again": attempt(lambda: os.setuid(0)),
        "descriptors": descriptors,
        "environ": dict(os.environ),
        "cwd": str(Path.cwd()),
        "code": privilege.__file__,
        "python": sys.executable,
        "secret": attempt(secret.read_text),
        "state": attempt(lambda: (places.state_dir / "kept").write_text("kept")),
        "declared": attempt(lambda: made.write_text("plan: basic\n")),
        "commit": asyncio.run(commit(made)),
        "plain_git": plain_git(declared(places).parent),
        "code_written": attempt(lambda: Path(privilege.__file__).write_text("changed")),
        "diary": attempt((home / "diary").read_text),
        "private": attempt((home / "checkout" / "private" / "file").read_text),
        "core_pattern": attempt(lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)),
        "sandbox": sandboxed(
            workspace,
            "echo made > made; cat made; (: >> /proc/sys/kernel/core_pattern) && echo open || echo no",
        ),
    }  # fmt: skip


def plain_git(place: Path) -> str:
    """What git says that is told nothing of whose work tree it is."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


def standing() -> tuple[object, ...]:
    """Who and where this process is."""
    return os.getresuid(), str(Path("/proc/self/ns/mnt").readlink()), dict(os.environ)


async def commit(path: Path) -> str | None:
    """The commit that the declaration went into."""
    git = await Git.find(path.parent)
    assert git is not None
    return await git.commit([path], "Declare a tenant")


def serve(places: Places) -> None:
    """Answer what standard input asks for, until it ends."""
    for line in sys.stdin:
        if line.strip() == "socket":
            run = places.state_dir / "run"
            run.mkdir(exist_ok=True)
            with socket.socket(socket.AF_UNIX) as listening:
                listening.settimeout(SECONDS)
                listening.bind(str(run / "control.sock"))
                listening.listen()
                say("listening")
                with listening.accept()[0] as peer:
                    say(struct.unpack("iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
        elif line.strip() == "watch":
            libc = ctypes.CDLL(None)
            fd = libc.inotify_init1(os.O_CLOEXEC)
            libc.inotify_add_watch(fd, os.fsencode(declared(places)), IN_CLOSE_WRITE | IN_MOVED_TO)
            say("watching")
            changed = "nothing"
            if select.select([fd], [], [], SECONDS)[0]:
                changed = os.read(fd, 4096)[16:].split(b"\0", 1)[0].decode()
            os.close(fd)
            say([changed, (declared(places) / changed).read_text()])


def say(what: object) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Step down, tell, serve."""
    home = Path(sys.argv[1])
    places = Places(home / "state", Path("tenants.d").absolute(), home / "secrets")
    try:
        starter = drop_root(places)
    except CarrelError as error:
        say({"error": error.code, "message": error.message, "uid": os.geteuid()})
        return 1
    say(report(places, starter))
    serve(places)
    return 0


if __name__ == "__main__":
    sys.exit(main())
