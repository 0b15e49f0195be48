import errno
from datetime import UTC, datetime

import pytest

from carrel import errors


def test_every_code_is_stable_and_its_own() -> None:
    def below(kind: type[errors.CarrelError]) -> list[type[errors.CarrelError]]:
        return [kind, *(deep for sub in kind.__subclasses__() for deep in below(sub))]

    ours = [k for k in below(errors.CarrelError) if k.__module__ == errors.__name__]
    codes = [k.code for k in ours if k not in (errors.CarrelError, errors.InternalError)]
    assert len(codes) == len(set(codes))


def test_a_quota_error_says_when_to_come_back() -> None:
    reset = datetime(2026, 3, 2, tzinfo=UTC)
    error = errors.QuotaExceeded("Over.", quota="tokens_per_day", retry_after=60, reset_at=reset)
    assert error.details == {"quota": "tokens_per_day", "reset_at": "2026-03-02T00:00:00+00:00"}
    assert error.retryable


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, errors.StorageFull),
        (errno.EDQUOT, errors.StorageFull),
        (errno.EIO, errors.StorageFailed),
        (errno.EROFS, errors.StorageFailed),
        (errno.EMFILE, errors.Unavailable),
    ],
)
def test_what_the_machine_lacks_is_told_and_can_be_tried_again(code: int, kind: type[errors.CarrelError]) -> None:
    told = errors.lacking(OSError(code, "x", "/state/tenants/acme"), "the change was not made")
    assert type(told) is kind
    assert told.retryable
    assert "the change was not made" in told.message
    assert "/state" not in told.message


def test_a_refusal_of_the_request_is_nothing_that_the_machine_lacks() -> None:
    assert errors.lacking(OSError(errno.ENOENT, "x"), "y") is None
    assert errors.lacking(OSError("no number"), "y") is None
