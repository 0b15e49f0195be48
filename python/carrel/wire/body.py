"""A request's body as its model, or what is wrong with it in words for whoever wrote it."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from carrel.errors import InvalidRequest
from carrel.wire.places import place_of
from carrel.wire.wording import wording

M = TypeVar("M", bound=BaseModel)


def read_body(model: type[M], body: bytes) -> M:
    """``body`` as ``model``; raises InvalidRequest that names the field as its caller would (`messages[0].role`).

    Of several problems the one that lies deepest is told: those above it follow from it.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problem = max(error.errors(include_url=False), key=lambda e: len(e["loc"]))
        if problem["type"] == "json_invalid":
            raise InvalidRequest(f"The body is not JSON: {problem['msg']}.") from None
        param = place_of(problem["loc"])
        raise InvalidRequest(f"`{param or 'body'}`: {wording(problem)}.", param=param) from None
