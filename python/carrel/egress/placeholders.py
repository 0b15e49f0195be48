"""Placeholders: what a sandbox holds in a secret's place, and where in a request they are swapped for it."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID

from multidict import CIMultiDict

from carrel.declare.egress import Injection
from carrel.declare.oauth import OAuthProvider
from carrel.errors import Forbidden, InvalidRequest
from carrel.ids import TenantId
from carrel.policy.egress.rules import Asked, Rule, rule_of
from carrel.secrets import Secret

MARK: Final = "carrel_secret_"
ANY: Final = re.compile(rb"carrel_secret_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
LENGTH: Final = len(MARK) + 36
_USER_PASSWORD: Final = re.compile(r"basic\s+([A-Za-z0-9+/=]+)", re.IGNORECASE)


class PlaceholderMisplaced(Forbidden):
    """A placeholder where it does not belong: another host, another place in the request, or somebody else's."""

    code = "placeholder_misplaced"


class SecretUnfit(InvalidRequest):
    """A secret that cannot stand where it is to go."""

    code = "secret_unfit"


def placeholder(key: bytes, tenant: TenantId, agent: str, name: str) -> str:
    """The placeholder of one secret for one agent of one tenant: the same at every time, and told by nothing."""
    digest = hmac.new(key, "\0".join((tenant, agent, name)).encode(), hashlib.sha256).digest()
    return f"{MARK}{UUID(bytes=digest[:16], version=4)}"


@dataclass(frozen=True, slots=True)
class Binding:
    """One injection of one agent's: ``text`` is what the sandbox holds, with the prefix that programs look for."""

    declared: Injection
    mark: str
    rules: tuple[Rule, ...]

    @property
    def text(self) -> str:
        """What the variable holds."""
        return self.declared.prefix + self.mark

    def is_for(self, asked: Asked) -> bool:
        """Whether the secret goes to that host and port."""
        where = Asked(asked.host, asked.port)
        return any(rule.names(where) for rule in self.rules)


def bindings_of(
    key: bytes,
    tenant: TenantId,
    agent: str,
    declared: Iterable[Injection],
    providers: Mapping[str, OAuthProvider] = MappingProxyType({}),
) -> tuple[Binding, ...]:
    """The bindings of ``agent``. A connection's token has one for each place that its provider allows."""
    return tuple(
        Binding(placed, placeholder(key, tenant, agent, one.source), tuple(rule_of(text) for text in placed.hosts))
        for one in declared
        if not one.agents or agent in one.agents
        for placed in _placed(one, providers)
    )


def _placed(one: Injection, providers: Mapping[str, OAuthProvider]) -> Iterator[Injection]:
    if one.connection is None:
        yield one
        return
    provider = providers.get(one.provider_name or "")
    places = provider.allow if provider is not None else ()
    for place in places:
        if place.basic is not None:
            yield one.model_copy(update={"hosts": place.hosts, "basic": place.basic})
        else:
            yield one.model_copy(update={"hosts": place.hosts, "header": place.header, "template": place.template})
    if not places:
        # It goes nowhere; its placeholder is refused everywhere all the same.
        yield one


@dataclass(slots=True)
class Outgoing:
    """A request on its way: what of it may hold a placeholder. ``used`` are the secrets that were put into it."""

    headers: "CIMultiDict[str]"
    query: str
    body: bytes | None
    used: list[tuple[Binding, str]]
    path: str = ""


def swapped(
    outgoing: Outgoing, bindings: Sequence[Binding], asked: Asked, *, secure: bool, secrets: Mapping[str, Secret]
) -> None:
    """Put each secret of ``bindings`` where its placeholder stands in its own place; ``secrets`` are by name.

    Raises PlaceholderMisplaced where one stands elsewhere, and its binding does not say that it may pass.
    """
    passing = passing_of(bindings)
    for binding in bindings:
        if binding.is_for(asked) and (secure or binding.declared.plain):
            value = secrets[binding.declared.source].reveal()
            if _put(outgoing, binding, value):
                outgoing.used.append((binding, value))
    for found in _left(outgoing):
        if found not in passing:
            raise PlaceholderMisplaced(
                "The request holds the placeholder of a secret in a place, or for a host, that the secret is not for."
            )


def passing_of(bindings: Iterable[Binding]) -> frozenset[bytes]:
    """The placeholders that may leave as they are."""
    return frozenset(binding.mark.encode() for binding in bindings if binding.declared.elsewhere == "pass")


def _put(outgoing: Outgoing, binding: Binding, value: str) -> bool:
    place, text = binding.declared, binding.text
    if place.header is not None:
        return _put_header(outgoing.headers, place.header, (place.template or "{}"), text, value)
    if place.query is not None:
        pairs = parse_qsl(outgoing.query, keep_blank_values=True)
        if (place.query, text) not in pairs:
            return False
        swapped_pairs = [(name, value if (name, held) == (place.query, text) else held) for name, held in pairs]
        outgoing.query = urlencode(swapped_pairs, quote_via=quote)
        return True
    if place.basic is not None:
        return _put_basic(outgoing.headers, place.basic, text, value)
    return place.body is not None and _put_body(outgoing, place.body, text, value)


def _put_header(headers: "CIMultiDict[str]", name: str, template: str, text: str, value: str) -> bool:
    """Swap in a header that is the template with the placeholder; its scheme may be written in any case."""
    held = headers.getall(name, [])
    wanted = template.replace("{}", text)
    if len(held) != 1 or held[0].strip().lower() != wanted.lower() or text not in held[0]:
        return False
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in value):
        raise SecretUnfit("The secret holds a line break or another control character, which no header can.")
    headers[name] = held[0].replace(text, value)
    return True


def _put_basic(headers: "CIMultiDict[str]", user: str, text: str, value: str) -> bool:
    held = headers.getall("Authorization", [])
    found = _USER_PASSWORD.fullmatch(held[0].strip()) if len(held) == 1 else None
    if found is None:
        return False
    try:
        given = base64.b64decode(found[1], validate=True).decode()
    except ValueError:
        return False
    if given not in (f"{user}:{text}", f"{text}:"):
        return False
    headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{value}".encode()).decode()
    return True


def _put_body(outgoing: Outgoing, field: str, text: str, value: str) -> bool:
    if outgoing.body is None:
        return False
    kind = outgoing.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        pairs = parse_qsl(outgoing.body.decode("utf-8", "replace"), keep_blank_values=True)
        if (field, text) not in pairs:
            return False
        outgoing.body = urlencode([(n, value if (n, v) == (field, text) else v) for n, v in pairs]).encode()
        return True
    if kind != "application/json" and not kind.endswith("+json"):
        return False
    try:
        document = json.loads(outgoing.body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict) or document.get(field) != text:
        return False
    document[field] = value
    outgoing.body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return True


def _left(outgoing: Outgoing) -> set[bytes]:
    """Every placeholder that stands somewhere in a request still, in whatever common form it is written."""
    texts = [outgoing.path, outgoing.query, *outgoing.headers.values()]
    for value in outgoing.headers.getall("Authorization", []):
        found = _USER_PASSWORD.fullmatch(value.strip())
        if found is not None:
            texts.append(_decoded(found[1]))
    data = "\n".join(texts).encode("utf-8", "surrogateescape") + b"\n" + (outgoing.body or b"")
    return set(ANY.findall(data))


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""
