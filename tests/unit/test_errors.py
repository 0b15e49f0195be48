from datetime import UTC, datetime

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
