"""How a list is asked for."""

import pytest

from carrel.errors import InvalidRequest
from carrel.http.pages_asked import number_in, order_in


def test_what_is_asked_and_what_is_left_out() -> None:
    assert number_in({}, "limit", 20, least=1, most=100) == 20
    assert number_in({"limit": "7"}, "limit", 20, least=1, most=100) == 7
    assert (order_in({}, "asc"), order_in({"order": "desc"}, "asc")) == ("asc", "desc")


@pytest.mark.parametrize("text", ["0", "101", "-1", "x", "", "1" * 40, "٣"])
def test_what_is_no_such_number_is_named(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        number_in({"limit": text}, "limit", 20, least=1, most=100)
    assert refused.value.param == "limit"


def test_what_is_no_order_is_named() -> None:
    with pytest.raises(InvalidRequest) as refused:
        order_in({"order": "ASC"}, "asc")
    assert refused.value.param == "order"
