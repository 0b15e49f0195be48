import pytest

from carrel.cli.failures import GatewayUnreachable, NotUnderstood, Refused, WrongUsage, exit_code
from carrel.errors import CarrelError, NotFound


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("no", code="conflict", status=409), 1),
        (NotFound("no"), 1),
        (NotUnderstood("no"), 1),
        (CarrelError("no"), 1),
        (WrongUsage("no"), 2),
        (GatewayUnreachable("no"), 3),
    ],
)
def test_each_kind_has_its_exit_code(error: CarrelError, code: int) -> None:
    assert exit_code(error) == code


def test_a_refusal_keeps_what_the_gateway_said() -> None:
    error = Refused("no", code="conflict", status=409, request_id="req_1")
    assert (error.code, error.status, error.request_id, error.message) == ("conflict", 409, "req_1", "no")
