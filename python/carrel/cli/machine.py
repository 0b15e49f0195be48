"""What of a machine `carrel doctor` looks at: its kernel, its sandbox, its disk and its clock."""

import asyncio
import errno
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from carrel.cli.findings import Finding, State
from carrel.errors import CarrelError

if TYPE_CHECKING:
    from carrel.sandbox.protocol import Confinement

LEAST_BYTES: Final = 64 << 20
FEW_BYTES: Final = 1 << 30
LEAST_INODES: Final = 10_000
LEAST_FILES: Final = 1024
FEW_FILES: Final = 8192
OLDEST_BUBBLEWRAP: Final = (0, 8)
_OLDEST_CLOCK: Final = 1_760_000_000
_BEHIND_SECONDS: Final = 60.0
_NOBODY: Final = 60987
_FORBIDDING: Final[tuple[tuple[str, str, State], ...]] = (
    ("kernel/unprivileged_userns_clone", "0", "fault"),
    ("user/max_user_namespaces", "0", "fault"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "warning"),
)
"""Settings that forbid user namespaces: each with the value that does, and how sure that is."""
_ACTIONS: Final = frozenset({"allow", "errno", "kill_process"})
"""What our filters do with a call."""


def kernel(release: str) -> Finding:
    """Whether the kernel counts processes by user namespace."""
    numbers = tuple(int(part) for part in release.split("-", maxsplit=1)[0].split(".")[:2] if part.isdigit())
    if numbers >= (5, 14):
        return Finding("kernel", "ok", f"Linux {release}")
    return Finding(
        "kernel", "fault", f"Linux {release} counts a sandbox's processes together with those of all others.",
        "Run Linux 5.14 or later.",
    )  # fmt: skip


def opening() -> Finding:
    """Whether tenants' files can be opened beneath their roots."""
    from carrel.tenancy.paths import require_openat2  # noqa: PLC0415 - the command line starts without it

    try:
        require_openat2()
    except CarrelError as error:
        mend = "Run Linux 5.6 or later; in a container, let openat2 through its seccomp profile."
        return Finding("openat2", "fault", error.message, mend)
    return Finding("openat2", "ok", "It works.")


def namespaces(settings: Path, *, holds: bool) -> Iterator[Finding]:
    """Whether an unprivileged user may make namespaces. Where a sandbox ``holds``, what is set does no harm."""
    wrong = False
    for name, bad, weight in _FORBIDDING:
        try:
            value = (settings / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if value != bad or holds:
            continue
        wrong = True
        dotted, may = name.replace("/", "."), "may not" if weight == "warning" else "cannot"
        other = "an AppArmor profile for bwrap that allows `userns`, or " if "apparmor" in name else ""
        good = "15000" if "max" in name else "1" if bad == "0" else "0"
        yield Finding(
            "user namespaces", weight, f"{dotted} is {bad}, so bubblewrap {may} be able to make any.",
            f"{other}sysctl -w {dotted}={good}, and the same in /etc/sysctl.d to keep it.",
        )  # fmt: skip
    if not wrong:
        yield Finding("user namespaces", "ok", "An unprivileged user may make them.")


def filters(settings: Path, *, holds: bool) -> Finding:
    """Whether the kernel can filter system calls. Where a sandbox ``holds``, it does."""
    try:
        known = set((settings / "kernel/seccomp/actions_avail").read_text(encoding="ascii").split())
    except (OSError, UnicodeDecodeError):
        known = set()
    missing = sorted(_ACTIONS - known)
    if holds or not missing:
        return Finding("seccomp", "ok", "System calls can be filtered.")
    return Finding(
        "seccomp", "fault", f"This kernel cannot filter system calls (it lacks {', '.join(missing)}).",
        "Run a kernel with CONFIG_SECCOMP_FILTER; a container's runtime may hide it.",
    )  # fmt: skip


def cgroups(process: Path = Path("/proc/self")) -> Finding:
    """Whether a gateway started from here could limit a sandbox as a whole."""
    from carrel.sandbox import delegation  # noqa: PLC0415 - as in `opening`

    try:
        found = delegation.found(process)
    except delegation.NotDelegated as error:
        reason, _, mend = str(error).partition(": ")
        text = f"Memory, processors and processes would be limited for each process, not for a sandbox: {reason}."
        return Finding("cgroups", "warning", text, _sentence(mend) or "Mount a cgroup v2 hierarchy (systemd does).")
    except OSError as error:
        return Finding("cgroups", "warning", f"They cannot be looked at: {error.strerror}.", "Mount /proc.")
    return Finding("cgroups", "ok", f"{found} is delegated to whoever starts a gateway from here.")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def tried() -> Finding:
    """Whether a sandbox holds here: a real one is started, whose probe looks around in it."""
    if shutil.which("bwrap") is None:
        return Finding(
            "sandbox", "fault", "bubblewrap is missing, so no tool can run.",
            "Install the package `bubblewrap` (apt, dnf, pacman, zypper).",
        )  # fmt: skip
    uid = _NOBODY if os.geteuid() == 0 else None
    found = asyncio.run(_check(uid))
    if found is None:
        return Finding("sandbox", "ok", "A real one was started and holds.")
    if uid is not None and "Permission denied" in found:
        return Finding(
            "sandbox", "warning", f"It could not be tried as another user than root: {found}",
            "Start a gateway, which shows that user what it needs, and ask again.",
        )  # fmt: skip
    return Finding("sandbox", "fault", found, "Update bubblewrap to 0.8 or later, and mend what is above.")


def bubblewrap() -> Iterator[Finding]:
    """Whether bubblewrap, where it is there, is recent enough."""
    program = shutil.which("bwrap")
    if program is None:
        return
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("bubblewrap", "fault", f"{program} cannot be run: {error}.", _NEWER.format(program))
        return
    words = done.stdout.split()
    said = words[-1] if words else "nothing"
    numbers = tuple(int(part) for part in said.split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers >= OLDEST_BUBBLEWRAP:
        yield Finding("bubblewrap", "ok", f"{program} is {said}.")
    else:
        wanted = ".".join(map(str, OLDEST_BUBBLEWRAP))
        yield Finding("bubblewrap", "fault", f"{program} says {said}; {wanted} is needed.", _NEWER.format(program))


_NEWER: Final = "Install a newer package `bubblewrap`, and see that `command -v bwrap` is that one, not {}."


def files(limit: int) -> Finding:
    """Whether a gateway started from here may open enough files; ``limit`` is how many at most."""
    if limit >= FEW_FILES:
        return Finding("file limit", "ok", f"{limit} files may be open.")
    weight: State = "fault" if limit < LEAST_FILES else "warning"
    return Finding(
        "file limit", weight, f"Only {limit} files may be open (ulimit -Hn).",
        "LimitNOFILE=524288 in the gateway's unit, or `* hard nofile 524288` in /etc/security/limits.conf.",
    )  # fmt: skip


def launcher(path: Path, listening: str) -> Finding:
    """Whether the launcher's own unit listens at ``path``, by ``listening``, which is `/proc/net/unix`."""
    mend = "systemctl status carrel-launcher.socket tells why; systemctl start carrel-launcher.socket"
    try:
        found = path.stat()
    except OSError as error:
        return Finding("launcher", "fault", f"{path}: {error.strerror}.", mend)
    if not stat.S_ISSOCK(found.st_mode):
        return Finding("launcher", "fault", f"{path} is no socket.", mend)
    if not any(line.endswith(f" {path}") for line in listening.splitlines()):
        return Finding("launcher", "fault", f"Nothing listens at {path}: it is what a unit that ended has left.", mend)
    return Finding("launcher", "ok", f"A unit listens at {path}.")


def runtimes(wanted: "Collection[Confinement]", told: Mapping[str, str | None]) -> Iterator[Finding]:
    """Which OCI runtimes work here, each tried with a real container. One that is ``wanted`` and does not is a fault.

    ``told`` is what a gateway that runs has found already.
    """
    from carrel.sandbox.oci.runtimes import WELL_KNOWN  # noqa: PLC0415 - as in `opening`
    from carrel.sandbox.protocol import Confinement  # noqa: PLC0415 - as in `opening`

    uid = _NOBODY if os.geteuid() == 0 else None
    known = (*(Confinement("oci", name) for name in WELL_KNOWN), Confinement("oci", engine="podman"))
    for way in dict.fromkeys((*wanted, *known)):
        name = way.runner
        found = told[name] if name in told else asyncio.run(_check(uid, way))
        if found is None:
            yield Finding(f"runtime {name}", "ok", "A real container was started and holds.")
        elif way not in wanted and uid is not None and "Permission denied" in found:
            text = f"No mode names it, and it could not be tried as another user than root: {found}"
            yield Finding(f"runtime {name}", "ok", text)
        elif way not in wanted:
            yield Finding(f"runtime {name}", "ok", f"No mode names it, and it would run nothing: {found}")
        elif uid is not None and "Permission denied" in found:
            yield Finding(
                f"runtime {name}", "warning", f"It could not be tried as another user than root: {found}",
                "Start a gateway, which shows that user what it needs, and ask again.",
            )  # fmt: skip
        else:
            mend = "Mend that, or name another in `runtime_class` or `engine` of the modes of the sandbox."
            yield Finding(f"runtime {name}", "fault", f"Commands of its modes are refused: {found}", mend)


async def _check(uid: int | None, confinement: "Confinement | None" = None) -> str | None:
    from carrel.sandbox.runner import BwrapSandbox  # noqa: PLC0415 - as in `opening`

    runner = BwrapSandbox(launch_uid=uid)
    try:
        return await runner.check(confinement)
    except CarrelError as error:
        return error.message
    finally:
        await runner.close()


def state(path: Path) -> Iterable[Finding]:
    """Whether the state directory is its owner's alone and has room, and whether time went on since it was written."""
    try:
        found = path.stat()
    except OSError as error:
        text = f"{path}: {error.strerror}."
        if isinstance(error, FileNotFoundError):
            yield Finding("state", "ok", f"{text} The first start of the gateway makes it.")
        else:
            yield Finding("state", "warning", text, "Run this as root, or as the gateway's user.")
        return
    if found.st_mode & 0o077:
        text = f"{path} is open to others (mode {found.st_mode & 0o777:o})."
        yield Finding("state", "fault", text, f"chmod 0700 {path}")
    elif os.geteuid() not in (0, found.st_uid):
        text = f"{path} belongs to uid {found.st_uid}, which is not yours."
        yield Finding("state", "warning", text, "Run this as root, or as the gateway's user.")
    else:
        yield Finding("state", "ok", str(path))
    yield read_only(path) or room(path, os.statvfs(path))


def read_only(path: Path) -> Finding | None:
    """A fault where the file system of ``path`` takes no writes, as one does that met an error of its disk."""
    try:
        # A file without a name, gone at once: what was mounted for writing may refuse it all the same.
        os.close(os.open(path, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EIO):
            text = f"The file system of {path} takes no writes ({error.strerror}): calls are refused."
            mend = "See the kernel's log (dmesg), check the disk, mount it for writing, and start the gateway again."
            return Finding("disk", "fault", text, mend)
    return None


def room(path: Path, found: os.statvfs_result) -> Finding:
    """Whether ``found``, the file system of ``path``, has bytes and inodes left."""
    free = found.f_bavail * found.f_frsize
    if found.f_files > 0 and found.f_favail < LEAST_INODES:
        text = f"{found.f_favail} files can still be made for {path}: calls are refused where none can."
        return Finding("disk", "fault", text, "Remove files, or move the state directory.")
    if free < FEW_BYTES:
        text = f"{free >> 20} MiB are left for {path}: calls are refused where none is."
        weight: State = "fault" if free < LEAST_BYTES else "warning"
        return Finding("disk", weight, text, "Make room, or move the state directory.")
    return Finding("disk", "ok", f"{free >> 30} GiB are left.")


def clock(now: float, newest: float = 0.0) -> Finding:
    """Whether the clock can be right: quotas, bills and tokens' ends rest on it. ``newest`` is a file's time."""
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < _OLDEST_CLOCK:
        return Finding("clock", "fault", f"It says {said}.", "Set it, best by a time service (NTP).")
    if newest > now + _BEHIND_SECONDS:
        written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(newest))
        text = f"It says {said}, and the record was written at {written}."
        return Finding("clock", "fault", text, "It went back: set it, best by a time service (NTP).")
    return Finding("clock", "ok", said)


def newest(directory: Path) -> float:
    """When anything in ``directory`` was last written, 0 where that cannot be told."""
    try:
        return max((file.stat().st_mtime for file in directory.iterdir()), default=0.0)
    except OSError:
        return 0.0
