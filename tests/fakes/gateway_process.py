"""The whole gateway as a process, started from outside as a user would."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.patience import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
CARREL = Path(sys.executable).parent / "carrel"
TOKEN = re.compile(r"^(tk_[a-z0-9][a-z0-9_-]{0,31}_[0-9a-f]{32})$", re.MULTILINE)


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Reply:
    """What an HTTP request got back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class GatewayProcess:
    """``carrel gateway`` on a directory of declarations and a state directory, both kept across restarts."""

    home: Path
    port: int = field(default_factory=free_port)
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    closure: bool = False
    git: Path | None = None
    program: tuple[str, ...] = (str(CARREL),)
    process: "subprocess.Popen[str] | None" = None
    output: list[str] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)

    @property
    def tenants_dir(self) -> Path:
        return self.home / "tenants.d"

    @property
    def state_dir(self) -> Path:
        return self.home / "state"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self, *, sample: bool = True) -> "GatewayProcess":
        """Lay out the home; ``sample`` copies the repository's tenants.d. Traversable, so that any uid may serve it."""
        self.home.mkdir(parents=True, exist_ok=True)
        if sample:
            shutil.copytree(REPOSITORY / "tenants.d", self.tenants_dir, dirs_exist_ok=True)
            if not self.closure:
                # Each state directory would build the same closure anew; the host's userland does for most tests.
                operator = self.tenants_dir / "_gateway.yaml"
                told = operator.read_text(encoding="utf-8")
                assert "source: test-set" in told
                operator.write_text(told.replace("source: test-set", "source: none"), encoding="utf-8")
        return self

    def start(self, *, wait: float = PATIENCE) -> "GatewayProcess":
        """Start it and wait until it is ready."""
        self.process = subprocess.Popen(
            [
                *self.program, "gateway", "--listen", f"127.0.0.1:{self.port}",
                *(("--tenants-dir", str(self.tenants_dir)) if self.git is None else ("--git", str(self.git))),
                "--state-dir", str(self.state_dir), *self.args,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            env={**os.environ, **self.env}, cwd=self.home, start_new_session=True,
        )  # fmt: skip
        reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        reader.start()
        self._readers.append(reader)
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                reader.join(PATIENCE)
                raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.text}")
            try:
                if self.request("GET", "/readyz").status == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"the gateway was not ready in {wait} s:\n{self.text}")

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            self.output.extend(iter(process.stdout.readline, ""))

    @property
    def text(self) -> str:
        """Everything printed so far, logs included."""
        return "".join(self.output)

    @property
    def token(self) -> str:
        """The token that the first start printed."""
        found = TOKEN.search(self.text)
        assert found, self.text
        return found.group(1)

    def stop(self, *, sig: int = signal.SIGTERM, wait: float = PATIENCE) -> int:
        """End it by ``sig`` and give its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            status = self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the gateway did not stop in {wait} s:\n{self.text}") from None
        finally:
            for reader in self._readers:
                reader.join(PATIENCE)
        return status

    def kill(self) -> None:
        """End it as a power cut would end the process."""
        self.stop(sig=signal.SIGKILL)

    def request(
        self, method: str, path: str, body: object = None, *, token: str | None = None,
        headers: Mapping[str, str] | None = None, timeout: float = PATIENCE,
    ) -> Reply:  # fmt: skip
        """One HTTP request; a body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=dict(headers or {}))
        if data is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return Reply(reply.status, dict(reply.headers), reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def rpc(self, method: str, params: object = None, *, token: str | None = None) -> Any:
        """One JSON-RPC call with the demo token (or another); the result, or the error object."""
        reply = self.request(
            "POST", "/rpc", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}},
            token=token or self.token,
        )  # fmt: skip
        answer = reply.json()
        return answer.get("result", answer.get("error"))

    def cli(self, *words: str, wait: float = PATIENCE, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """``carrel WORDS`` against this gateway's control socket."""
        return carrel(*words, cwd=self.home, wait=wait, stdin=stdin, env={"CARREL_STATE_DIR": str(self.state_dir)})


def carrel(
    *words: str, cwd: Path, wait: float = PATIENCE, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """The command as a user runs it; never raises for its status."""
    argv: Sequence[str] = [str(CARREL), *words]
    return subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, timeout=wait, input=stdin or "", check=False,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "160", **(env or {})},
    )  # fmt: skip
