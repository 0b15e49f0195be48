"""What vendors' failures become: no keys in them, and the right advice."""

from datetime import UTC, datetime

import pytest

from carrel.providers.failures import (
    MAX_MESSAGE,
    clean_message,
    connection_error,
    is_retryable,
    message_in,
    retry_after,
    status_error,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abc_DEF-1234567890",
        "sk-ant-api03-xxxxxxxxxxxxxxxxxxxxx",
        "gsk_1234567890abcdef",
        "Bearer abc.def.ghi",
        "tk_acme_0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef01234567",
        "sk-12***********34",
    ],
)
def test_what_looks_like_a_key_goes(secret: str) -> None:
    cleaned = clean_message(f"Incorrect API key provided: {secret}. See the docs.")
    assert secret not in cleaned
    assert "***" in cleaned
    assert cleaned.startswith("Incorrect API key provided")


def test_the_key_itself_goes_whatever_it_looks_like() -> None:
    assert clean_message("no such user: hunter2!", secret="hunter2") == "no such user: ***!"


def test_ordinary_words_stay() -> None:
    said = "This model's maximum context length is 8192 tokens (request-id req 12): max_tokens is too large, api_key."
    assert clean_message(said) == said


def test_one_line_of_bounded_length_without_escapes() -> None:
    assert clean_message("a\n\tb\x1b[2J") == "a b\\x1b[2J"
    assert len(clean_message("word " * 10_000)) == MAX_MESSAGE


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "999999999"}, 86_400.0),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"type": "error", "error": {"type": "x", "message": "m"}}, "m"),
        ({"message": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"detail": [{"loc": ["body"], "msg": "m"}]}, "[{'loc': ['body'], 'msg': 'm'}]"),
        ({"error": "m"}, "m"),
        ("m", "m"),
        ("<html>Bad gateway</html>", ""),
        (None, ""),
        ({"error": None}, ""),
    ],
)
def test_messages_in_bodies(body: object, message: str) -> None:
    assert message_in(body) == message


def test_status_errors() -> None:
    error = status_error(
        "openai", status=429, body={"error": {"message": "Slow."}}, headers={"retry-after": "2"}, secret="k", now=NOW
    )
    assert error.message == "Provider 'openai' is limiting requests (429): Slow."
    assert (error.status, error.retryable, error.retry_after) == (429, True, 2.0)
    plain = status_error("x", status=401, body=None, headers={}, secret="", now=NOW)
    assert plain.message == "Provider 'x' refused the key that is configured for it (401)."
    assert (plain.code, error.code, plain.retryable) == ("upstream_auth", "upstream_error", False)
    assert connection_error("x", reason="ConnectError").retryable


def test_which_statuses_may_pass() -> None:
    assert [s for s in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 529) if is_retryable(s)] == [
        408, 409, 429, 500, 502, 529
    ]  # fmt: skip
