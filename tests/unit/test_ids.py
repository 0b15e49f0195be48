import pytest

from carrel.errors import InvalidRequest
from carrel.ids import (
    RequestIds,
    new_request_id,
    new_session_id,
    parse_session_id,
    parse_tenant_id,
    request_id_from,
)


@pytest.mark.parametrize("good", ["a", "acme", "0", "a-b_c", "a" * 32])
def test_a_tenant_id_is_taken(good: str) -> None:
    assert parse_tenant_id(good) == good


@pytest.mark.parametrize(
    "bad", ["", "A", "_gateway", "-a", "a" * 33, "a.b", "a/b", "..", "acme\n", "acme\x00", "\uff41cme", "a b", "acmé"]
)
def test_what_is_no_tenant_id_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_tenant_id(bad)
    assert caught.value.param == "tenant"


@pytest.mark.parametrize("bad", ["", ".", "..", ".hidden", "a/b", "a" * 129, "a\n", "a\x00b"])
def test_what_is_no_session_id_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_session_id(bad)


def test_new_ids_are_well_formed_and_differ() -> None:
    assert parse_session_id(new_session_id()) != new_session_id()
    assert new_request_id() != new_request_id()


def test_a_good_request_id_is_kept_and_a_bad_one_replaced() -> None:
    assert request_id_from("abc-1.2") == "abc-1.2"
    assert request_id_from(None).startswith("req_")
    assert request_id_from("a b\r\nX-Evil: 1").startswith("req_")


def test_a_token_is_no_request_id() -> None:
    token = f"tk_acme_{'a' * 32}"
    for text in (token, f"req_{token}"):
        assert "a" * 32 not in request_id_from(text)
        assert "a" * 32 not in RequestIds().of(text)


def test_many_request_ids_at_once_differ_like_any() -> None:
    ids = RequestIds()
    made = [ids.of("") for _ in range(100)]
    assert len(set(made)) == 100
    assert all(request_id_from(one) == one and len(one) == 28 for one in made)
    assert ids.of("abc-1.2") == "abc-1.2"
    assert ids.of("a b").startswith("req_")
