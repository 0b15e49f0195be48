"""What is wrong with a field is told without a word of the library that found it."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carrel.wire.wording import wording


class Inner(BaseModel):
    name: str


class Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=3)] = "a"
    count: Annotated[int, Field(ge=1)] = 1
    share: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    flag: bool = False
    items: Annotated[list[str], Field(min_length=1, max_length=2)] = ["a"]
    inner: Inner = Inner(name="x")
    kind: Literal["one", "two"] = "one"
    name: Annotated[str, Field(pattern="^[a-z]+$")] = "x"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"text": 5}, "text is wanted, not a number"),
        ({"text": True}, "text is wanted, not true or false"),
        ({"text": None}, "text is wanted, not null"),
        ({"text": ""}, "at least 1 character is wanted"),
        ({"text": "long"}, "at most 3 characters are wanted"),
        ({"count": "many"}, "a whole number is wanted, not text"),
        ({"count": 0}, "it must be greater than or equal to 1"),
        ({"share": "half"}, "a number is wanted, not text"),
        ({"share": float("inf")}, "a finite number is wanted"),
        ({"flag": "yes"}, "true or false is wanted, not text"),
        ({"items": "x"}, "a list is wanted, not text"),
        ({"items": {}}, "a list is wanted, not an object"),
        ({"items": []}, "at least 1 item is wanted"),
        ({"items": ["a", "b", "c"]}, "at most 2 items are wanted"),
        ({"name": "No"}, "text that fits ^[a-z]+$ is wanted"),
        ({"inner": []}, "an object is wanted, not a list"),
        ({"inner": {}}, "it is missing"),
        ({"kind": "three"}, "it must be 'one' or 'two'"),
        ({"other": 1}, "there is no such field"),
    ],
)
def test_a_problem_is_told_in_plain_words(sent: object, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Shape.model_validate(sent)
    assert [wording(problem) for problem in caught.value.errors()] == [said]


def test_what_was_sent_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        Shape.model_validate({"count": "sk-secret"})
    assert "sk-secret" not in wording(caught.value.errors()[0])
