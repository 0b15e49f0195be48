"""How a command fails: each kind has its exit code."""

from typing import Final

from carrel.errors import CarrelError

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130


class WrongUsage(CarrelError):
    """The command was called in a way that it does not take."""

    code = "wrong_usage"


class GatewayUnreachable(CarrelError):
    """No gateway answers there. The message says where that is and what to do."""

    code = "gateway_unreachable"


class Refused(CarrelError):
    """The gateway refused or failed, in its own words."""

    def __init__(self, message: str, *, code: str, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.request_id = request_id


class NotUnderstood(CarrelError):
    """What answered is no gateway, or one of another version."""

    code = "not_understood"


def exit_code(error: CarrelError) -> int:
    """The exit code for ``error``."""
    match error:
        case WrongUsage():
            return WRONG
        case GatewayUnreachable():
            return UNREACHABLE
        case _:
            return FAILED
