"""Bodies of requests that do not fit name the field and the mend."""

import pytest
from pydantic import BaseModel

from carrel.errors import InvalidRequest
from carrel.wire.body import read_body


class Part(BaseModel):
    size: int


class Order(BaseModel):
    name: str = ""
    parts: tuple[Part, ...] = ()


def test_a_body_that_fits_is_read() -> None:
    assert read_body(Order, b'{"parts": [{"size": 3}]}').parts[0].size == 3


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        (b'{"parts": [{"size": 1}, {"size": "large"}]}', "parts[1].size", "`parts[1].size`: a whole number is wanted"),
        (b'{"name": 4, "parts": [{}]}', "parts[0].size", "`parts[0].size`: it is missing"),
        (b"[]", None, "`body`: "),
        (b"{", None, "The body is not JSON: "),
        (b"\xff", None, "The body is not JSON: "),
    ],
)
def test_a_body_that_does_not_fit_names_its_deepest_fault(body: bytes, param: str | None, told: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(Order, body)
    assert refused.value.message.startswith(told)
    assert refused.value.param == param
