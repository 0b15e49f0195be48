"""What a program in a sandbox is told where it may not go: which rule, and how to ask."""

import json
from typing import Final

from carrel.policy.egress.rules import Asked

HOW_TO_ASK: Final = (
    "Ask for it with the tool `request_access`, or have your operator allow it under `egress.allow`."
)  # fmt: skip
STATUS: Final = {400: "Bad Request", 403: "Forbidden", 407: "Proxy Authentication Required", 421: "Misdirected Request",
                 431: "Request Header Fields Too Large", 501: "Not Implemented", 502: "Bad Gateway",
                 504: "Gateway Timeout"}  # fmt: skip


def refusal(status: int, code: str, message: str, *, asked: Asked | None = None, rule: str = "") -> bytes:
    """A whole answer, after which the connection is closed."""
    body = refusal_body(code, message, asked=asked, rule=rule)
    more = b'Proxy-Authenticate: Basic realm="carrel"\r\n' if status == 407 else b""
    return (
        f"HTTP/1.1 {status} {STATUS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"X-Carrel-Egress: {code}\r\nConnection: close\r\n"
    ).encode() + more + b"\r\n" + body  # fmt: skip


def refusal_body(code: str, message: str, *, asked: Asked | None = None, rule: str = "") -> bytes:
    """Its body: JSON that a person can read as well."""
    told = {"code": code, "message": message}
    if asked is not None:
        told["asked"] = str(asked)
    if rule:
        told["rule"] = rule
    if code == "egress_denied":
        told["how_to_ask"] = HOW_TO_ASK
    return json.dumps({"error": told}, ensure_ascii=False, indent=1).encode() + b"\n"
