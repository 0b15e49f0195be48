"""What must agree about the modes of a sandbox: their names, and the system calls that they refuse."""

from collections.abc import Iterable, Iterator
from typing import Final

from carrel.declare.problems import Finding, Path, nearest, shown
from carrel.declare.tenant import BWRAP_MODE, SandboxConfig, SandboxMode, SeccompProfile

CALLS: Final = frozenset(
    {
        "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "capget", "capset", "chdir", "chmod",
        "chown", "clock_getres", "clock_gettime", "clock_nanosleep", "clone", "close", "close_range", "connect",
        "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl",
        "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "execve", "execveat", "exit",
        "exit_group", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchown",
        "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr",
        "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futimesat", "get_robust_list", "get_thread_area",
        "getcpu", "getcwd", "getdents", "getdents64", "getegid", "geteuid", "getgid", "getgroups", "getitimer",
        "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
        "getresuid", "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday",
        "getuid", "getxattr", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
        "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit", "ioctl", "ioprio_get", "ioprio_set",
        "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lgetxattr",
        "link", "linkat", "listen", "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat",
        "madvise", "membarrier", "memfd_create", "mincore", "mkdir", "mkdirat", "mlock", "mlock2", "mlockall",
        "mmap", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink",
        "mremap", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap", "nanosleep",
        "newfstatat", "open", "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2",
        "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "prctl", "pread64", "preadv", "preadv2",
        "prlimit64", "process_mrelease", "pselect6", "pwrite64", "pwritev", "pwritev2", "read", "readahead",
        "readlink", "readlinkat", "readv", "recvfrom", "recvmmsg", "recvmsg", "remap_file_pages", "removexattr",
        "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending",
        "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
        "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
        "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
        "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl",
        "semget", "semop", "semtimedop", "sendfile", "sendmmsg", "sendmsg", "sendto", "set_robust_list",
        "set_thread_area", "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups", "setitimer", "setpgid",
        "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setrlimit", "setsid", "setsockopt",
        "setuid", "setxattr", "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd",
        "signalfd4", "socket", "socketpair", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync",
        "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create", "timer_delete",
        "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime",
        "timerfd_settime", "times", "tkill", "truncate", "umask", "uname", "unlink", "unlinkat", "utime",
        "utimensat", "utimes", "vfork", "wait4", "waitid", "write", "writev",
    }
)  # fmt: skip
"""The system calls that a sandbox has, and that a mode may refuse: those that its filters let through."""


NEEDED: Final = ("execve", "exit_group")
"""Without these nothing runs."""


def call_findings(path: Path, sandbox: SandboxConfig) -> Iterator[Finding]:
    """A finding for each mode or profile of ``sandbox``, at ``path``, that may not be called or refuse as it does."""
    for name, mode in sandbox.modes.items():
        if name == BWRAP_MODE:
            message = "`bwrap` is the mode without anything of its own: name this one otherwise"
            yield Finding((*path, "modes", name), message, at_key=True)
        if mode.engine is not None:
            yield from _engine_findings((*path, "modes", name, "engine"), mode)
        yield from _unknown((*path, "modes", name, "deny_calls"), mode.deny_calls, "there is nothing to refuse")
    for name, profile in sandbox.profiles.items():
        where = (*path, "profiles", name)
        yield from _unknown((*where, "deny_calls"), profile.deny_calls, "there is nothing to refuse")
        yield from _unknown(
            (*where, "allow_calls"), profile.allow_calls or (), "a profile can only narrow what it does"
        )
        missing = _missing(profile)
        if missing:
            message = f"no command can begin and end without {' and '.join(missing)}: let that through"
            yield Finding(where, message, at_key=True)


def _missing(profile: SeccompProfile) -> list[str]:
    through = CALLS if profile.allow_calls is None else set(profile.allow_calls)
    return [call for call in NEEDED if call not in through or call in profile.deny_calls]


def _unknown(where: Path, calls: Iterable[str], why: str) -> Iterator[Finding]:
    for index, call in enumerate(calls):
        if call not in CALLS:
            message = f"the sandbox lets no system call of this name through: {why}"
            yield Finding((*where, index), message, shown(call), nearest=nearest(call, CALLS))


def _engine_findings(where: Path, mode: SandboxMode) -> Iterator[Finding]:
    if mode.engine == "docker":
        message = (
            "docker has a daemon that is root, makes containers of images alone, and takes neither a network nor a "
            "workspace that is held by descriptor: nothing is run by it. Name `podman`, or leave `engine` out"
        )
        yield Finding(where, message, shown(mode.engine), ("podman",))
    elif mode.runtime != "oci":
        yield Finding(where, "an engine is for `runtime: oci`: name that too, or leave this out", shown(mode.engine))


def mode_findings(path: Path, sandbox: SandboxConfig) -> Iterator[Finding]:
    """A finding for each mode that ``sandbox`` names and nobody declares."""
    choice = (BWRAP_MODE, *sandbox.modes)
    named: dict[Path, str] = {("default_mode",): sandbox.default_mode}
    named |= {("tool_modes", tool): mode for tool, mode in sandbox.tool_modes.items()}
    for where, mode in named.items():
        if mode not in choice:
            yield Finding((*path, *where), "no such mode is declared", shown(mode), choice, nearest(mode, choice))
    profiles = tuple(sandbox.profiles)
    for name, declared in sandbox.modes.items():
        profile = declared.seccomp
        if profile is not None and profile not in profiles:
            message = "no such profile is declared in `sandbox.profiles`"
            where = (*path, "modes", name, "seccomp")
            yield Finding(where, message, shown(profile), profiles, nearest(profile, profiles))
