from carrel.channels.protocol import ChannelError


def test_an_error_says_whether_to_try_again() -> None:
    error = ChannelError("Not now.", retryable=True, retry_after=3.0)
    assert (error.code, error.retryable, error.retry_after, error.message) == ("channel_failed", True, 3.0, "Not now.")
    assert ChannelError("Never.").retryable is False
