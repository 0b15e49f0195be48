"""A second Linux kernel, as a program: user-mode Linux, with the host's files to read and all controllers of cgroup v2.

It starts in two seconds and needs no rights. What a machine's own kernel has bound to version 1, or has not delegated,
is there: the tests that it runs are held by real limits, and a real systemd hands a group over.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache" / "user-mode-linux"
SECONDS: Final = 540.0
_MOUNTS: Final = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t tmpfs none /run; mkdir -m 1777 /run/tmp
"""
_COMMAND: Final = """
mount -t sysfs sys /sys; mount -t cgroup2 none /sys/fs/cgroup
export TMPDIR=/run/tmp HOME=/run/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={root}
cd {root}/python && {command} 2>&1
echo "{mark} $?"
echo o > /proc/sysrq-trigger
while :; do sleep 1; done
"""
_SERVICE: Final = """
mkdir -p /run/units /run/code/carrel/sandbox/launcher /run/systemd
for file in __init__ sandbox/__init__ sandbox/delegation sandbox/launcher/__init__ sandbox/launcher/groups; do
  cp {root}/python/carrel/$file.py /run/code/carrel/$file.py
done
cat > /run/code/ask.py << 'END_OF_CODE'
{code}
END_OF_CODE
cat > /run/units/default.target << 'END_OF_UNIT'
[Unit]
Requires=asked.service
After=asked.service
END_OF_UNIT
cat > /run/units/asked.service << 'END_OF_UNIT'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
User=nobody
Environment=PYTHONPATH=/run/code PYTHONDONTWRITEBYTECODE=1
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
ExecStart=/usr/bin/python3 /run/code/ask.py
ExecStopPost=+/bin/sh -c 'echo "{mark} $$EXIT_STATUS" > /dev/console; echo o > /proc/sysrq-trigger'
{settings}
END_OF_UNIT
export SYSTEMD_UNIT_PATH=/run/units SYSTEMD_LOG_LEVEL=warning SYSTEMD_LOG_TARGET=console SYSTEMD_SHOW_STATUS=no
exec /lib/systemd/systemd
"""
MARK: Final = "the command ended with"


def program() -> Path:
    """The kernel: the system's, else one that is fetched into .cache."""
    there = shutil.which("linux.uml")
    if there is not None:
        return Path(there)
    kernel = CACHE / "usr" / "bin" / "linux.uml"
    if not kernel.exists():
        if shutil.which("apt-get") is None:
            pytest.skip("there is no linux.uml here, and no apt-get to fetch it: install the package user-mode-linux")
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", "user-mode-linux"], cwd=CACHE, check=True, capture_output=True)
        package = next(CACHE.glob("user-mode-linux_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(CACHE)], check=True)
        package.unlink()
    return kernel


def run_pytest(file: Path) -> str:
    """What pytest writes about ``file`` in a kernel of its own; fails where it does not come to its end."""
    command = (
        f"{sys.executable} -m pytest -c pyproject.toml --rootdir .. -p no:cacheprovider -p no:xdist -q -rA --tb=short "
        f"--color=no {file}"
    )
    return boot(_COMMAND.format(root=ROOT, command=command, mark=MARK), memory="640M")


def run_as_service(code: str, *settings: str) -> str:
    """What the program ``code`` writes as a systemd service with ``settings``, started by an unprivileged user."""
    if not Path("/lib/systemd/systemd").exists():
        pytest.skip("there is no systemd here: install the package systemd")
    return boot(_SERVICE.format(root=ROOT, code=code, mark=MARK, settings="\n".join(settings)), memory="320M")


def boot(script: str, *, memory: str) -> str:
    """What is written to the console until the end is told; ``script`` is the first process's."""
    with tempfile.TemporaryDirectory(prefix="carrel-kernel-") as directory:
        init = Path(directory, "init")
        init.write_text(_MOUNTS + script)
        init.chmod(0o755)
        done = subprocess.run(
            [program(), f"mem={memory}", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}", "con=null",
             "con0=null,fd:1", f"uml_dir={directory}", "quiet", "loglevel=1"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    text = done.stdout.decode("utf-8", "replace").replace("\r\n", "\n")
    before, mark, _ = text.partition(MARK)
    assert mark, f"it did not come to its end:\n{text[-4000:]}\n{done.stderr.decode('utf-8', 'replace')[-2000:]}"
    return before
