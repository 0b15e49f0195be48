"""Bodies of requests that do not fit name the field and the mend."""

import pytest
from pydantic import BaseModel

from carrel.errors import InvalidRequest
from carrel.wire.anthropic_request import MessagesRequest
from carrel.wire.body import read_body
from carrel.wire.control import TokenIssue
from carrel.wire.openai_chat import ChatRequest
from carrel.wire.responses_request import ResponsesRequest


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


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ChatRequest, b'{"model":"%s","messages":[{"role":"user","content":"x"}]}'),
        (MessagesRequest, b'{"model":"%s","max_tokens":1,"messages":[{"role":"user","content":"x"}]}'),
        (ResponsesRequest, b'{"model":"%s","input":"x"}'),
        (TokenIssue, b'{"name":"%s"}'),
    ],
)
def test_what_a_body_says_stays_in_no_cache(model: type[BaseModel], body: bytes) -> None:
    word = b"said-by-one-tenant"
    one, other = (model.model_validate_json(body % word) for _ in range(2))
    said, again = (getattr(each, "model", None) or getattr(each, "name", None) for each in (one, other))
    assert said == again == word.decode()
    assert said is not again
