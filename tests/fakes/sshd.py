"""A real sshd on loopback, for one module's tests."""

import getpass
import os
import subprocess
import time
from pathlib import Path

from tests.fakes.gateway_process import free_port
from tests.fakes.repositories import keypair

SSHD = "/usr/sbin/sshd"


class Sshd:
    """An sshd that takes the keys in ``keys`` for whoever runs the tests. ``start`` it, ``stop`` it."""

    def __init__(self, home: Path, keys: Path) -> None:
        self.home = home
        self.port = free_port()
        self.user = getpass.getuser()
        self._keys = keys
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Sshd":
        """Start it and wait until it listens."""
        self.home.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        host = keypair(self.home / "host")
        (self.home / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host.with_suffix('.pub').read_text()}")
        config = self.home / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {host}\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin forced-commands-only\n"
            f"AuthorizedKeysFile {self._keys}\nMaxStartups 100\n"
        )
        with (self.home / "sshd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(config)], stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 60
        while "Server listening" not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return self

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self.home / "sshd.log").read_text(errors="replace")

    def ssh(self, key: Path) -> str:
        """The ssh command, as git takes it, that logs in with ``key``."""
        return (
            f"ssh -F /dev/null -i {key} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes "
            f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={self.home / 'known_hosts'} -o LogLevel=ERROR"
        )

    def url(self, path: str) -> str:
        """The address of a repository."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}/{path.lstrip('/')}"

    def run(self, key: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        """Log in with ``key`` and ask for ``words``."""
        argv = [*self.ssh(key).split(), "-p", str(self.port), f"{self.user}@127.0.0.1", *words]
        return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
