"""The gateway's end of the launcher: starts it (anew when lost), sends orders, hears how sandboxes ended.

Where the launcher is a service of its own, starting it is connecting to its socket.
"""

import array
import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, ConfigDict

from carrel.errors import SandboxUnavailable
from carrel.sandbox import launcher
from carrel.sandbox.launcher import packets
from carrel.sandbox.launcher.packets import memory
from carrel.sandbox.launching import archive, command
from carrel.sandbox.protocol import KillReason

START_SECONDS: Final = 15.0
UNIT_SECONDS: Final = 90.0
"""The same where systemd starts it, and a machine that boots has much to start."""
KILL_SECONDS: Final = 10.0
_log = structlog.get_logger(__name__)


class Ending(BaseModel):
    """How a sandbox ended, as the launcher tells it. ``began`` is False where bwrap did not come to the command.

    ``max_rss`` is the most memory of all that was in it where there is a group, else of its largest process; ``pids``
    the most processes, 0 where nobody counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    exit_code: int | None
    began: bool
    killed: KillReason | None
    seconds: float
    cpu_seconds: float
    max_rss: int
    refused_forks: int = 0
    pids: int = 0


LOST: Final = Ending(exit_code=None, began=True, killed="launcher_lost", seconds=0.0, cpu_seconds=0.0, max_rss=0)


class Link:
    """One launcher process at a time. ``files`` is what each sandbox is given at ``launcher.FIRST_FILE`` and on.

    The first ``filters`` of them are seccomp programs. ``launch_uid`` is for a caller who is root, and is who the
    launcher becomes before it does anything. ``groups`` is the prepared cgroup that its sandboxes are put into;
    ``controllers`` are then those that hold there, None where groups cannot be used or before it has been started.
    ``service`` is the socket of a launcher that is started by its own unit, with a cgroup of its own.
    """

    controllers: frozenset[str] | None = None

    def __init__(
        self,
        *,
        files: Sequence[bytes],
        filters: int = 0,
        launch_uid: int | None = None,
        groups: str = "",
        service: Path | None = None,
    ) -> None:
        self._files = tuple(files)
        self._filters = filters
        self._launch_uid = launch_uid
        self._groups = groups
        self._service = service
        self._pid: int | None = None
        self._lock = asyncio.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._endings: dict[int, asyncio.Future[Ending]] = {}
        self._gates: dict[int, Callable[[socket.socket], None]] = {}
        self._counts: dict[int, asyncio.Future[int]] = {}
        self._next = 0

    @property
    def pid(self) -> int | None:
        """The launcher's process id, None where none runs."""
        return self._pid if self._socket is not None else None

    async def ready(self) -> None:
        """Start the launcher where none runs: ``controllers`` are known from then on."""
        await self._started()

    async def run(
        self, descriptors: Sequence[int], *, on_gate: Callable[[socket.socket], None] | None = None
    ) -> tuple[int, "asyncio.Future[Ending]"]:
        """Start a sandbox; the number that it has, and a future of its end. Cancelling the future kills nothing.

        ``on_gate`` takes the socket that listens inside, where the order asks for one; it is the callee's to close.
        """
        return await self._ordered({"do": "run"}, descriptors, on_gate)

    async def enter(self, inside: int, descriptors: Sequence[int]) -> tuple[int, "asyncio.Future[Ending]"]:
        """Start one more command in the sandbox that has the number ``inside``; as `run` else."""
        return await self._ordered({"do": "enter", "in": inside}, descriptors, None)

    async def _ordered(
        self, order: dict[str, Any], descriptors: Sequence[int], on_gate: Callable[[socket.socket], None] | None
    ) -> tuple[int, "asyncio.Future[Ending]"]:
        connection = await self._started()
        self._next += 1
        number = self._next
        ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._endings[number] = ending
        if on_gate is not None:
            self._gates[number] = on_gate
        try:
            await self._send(connection, {**order, "id": number}, descriptors)
        except OSError as error:
            self._endings.pop(number, None)
            self._gates.pop(number, None)
            self._lost(connection)
            raise SandboxUnavailable("The sandbox launcher was lost. Try again.") from error
        except BaseException:
            # Sent or not, nobody waits for it any more.
            self.kill(number)
            raise
        return number, ending

    async def count(self, number: int) -> int | None:
        """How many processes run in a sandbox beside its first command and what was sent in; 0 where it is gone.

        None where that cannot be told.
        """
        if self._socket is None:
            return 0
        self._next += 1
        asked = self._next
        told = self._counts[asked] = asyncio.get_running_loop().create_future()
        try:
            await self._send(self._socket, {"do": "count", "id": asked, "of": number}, ())
            async with asyncio.timeout(KILL_SECONDS):
                return int(await told)
        except (OSError, TimeoutError):
            return None
        finally:
            self._counts.pop(asked, None)

    def kill(self, number: int) -> None:
        """Kill a sandbox with all that runs in it; its future tells when nothing of it is left."""
        if self._socket is not None and number in self._endings:
            try:
                self._socket.send(json.dumps({"do": "kill", "id": number}).encode())
            except BlockingIOError:
                asyncio.get_running_loop().call_later(0.01, self.kill, number)
            except OSError:
                self._lost(self._socket)

    async def close(self) -> None:
        """Stop the launcher, and with it all sandboxes."""
        async with self._lock:
            connection = self._socket
            left = connection.dup() if connection is not None and self._service is not None else None
            if connection is not None:
                self._lost(connection)
            process, self._process = self._process, None
            if process is not None:
                await asyncio.to_thread(_ended, process)
            if left is not None:
                await asyncio.to_thread(_left, left)

    async def _started(self) -> socket.socket:
        """The socket of a launcher that is ready. A start goes to its end, whoever gives up waiting for it."""
        if self._socket is not None:
            return self._socket
        starting = asyncio.ensure_future(self._launched())
        starting.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(starting)

    async def _launched(self) -> socket.socket:
        async with self._lock:
            if self._socket is not None:
                return self._socket
            if self._process is not None:
                await asyncio.to_thread(_ended, self._process)
                self._process = None
            program = shutil.which("bwrap")
            if program is None:
                raise SandboxUnavailable(
                    "bubblewrap is missing: install the package `bubblewrap`; nothing is run without it."
                )
            ours, process = await self._begun()
            loop = asyncio.get_running_loop()
            try:
                await self._expect_ready(ours)
                await self._set_up(ours, program)
            except (OSError, TimeoutError, ValueError) as error:
                ours.close()
                if process is not None:
                    await asyncio.to_thread(_ended, process)
                where = "the gateway's log" if self._service is None else "the log of its unit"
                raise SandboxUnavailable(f"The sandbox launcher does not start; its reason is in {where}.") from error
            self._socket, self._process = ours, process
            loop.add_reader(ours.fileno(), self._hear, ours)
            return ours

    async def _begun(self) -> "tuple[socket.socket, subprocess.Popen[bytes] | None]":
        if self._service is None:
            return await asyncio.to_thread(_start, self._launch_uid, self._groups)
        try:
            return await asyncio.to_thread(_connected, self._service), None
        except OSError as error:
            raise SandboxUnavailable(
                f"The sandbox launcher cannot be reached at {self._service} ({error.strerror}): is its unit running?"
            ) from error

    async def _expect_ready(self, ours: socket.socket) -> None:
        async with asyncio.timeout(START_SECONDS if self._service is None else UNIT_SECONDS):
            packet = await asyncio.get_running_loop().sock_recv(ours, launcher.MAX_PACKET)
        greeting = json.loads(packet or b"{}")
        if "ready" not in greeting:
            raise OSError("no greeting")
        self._pid = greeting["ready"]
        self.controllers = None if greeting["controllers"] is None else frozenset(greeting["controllers"])
        if greeting["no_groups"]:
            _log.error("sandboxes are held by no cgroup", reason=greeting["no_groups"])

    async def _set_up(self, ours: socket.socket, program: str) -> None:
        descriptors = [memory("file", content) for content in self._files]
        try:
            await self._send(ours, {"do": "setup", "bwrap": program, "filters": self._filters}, descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)

    async def _send(self, connection: socket.socket, order: dict[str, Any], descriptors: Sequence[int]) -> None:
        packet = json.dumps(order).encode()
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        while True:
            try:
                connection.sendmsg([packet], beside)
            except BlockingIOError:
                await asyncio.sleep(0.002)
            else:
                return

    def _hear(self, connection: socket.socket) -> None:
        descriptors: list[int] = []
        try:
            packet, descriptors = packets.receive(connection)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            _log.error("the sandbox launcher was lost", running=len(self._endings))
            self._lost(connection)
            return
        told = json.loads(packet)
        on_gate = self._gates.pop(told["id"], None)
        for fd in descriptors:
            gate = socket.socket(fileno=fd)
            if on_gate is not None:
                on_gate(gate)
            else:
                gate.close()
        if "gate" in told:
            return
        if "count" in told:
            counted = self._counts.get(told["id"])
            if counted is not None and not counted.done():
                counted.set_result(told["count"])
            return
        ending = self._endings.pop(told["id"], None)
        if ending is None or ending.done():
            return
        if "failed" in told:
            ending.set_exception(SandboxUnavailable(f"The sandbox could not be started: {told['failed']}."))
        else:
            ending.set_result(Ending.model_validate(told["ended"]))

    def _lost(self, connection: socket.socket) -> None:
        """Everything that ran is dead, or dies with the launcher's end of the socket."""
        if self._socket is not connection:
            return
        self._socket = None
        asyncio.get_running_loop().remove_reader(connection.fileno())
        connection.close()
        endings, self._endings = self._endings, {}
        self._gates.clear()
        for counted in self._counts.values():
            if not counted.done():
                counted.set_result(0)
        for ending in endings.values():
            if not ending.done():
                ending.set_result(LOST)


def _connected(service: Path) -> socket.socket:
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        ours.settimeout(UNIT_SECONDS)
        ours.connect(str(service))
        ours.setblocking(False)
    except BaseException:
        ours.close()
        raise
    return ours


def _left(connection: socket.socket) -> None:
    """Wait until a launcher that is not our child has killed what ran, and with it closed its end."""
    with connection:
        connection.settimeout(KILL_SECONDS)
        try:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(launcher.MAX_PACKET):
                pass
        except OSError:
            _log.warning("the sandbox launcher does not say that it has ended")


def _start(uid: int | None, groups: str) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Read from a descriptor: a launcher of another uid may not reach the files by their names.
    code = memory("launcher", archive())
    try:
        with theirs:
            process = subprocess.Popen(
                command(code, theirs.fileno(), uid=uid, groups=groups),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), code),
                env={},
                cwd="/",
                # Ctrl-C in a terminal is for the gateway, which drains first.
                start_new_session=True,
            )
    except BaseException:
        ours.close()
        raise
    finally:
        os.close(code)
    ours.setblocking(False)
    return ours, process


def _ended(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
