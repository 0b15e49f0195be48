"""One declared file: from bytes to the JSON values of the keys that it sets, or what is wrong with it."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from pydantic import BaseModel, ValidationError

from carrel.declare.document import Document, Unreadable, read
from carrel.declare.explain import findings_of
from carrel.declare.problems import Finding, Problem
from carrel.declare.roles import role_allows
from carrel.declare.suspects import may_hold_secret, secrets_in
from carrel.declare.tenant import NOT_ACTED_UPON, Tenant
from carrel.ids import TenantId

_CLEAN: Final = '{"warnings": [], "layer": '
"""How the entry of a file without warnings begins."""
_TAKE_IT_OUT: Final = (
    "this looks like a secret: keep it in a secrets file and name it here as `{secret: NAME}`; "
    "if the file was ever shared or committed, replace the secret"
)


class ParseCache(Protocol):
    """Keeps what a file of a given content was read as. It is thrown away when the models change."""

    def get(self, name: str, digest: str) -> str | None:
        """The entry of that file with that content."""
        ...

    def put(self, name: str, digest: str, entry: str) -> None:
        """Keep ``entry``, in place of what was kept for the file before."""
        ...

    def verdict(self, tenant: TenantId, basis: str) -> str | None:
        """The canonical JSON of the effective configuration that followed from ``basis``."""
        ...


class LazyLayer(Mapping[str, Any]):
    """The JSON object ``text``, read when it is first looked into: at most starts it never is."""

    __slots__ = ("_text", "_values")

    def __init__(self, text: str) -> None:
        self._text = text
        self._values: dict[str, Any] | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """All of it, as plain values."""
        if self._values is None:
            self._values = json.loads(self._text)
        return self._values

    def __getitem__(self, key: str) -> Any:
        return self.plain[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)


@dataclass(frozen=True, slots=True)
class Parsed:
    """``layer`` is None where the file is broken; ``problems`` then hold an error. ``digest`` is that of ``data``."""

    name: str
    digest: str
    layer: Mapping[str, Any] | None
    problems: tuple[Problem, ...] = ()
    data: bytes = field(default=b"", repr=False)

    @property
    def broken(self) -> bool:
        return self.layer is None


def parse(name: str, digest: str, data: bytes, model: type[BaseModel], *, cache: ParseCache | None = None) -> Parsed:
    """The file called ``name`` as ``model`` takes it. Never raises for what is in it."""
    found = _parse(name, digest, data, model, cache)
    return Parsed(name, found.digest, found.layer, found.problems, data)


def _parse(name: str, digest: str, data: bytes, model: type[BaseModel], cache: ParseCache | None) -> Parsed:
    entry = cache.get(name, digest) if cache is not None else None
    if entry is not None:
        if entry.startswith(_CLEAN):
            return Parsed(name, digest, LazyLayer(entry[len(_CLEAN) : -1]))
        kept = json.loads(entry)
        return Parsed(name, digest, kept["layer"], tuple(_kept(p) for p in kept["warnings"]))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return broken(name, "the file is not UTF-8 text", digest=digest, line=line)
    parsed = _parse_text(name, digest, text, model)
    if cache is not None and parsed.layer is not None:
        warnings = [asdict(problem) for problem in parsed.problems]
        cache.put(name, digest, json.dumps({"warnings": warnings, "layer": parsed.layer}))
    return parsed


def parse_overlay(name: str, data: bytes) -> Parsed:
    """A tenant's overlay: the same keys as its file, of which `merge.overlay_findings` then allows some."""
    return parse(name, hashlib.sha256(data).hexdigest(), data, Tenant)


def _parse_text(name: str, digest: str, text: str, model: type[BaseModel]) -> Parsed:
    try:
        document = read(text)
    except Unreadable as error:
        return broken(name, error.message, digest=digest, line=error.line, column=error.column)
    secret_paths = set(secrets_in(document.values)) if may_hold_secret(text) else set()
    findings: list[Finding] = [*document.findings]
    findings += [Finding(path, _TAKE_IT_OUT) for path in secret_paths]
    layer: dict[str, Any] | None = None
    try:
        declared = model.model_validate(document.values)
    except ValidationError as error:
        findings += [f for f in findings_of(error, model, document.values) if f.path not in secret_paths]
    else:
        layer = declared.model_dump(mode="json", exclude_unset=True) if not findings else None
        if isinstance(declared, Tenant):
            findings += [*_not_yet(declared), *_over_role(declared)]
    if not findings:
        return Parsed(name, digest, layer)
    return Parsed(name, digest, layer, place(name, text, findings))


def _not_yet(declared: Tenant) -> Iterable[Finding]:
    for key in NOT_ACTED_UPON:
        if key in declared.model_fields_set:
            yield Finding((key,), "kept, and not acted upon by this version", severity="warning", at_key=True)


def _over_role(declared: Tenant) -> Iterable[Finding]:
    """A warning for each token with scopes that its member's role does not allow: they are never in force."""
    roles = {member.name: member.role for member in declared.members}
    for index, token in enumerate(declared.tokens):
        role = roles.get(token.member or "")
        over = [scope for scope in token.scopes if role is not None and not role_allows(role, scope)]
        if over:
            message = f"{token.member} is a {role}, whose tokens do not get the scope {' or '.join(over)}"
            yield Finding(("tokens", index, "member"), message, severity="warning")


def place(name: str, text: str, findings: Iterable[Finding]) -> tuple[Problem, ...]:
    """The findings at their places in ``text``, in the order of the lines."""
    try:
        document = read(text, places=True)
    except Unreadable:
        document = Document({})
    return tuple(sorted((document.place(name, f) for f in findings), key=lambda p: (p.line, p.column, p.path)))


def broken(name: str, message: str, *, digest: str = "", line: int = 1, column: int = 1) -> Parsed:
    """A file that could not be read as a whole."""
    return Parsed(name, digest, None, (Problem(name, line, column, "", message),))


def _kept(values: dict[str, Any]) -> Problem:
    return Problem(**{**values, "allowed": tuple(values["allowed"])})
