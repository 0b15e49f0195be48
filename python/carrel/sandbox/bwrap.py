"""The arguments of bubblewrap for one job, and the few files of /etc that a sandbox gets: pure.

Everything comes from what is declared (limits, userland) and from constants here. Nothing that a model can say reaches
an option: its command stands behind ``--``, its text in standard input.
"""

from dataclasses import dataclass
from typing import Final

from carrel.sandbox.launcher import BLOCK_FD, FIRST_FILE, STATUS_FD, WORKSPACE_FD
from carrel.sandbox.protocol import Job

UID: Final = 1000
HOME: Final = "/workspace"
TMP: Final = "/tmp"  # noqa: S108 - in the sandbox, where it is its own
SHM: Final = "/dev/shm"  # noqa: S108 - as above
SHM_BYTES: Final = 64 << 20
RESERVED_ENV: Final = frozenset({"PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"})

ETC: Final[tuple[tuple[str, bytes], ...]] = (
    ("passwd", b"agent:x:1000:1000:agent:/workspace:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("group", b"agent:x:1000:\nnogroup:x:65534:\n"),
    ("hosts", b"127.0.0.1 localhost sandbox\n::1 localhost sandbox\n"),
    ("nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\n"),
    ("resolv.conf", b""),
)
"""All that is in /etc. No line of the host's is in it."""

_NAMESPACES: Final = (
    # The network is new already: the launcher has made it, for the gate to listen in.
    "--unshare-all", "--share-net", "--unshare-user", "--disable-userns", "--assert-userns-disabled",
    "--new-session", "--die-with-parent", "--cap-drop", "ALL", "--clearenv",
    "--uid", str(UID), "--gid", str(UID), "--hostname", "sandbox",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Files:
    """The descriptors that bwrap reads: the two seccomp programs first, then /etc's files in the order of ``ETC``.

    After them come those of one job alone.
    """

    filters: int

    def filter_fds(self) -> range:
        """Where the seccomp programs are."""
        return range(FIRST_FILE, FIRST_FILE + self.filters)

    def etc_fd(self, place: int) -> int:
        """Where the file ``ETC[place]`` is."""
        return FIRST_FILE + self.filters + place

    def job_fd(self, place: int) -> int:
        """Where the job's own file at ``place`` is."""
        return FIRST_FILE + self.filters + len(ETC) + place


def arguments(job: Job, files: Files) -> list[str]:
    """The options of bwrap, as they go into ``--args``; the command goes behind them on the command line."""
    options = [*_NAMESPACES]
    for mount in job.userland.mounts:
        options += ["--ro-bind", mount.source, mount.target]
    for target, link in job.userland.links:
        options += ["--symlink", target, link]
    for place, (name, _) in enumerate(ETC):
        options += ["--perms", "0444", "--file", str(files.etc_fd(place)), f"/etc/{name}"]
    for place, name in enumerate(job.gate.files if job.gate is not None else ()):
        options += ["--perms", "0444", "--file", str(files.job_fd(place)), f"/etc/{name}"]
    options += [
        # Read-only, so that no file in it can be written whoever the writer is: /proc/sys is in there.
        "--proc", "/proc", "--remount-ro", "/proc",
        # /dev is a tmpfs that belongs to the sandbox's uid: left writable it would be memory without a limit.
        "--dev", "/dev", "--size", str(SHM_BYTES), "--perms", "1777", "--tmpfs", SHM, "--remount-ro", "/dev",
        "--size", str(job.limits.tmp_bytes), "--perms", "1777", "--tmpfs", TMP,
        "--bind-fd", str(WORKSPACE_FD), "/workspace", "--chdir", job.cwd,
    ]  # fmt: skip
    for name, value in environment(job).items():
        options += ["--setenv", name, value]
    options += ["--remount-ro", "/"]
    for fd in files.filter_fds():
        options += ["--add-seccomp-fd", str(fd)]
    if job.confinement.refusals:
        # Behind the gate's files: a program more, which can only refuse.
        options += ["--add-seccomp-fd", str(files.job_fd(len(job.gate.files) if job.gate is not None else 0))]
    return [*options, "--json-status-fd", str(STATUS_FD), "--block-fd", str(BLOCK_FD)]


def environment(job: Job) -> dict[str, str]:
    """The whole environment inside. What a job adds cannot change where programs and libraries are looked up."""
    fixed = {
        "PATH": job.userland.search_path, "HOME": HOME, "TMPDIR": TMP, "LANG": "C.UTF-8", "TERM": "dumb",
        "USER": "agent", "LOGNAME": "agent", "SHELL": job.userland.shell,
    }  # fmt: skip
    way_out = job.gate.env if job.gate is not None else {}
    added = {name: value for name, value in {**job.env, **way_out}.items() if name not in RESERVED_ENV}
    return {**fixed, **dict(job.userland.env), **added}


def rlimits(job: Job) -> dict[str, tuple[int, int]]:
    """The kernel's limits by name without ``RLIMIT_``, soft and hard; bytes, seconds or counts."""
    limits = job.limits
    exact = {
        # What is private and writable, not address space: runtimes reserve far more of that than they use.
        "DATA": limits.memory_bytes,
        "NPROC": limits.pids,
        "NOFILE": limits.open_files,
        "FSIZE": limits.file_size_bytes,
        "CORE": 0,
        "MEMLOCK": 1 << 20,
        "MSGQUEUE": 1 << 20,
        "SIGPENDING": 4096,
    }
    # SIGXCPU first, by which the reason is known, and SIGKILL a second later for what goes on.
    return {"CPU": (limits.cpu_seconds, limits.cpu_seconds + 1)} | {name: (n, n) for name, n in exact.items()}
