"""Bad input gets a clear answer in the endpoint's own dialect and costs nothing."""

import http.client
import json
import socket

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import PATIENCE

CHAT = "/v1/chat/completions"
HELLO = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}


def rows(gateway: GatewayProcess) -> int:
    shown = gateway.request("GET", "/v1/tenants/demo/usage?period=today", token=gateway.token)
    return len(shown.json()["rows"])


@pytest.mark.parametrize("path", [CHAT, "/rpc", "/v1/models"])
@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer tk_demo_" + "0" * 32, "Basic abc", "Bearer ' OR 1=1 --", "Bearer " + "a" * 4000],
)
def test_a_wrong_or_missing_token_is_one_401(gateway: GatewayProcess, path: str, value: str | None) -> None:
    headers = {} if value is None else {"Authorization": value}
    method = "GET" if path == "/v1/models" else "POST"
    reply = gateway.request(method, path, None if method == "GET" else HELLO, headers=headers)
    assert reply.status in (401, 429)
    assert b"demo" not in reply.body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{not json", 400),
        (b"", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (json.dumps({"model": "demo"}).encode(), 400),
        (json.dumps({"model": 7, "messages": []}).encode(), 400),
        (json.dumps({"model": "demo", "messages": []}).encode(), 400),
        (json.dumps({"model": "demo", "messages": "hello"}).encode(), 400),
        (json.dumps({**HELLO, "max_tokens": "many"}).encode(), 400),
        (json.dumps({**HELLO, "model": "nope"}).encode(), 404),
        (b"\xff\xfe" + json.dumps(HELLO).encode(), 400),
        (b"[" * 100_000, 400),
    ],
)
def test_a_body_that_cannot_be_used_is_explained(gateway: GatewayProcess, body: bytes, status: int) -> None:
    before = rows(gateway)
    reply = gateway.request("POST", CHAT, body, token=gateway.token)
    assert reply.status == status, reply.body
    error = reply.json()["error"]
    assert error["message"]
    assert error["code"]
    assert not any(word in reply.body.decode() for word in ("Traceback", "Input should", "Tuple", "pydantic"))
    assert rows(gateway) == before


def test_100_mb_is_refused_without_being_read(gateway: GatewayProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    connection.putrequest("POST", CHAT)
    connection.putheader("Authorization", f"Bearer {gateway.token}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(100 * 1024 * 1024))
    connection.endheaders()
    reply = connection.getresponse()
    assert reply.status == 413
    assert json.loads(reply.read())["error"]["code"] == "too_large"
    connection.close()


def test_another_tenants_session_is_one_that_does_not_exist(gateway: GatewayProcess) -> None:
    issued = gateway.cli("tenants", "token", "issue", "acme", "--name", "boundary", "--json")
    assert issued.returncode == 0, issued.stderr
    other = json.loads(issued.stdout)["token"]
    theirs = gateway.rpc("sessions.create", token=other)["sessionId"]
    stolen = gateway.rpc("sessions.send", {"sessionId": theirs, "message": "hello"})
    missing = gateway.rpc("sessions.send", {"sessionId": "s_" + "0" * 24, "message": "hello"})
    assert stolen["message"] == missing["message"]
    assert stolen["code"] == missing["code"]


def test_a_client_that_stops_reading_holds_up_nobody(gateway: GatewayProcess) -> None:
    idle = socket.create_connection(("127.0.0.1", gateway.port))
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = json.dumps({**HELLO, "stream": True}).encode()
    idle.sendall(
        f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {gateway.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    assert gateway.request("POST", CHAT, HELLO, token=gateway.token).status == 200
    idle.close()


def test_an_unknown_route_and_a_wrong_method_are_said_so(gateway: GatewayProcess) -> None:
    assert gateway.request("GET", "/v1/nothing", token=gateway.token).status == 404
    assert gateway.request("PUT", CHAT, token=gateway.token).status == 405
