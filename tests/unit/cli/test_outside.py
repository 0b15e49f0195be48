"""Providers, backup places and certificates that the doctor tries, against real servers and none."""

import contextlib
import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from carrel.cli import outside
from carrel.cli.findings import Finding
from carrel.declare.gateway import Gateway
from tests.fakes import s3_servers

LONG_AGO: Final = "Thu, 01 Jan 2015 00:00:00 GMT"


@contextlib.contextmanager
def answering(status: int, *, date: str | None = None) -> Iterator[tuple[str, list[Any]]]:
    """A server that answers every GET with ``status``, and what it was asked with."""
    asked: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, dict(self.headers)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return date or super().date_time_string(timestamp)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def found(base_url: str, kind: str = "openai", secrets: Path | None = None) -> list[Finding]:
    gateway = Gateway.model_validate(
        {"providers": {"p": {"kind": kind, "base_url": base_url, "api_key": {"secret": "PKEY"}}, "d": {"kind": "demo"}}}
    )
    return outside.providers(gateway, secrets)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    (tmp_path / "PKEY").write_text("sk-right")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "path", "header"),
    [
        ("openai", "/v1/models", ("Authorization", "Bearer sk-right")),
        ("anthropic", "/v1/models", ("x-api-key", "sk-right")),
    ],
)
def test_a_provider_that_answers(secrets: Path, kind: str, path: str, header: tuple[str, str]) -> None:
    with answering(200) as (url, asked):
        (one,) = found(f"{url}/v1" if kind == "openai" else url, kind, secrets)
    assert (one.what, one.state) == ("provider p", "ok"), one.text
    assert (asked[0][0], asked[0][1][header[0]]) == (path, header[1])


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_not_shown(secrets: Path, status: int) -> None:
    with answering(status) as (url, _):
        (one,) = found(url, secrets=secrets)
        (without,) = found(url)
    assert (one.state, "refuses the key" in one.text, "'PKEY'" in one.mend) == ("fault", True, True)
    assert "sk-right" not in f"{one}"
    assert without.state == "ok", "where the key is not seen here, nothing is said of it"


def test_a_provider_that_is_ill(secrets: Path) -> None:
    with answering(503) as (url, _):
        assert found(url, secrets=secrets)[0].state == "warning"


def test_a_name_that_nobody_knows_and_a_port_where_nobody_listens(secrets: Path) -> None:
    (one,) = found("http://nowhere.invalid/v1", secrets=secrets)
    assert (one.state, "No such host is known: nowhere.invalid" in one.text) == ("fault", True), one.text
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (one,) = found(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", secrets=secrets)
    assert (one.state, "Connection refused" in one.text) == ("fault", True), one.text


def test_a_clock_that_is_far_from_the_providers(secrets: Path) -> None:
    with answering(200, date=LONG_AGO) as (url, _):
        _, clock = found(url, secrets=secrets)
    assert (clock.what, clock.state, "ahead of what 127.0.0.1" in clock.text) == ("clock", "fault", True)


@pytest.fixture
def tls_host() -> Iterator[tuple[str, str]]:
    """A host with a certificate of an authority that nobody knows: its address, and that authority's file."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.tls_host", "127.0.0.1"], stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).resolve().parents[3],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        port, _, root = process.stdout.readline().strip().partition(" ")
        yield f"https://127.0.0.1:{port}", root
        process.terminate()


def test_a_certificate_that_is_trusted_or_not(
    tls_host: tuple[str, str], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = tls_host
    (one,) = outside.certificates([url, url, "http://127.0.0.1"])
    assert (one.state, "is not good" in one.text) == ("fault", True), one.text
    (provider,) = found(url, secrets=secrets)
    assert (provider.state, "is not trusted" in provider.text) == ("fault", True), provider.text
    monkeypatch.setenv("SSL_CERT_FILE", root)
    (one,) = outside.certificates([url])
    assert ("ends in" in one.text, one.state in ("ok", "warning")) == (True, True)
    monkeypatch.setattr(outside, "SOON_SECONDS", 1e12)
    assert next(outside.certificates([url])).state == "warning"
    monkeypatch.setattr(outside, "SOON_SECONDS", -1e12)
    assert next(outside.certificates([url])).state == "ok"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (one,) = outside.certificates([f"https://127.0.0.1:{taken.getsockname()[1]}"])
    assert (one.state, "Connection refused" in one.text) == ("warning", True)


def place(tmp_path: Path, **backup: object) -> Finding:
    (one,) = outside.backup_place(Gateway.model_validate({"backup": backup}), tmp_path)
    return one


def test_where_backups_go(tmp_path: Path) -> None:
    assert (place(tmp_path).state, "None are made" in place(tmp_path).text) == ("warning", True)
    assert place(tmp_path, to=f"file://{tmp_path}").state == "ok"
    gone = place(tmp_path, to=f"file://{tmp_path}/gone")
    assert (gone.state, "is a disk not mounted" in gone.text) == ("fault", True)
    hidden = place(tmp_path, to="s3://bucket/x", access_key={"secret": "A"}, secret_key={"secret": "B"})
    assert (hidden.state, "As this user sees it" in hidden.text) == ("warning", True)
    (tmp_path / "A").write_text("a")
    (tmp_path / "B").write_text("b")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        away = place(
            tmp_path, to="s3://bucket/x", endpoint=endpoint, access_key={"secret": "A"}, secret_key={"secret": "B"}
        )
    assert (away.state, "cannot be listed" in away.text) == ("fault", True), away.text


def test_whether_a_place_for_backups_holds_conditions(tmp_path: Path) -> None:
    (tmp_path / "A").write_text(s3_servers.ACCESS)
    (tmp_path / "B").write_text(s3_servers.SECRET)
    keys = {"to": f"s3://{s3_servers.BUCKET}/x", "access_key": {"secret": "A"}, "secret_key": {"secret": "B"}}
    with s3_servers.seaweed(tmp_path) as url:
        good = place(tmp_path, endpoint=url, **keys)
    assert (good.state, "holds the conditions" in good.text) == ("ok", True), good.text
    with s3_servers.rclone(tmp_path) as url:
        ignoring = place(tmp_path, endpoint=url, **keys)
        accepted = place(tmp_path, endpoint=url, conditional_writes=False, **keys)
    assert (ignoring.state, "ignores conditional writes" in ignoring.text) == ("fault", True), ignoring.text
    assert (accepted.state, "no second" in accepted.text) == ("ok", True), accepted.text
