"""JSON Schemas of the files in tenants.d, and the reference page, both made from the models."""

import json
import types
import typing
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from carrel.declare.allowlists import Allowlists
from carrel.declare.gateway import Gateway
from carrel.declare.plans import Plans
from carrel.declare.rate_card import RateCard
from carrel.declare.tenant import OVERLAY_AGENT_KEYS, OVERLAY_KEYS, Tenant

KINDS: Final[dict[str, tuple[str, type[BaseModel]]]] = {
    "gateway": ("_gateway.yaml", Gateway),
    "rate-card": ("_rate-card.yaml", RateCard),
    "plans": ("_plans.yaml", Plans),
    "allowlists": ("_allowlists.yaml", Allowlists),
    "tenant": ("<tenant>.yaml", Tenant),
}
"""The five kinds of file, by the name of their schema."""


def schema_documents() -> dict[str, dict[str, Any]]:
    """A JSON Schema (2020-12) for each kind of file."""
    documents = {}
    for kind, (file, model) in KINDS.items():
        schema = model.model_json_schema(mode="validation")
        head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"Carrel: tenants.d/{file}"}
        documents[kind] = head | {key: value for key, value in schema.items() if key != "title"}
    return documents


def schema_text(kind: str) -> str:
    """The checked-in text of one schema."""
    return json.dumps(schema_documents()[kind], indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def reference_page() -> str:
    """docs/reference/tenants.d.md: every key with its type, default and meaning."""
    lines = [
        "# tenants.d",
        "",
        "Made from the models by `make docs`. One YAML file a tenant, named `<tenant id>.yaml`, and four files of the",
        "operator's. YAML 1.2 without tags and merge keys: `yes`, `no`, `on` and `off` are text, numbers with a",
        "fraction are exact decimals, a key that is there twice is an error. Every key is optional but those marked",
        "required.",
        "",
        "Layers, low to high: built-in defaults, `defaults` in `_gateway.yaml`, the plan, the tenant's file, the",
        "tenant's overlay. Mappings merge key by key; lists replace. The overlay may hold",
        f"{_names(OVERLAY_KEYS)} (narrower only),",
        f"and of each of its `agents`: {_names(OVERLAY_AGENT_KEYS)}.",
    ]
    seen: set[type[BaseModel]] = set()
    for file, model in KINDS.values():
        lines += ["", f"## {file}", "", _first_paragraph(model), "", *_table(model)]
        for below in _nested(model, seen):
            lines += ["", f"### {below.__name__}", "", _first_paragraph(below), "", *_table(below)]
    return "\n".join(lines) + "\n"


def undocumented() -> list[str]:
    """Keys without a description, as `Model.key`."""
    models = {model for _, model in KINDS.values()}
    for _, model in KINDS.values():
        models.update(_nested(model, {model}))
    return sorted(
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    )


def _table(model: type[BaseModel]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        yield f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {field.description or ''} |"


def _nested(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        for below in _models(field.annotation):
            if below not in seen:
                seen.add(below)
                yield below
                yield from _nested(below, seen)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


_PLAIN: Final = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", Decimal: "exact number"}


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(a) for a in arguments if a is not types.NoneType))
    if origin is dict:
        return f"mapping of names to {_type(arguments[1])}"
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    name = getattr(annotation, "__name__", str(annotation))
    return {"datetime": "time", "AwareDatetime": "time", "JsonValue": "anything", "TypeAliasType": "anything"}.get(
        name, name
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return f"`[{', '.join(str(item) for item in value)}]`" if value else "`[]`"
        case dict() | BaseModel():
            return ""
        case "":
            return '`""`'
        case Enum():
            return f"`{value.value}`"
        case _:
            return f"`{value}`"


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split()).replace("``", "`")


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
