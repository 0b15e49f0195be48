"""`rpc.discover`: the OpenRPC document, made from the methods' own models."""

from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from carrel.http.made_once import MadeOnce
from carrel.http.rpc.registry import KEY, MOST_KEY, Context, Method, Registry
from carrel.wire import rpc

OPENRPC: Final = "1.3.2"
_REF: Final = "#/components/schemas/{model}"


class OpenRpc(rpc.Result):
    """An OpenRPC document; see https://spec.open-rpc.org."""

    openrpc: str
    info: dict[str, Any]
    methods: tuple[dict[str, Any], ...]
    components: dict[str, Any]


def register(registry: Registry) -> None:
    """Add this method to ``registry``."""
    made = MadeOnce[OpenRpc]()

    async def discover(context: Context, params: rpc.NoParams) -> OpenRpc:
        """The OpenRPC document of all methods."""
        return await made.get(lambda: document(registry, version=context.services.version))

    registry.method("rpc.discover")(discover)


def document(methods: Iterable[Method], *, version: str) -> OpenRpc:
    """The document of ``methods``."""
    methods = list(methods)
    kinds: list[tuple[type[BaseModel], Any]] = [(m.params, "validation") for m in methods]
    kinds += [(m.result, "serialization") for m in methods]
    _, definitions = models_json_schema(kinds, by_alias=True, ref_template=_REF)
    return OpenRpc(
        openrpc=OPENRPC,
        info={"title": "Carrel", "version": version},
        methods=tuple(_entry(m) for m in methods),
        components={"schemas": definitions.get("$defs", {})},
    )


def _entry(method: Method) -> dict[str, Any]:
    fields = method.params.model_json_schema(by_alias=True, ref_template=_REF)
    required = set(fields.get("required", ()))
    return {
        "name": method.name,
        "summary": method.summary,
        "tags": [{"name": f"scope:{method.scope}"}],
        "paramStructure": "either",
        "params": [
            {"name": name, "required": name in required, "schema": shape, **_described(shape)}
            for name, shape in fields.get("properties", {}).items()
        ]
        + _key(method),
        "result": {"name": method.result.__name__, "schema": {"$ref": _REF.format(model=method.result.__name__)}},
    }


def _key(method: Method) -> list[dict[str, Any]]:
    """The idempotency key that every method takes by name which changes state."""
    shape = {"type": "string", "minLength": 1, "maxLength": MOST_KEY}
    told = "The call is done once for each key within a day; a repeated one gets the first one's answer."
    return [{"name": KEY, "required": False, "description": told, "schema": shape}] if method.changes else []


def _described(shape: dict[str, Any]) -> dict[str, str]:
    return {"description": shape["description"]} if "description" in shape else {}
