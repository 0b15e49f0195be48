"""Two S3 servers that are not ours, and a proxy before them that is faulty on purpose.

SeaweedFS verifies signatures and digests and holds conditions, as a store should; `rclone` verifies them, and ignores
conditions.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from carrel.errors import CarrelError
from carrel.objects.location import parse_location
from carrel.objects.s3 import S3Options, S3Store
from carrel.secrets import Secret
from tests.fakes.gateway_process import free_port
from tests.fakes.patience import PATIENCE, until

BIN = Path(sys.executable).parent
ACCESS, SECRET = "AKIAEXAMPLEKEY", "example-secret-of-the-tests"
BUCKET = "backups"


@contextlib.contextmanager
def rclone(place: Path, *, port: int | None = None) -> Iterator[str]:
    """`rclone serve s3` on a directory, with our bucket; gives its address. ``port``: where it was before."""
    (place / BUCKET).mkdir(parents=True, exist_ok=True)
    port = free_port() if port is None else port
    words = [str(BIN / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS},{SECRET}",
             "--config", str(place / "no.conf"), str(place)]  # fmt: skip
    with _running(words, port) as url:
        yield url


@contextlib.contextmanager
def seaweed(place: Path) -> Iterator[str]:
    """SeaweedFS (`weed server -s3`) on a directory, with our bucket; gives its address."""
    place.mkdir(parents=True, exist_ok=True)
    allowed = {"name": "tests", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": ["Admin"]}
    config = place / "s3.json"
    config.write_text(json.dumps({"identities": [allowed]}))
    parts = ("master", "volume", "filer", "s3")
    ports = {f"{part}.port{kind}": free_port() for part in parts for kind in ("", ".grpc")}
    words = [
        str(BIN / "weed"), "-logtostderr=true", "server", "-s3", f"-dir={place}", f"-s3.config={config}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *(f"-{name}={port}" for name, port in ports.items()),
        *(f"-{part}.localSocket={place / part}.sock" for part in ("filer", "s3")),
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-volume.max=8",
        "-master.volumeSizeLimitMB=256",
    ]  # fmt: skip
    try:
        # In order its parts say goodbye to each other for half a minute, and nothing of it is wanted any more.
        with _running(words, ports["s3.port"], end=signal.SIGKILL) as url:
            with contextlib.closing(S3Store(parse_location(f"s3://{BUCKET}"), options(url))) as store:
                assert until(lambda: _has_bucket(store)), "SeaweedFS never made a bucket"
            yield url
    finally:
        for part in parts:
            # It listens on them besides, wherever its directory is, and leaves them there.
            Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock").unlink(missing_ok=True)


def _has_bucket(store: S3Store) -> bool:
    """Whether our bucket is there, made now where it can be: it listens before its parts know each other."""
    try:
        with store.speaking("") as (s3, named):
            s3.create_bucket(Bucket=named["Bucket"])
        store.put("is-there", b"")
    except CarrelError as error:
        return error.details.get("reason") == "BucketAlreadyExists"
    store.delete(["is-there"])
    return True


@contextlib.contextmanager
def _running(words: list[str], port: int, *, end: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert process.poll() is None, f"{words[0]} ended with {process.returncode}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"{words[0]} was not ready in {PATIENCE:g} s")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(end)
        process.wait(PATIENCE)


def options(
    url: str, *, conditional: bool = True, secret: str = SECRET, read_seconds: float = PATIENCE
) -> S3Options:  # fmt: skip
    """How a server of these is reached."""
    return S3Options(
        endpoint=url, access_key=Secret(ACCESS), secret_key=Secret(secret), conditional=conditional,
        connect_seconds=10.0, read_seconds=read_seconds,
    )  # fmt: skip


@dataclass(slots=True)
class Exchange:
    """One request and its answer on their way."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    answer: bytes = b""
    cut: int | None = None
    """After how many bytes of the answer's body the connection breaks."""
    lost: bool = False
    """The answer never comes."""
    hangs: bool = False
    """Neither does the end of the connection, for longer than anybody waits."""


Fault = Callable[[Exchange], bool]
"""Changes an exchange; whether it did, and is used up."""


class FaultyProxy:
    """Passes on to ``upstream``; ``before`` and ``after`` are faults, each used once in its turn."""

    def __init__(self, upstream: str) -> None:
        self.before: list[Fault] = []
        self.after: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        host, _, port = upstream.removeprefix("http://").partition(":")
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                exchange = Exchange(self.command, self.path, dict(self.headers.items()), body)
                proxy._pass_on(exchange, host, int(port))
                if exchange.hangs:
                    proxy._released.wait(PATIENCE)
                if exchange.lost or exchange.hangs:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(exchange.status)
                for name, value in exchange.answer_headers:
                    self.send_header(name, value)
                if exchange.method != "HEAD":
                    self.send_header("Content-Length", str(len(exchange.answer)))
                self.end_headers()
                if exchange.method != "HEAD":
                    self.wfile.write(exchange.answer[: exchange.cut])
                if exchange.cut is not None:
                    self.close_connection = True
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)

            def __getattr__(self, name: str) -> object:
                if name.startswith("do_"):
                    return self._any
                raise AttributeError(name)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def _pass_on(self, exchange: Exchange, host: str, port: int) -> None:
        self.seen.append((exchange.method, exchange.path))
        if self._used(self.before, exchange) and (exchange.status or exchange.lost or exchange.hangs):
            return
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        try:
            connection.request(exchange.method, exchange.path, exchange.body, exchange.headers)
            reply = connection.getresponse()
            exchange.answer = reply.read()
            exchange.status = reply.status
            exchange.answer_headers = [
                (name, value) for name, value in reply.getheaders()
                if name.lower() not in ("transfer-encoding", "connection", "date", "server")
                and (exchange.method == "HEAD" or name.lower() != "content-length")
            ]  # fmt: skip
        finally:
            connection.close()
        self._used(self.after, exchange)

    def _used(self, faults: list[Fault], exchange: Exchange) -> bool:
        with self._lock:
            for fault in faults:
                if fault(exchange):
                    faults.remove(fault)
                    return True
        return False

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def status(code: int, *, method: str = "", name: str = "", says: str = "InternalError", times: int = 1) -> list[Fault]:
    """Answers with an error instead of passing it on."""

    def fault(exchange: Exchange) -> bool:
        if method not in ("", exchange.method) or name not in exchange.path:
            return False
        exchange.status = code
        exchange.answer = f"<Error><Code>{says}</Code><Message>told</Message></Error>".encode()
        exchange.answer_headers = [("Content-Type", "application/xml")]
        return True

    return [fault] * times


def answer_lost(*, method: str, name: str = "") -> Fault:
    """What was asked is done, and nobody hears of it."""

    def fault(exchange: Exchange) -> bool:
        exchange.lost = method == exchange.method and name in exchange.path
        return exchange.lost

    return fault


def hanging(*, method: str, name: str = "") -> Fault:
    """No answer and no end of the connection."""

    def fault(exchange: Exchange) -> bool:
        exchange.hangs = method == exchange.method and name in exchange.path
        return exchange.hangs

    return fault


def cut_after(count: int, *, name: str = "") -> Fault:
    """The answer breaks off."""

    def fault(exchange: Exchange) -> bool:
        if exchange.method != "GET" or name not in exchange.path or len(exchange.answer) <= count:
            return False
        exchange.cut = count
        return True

    return fault


def truncated(count: int, *, name: str = "") -> Fault:
    """The answer is shorter, and says so itself: only what is in it tells."""

    def fault(exchange: Exchange) -> bool:
        if exchange.method != "GET" or name not in exchange.path or exchange.status != 200:
            return False
        exchange.answer = exchange.answer[:count]
        return True

    return fault


def flipped(*, name: str = "", upwards: bool = False, taken: bool = False) -> Fault:
    """One bit is another one, on its way back or, ``upwards``, on its way there.

    ``taken``: the store verifies nothing and takes it. Ours do, and so it is signed anew.
    """

    def fault(exchange: Exchange) -> bool:
        wanted = "PUT" if upwards else "GET"
        if exchange.method != wanted or name not in exchange.path or (not upwards and exchange.status != 200):
            return False
        data = bytearray(exchange.body if upwards else exchange.answer)
        data[len(data) // 2] ^= 1
        if upwards:
            exchange.body = bytes(data)
        else:
            exchange.answer = bytes(data)
        if taken:
            sign_anew(exchange)
        return True

    return fault


def sign_anew(exchange: Exchange) -> None:
    """After what was signed of a request was changed: sign it again, without its digests."""
    headers = {name.lower(): value for name, value in exchange.headers.items()}
    for name in ("authorization", "content-md5", "x-amz-date", "x-amz-content-sha256"):
        headers.pop(name, None)
    request = AWSRequest(exchange.method, f"http://{headers['host']}{exchange.path}", headers, exchange.body)
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(request)
    exchange.headers = dict(request.headers.items())
