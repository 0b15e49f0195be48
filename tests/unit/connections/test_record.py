"""When a token is due, and when it is over."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from carrel.connections.record import Connection, needs_relink

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def connection(**more: object) -> Connection:
    return Connection.model_validate(
        {"name": "v", "provider": "v", "linked": NOW, "linked_by": "me", "access": "at-secret", "refresh": "rt-secret"}
        | more
    )


def test_when_it_is_due_and_over() -> None:
    one = connection(expires=NOW + timedelta(seconds=300))
    assert not one.is_due(NOW, 299)
    assert one.is_due(NOW, 300)
    assert not one.is_over(NOW + timedelta(seconds=299))
    assert one.is_over(NOW + timedelta(seconds=300))
    endless = connection()
    assert not endless.is_due(NOW, 1e9)
    assert not endless.is_over(NOW)


def test_it_shows_no_token() -> None:
    one = connection(reason="it was revoked")
    assert "secret" not in repr(one)
    assert "secret" not in needs_relink(one).message
    with pytest.raises(ValidationError) as caught:
        Connection.model_validate({"access": "at-secret", "linked": "never"})
    assert "secret" not in str(caught.value)
