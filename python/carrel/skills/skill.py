"""A skill as it is written: `SKILL.md`, a head of YAML between lines of `---`, and what the agent is told. Pure."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

from carrel.declare.document import Unreadable, read
from carrel.errors import InvalidRequest, TooLarge

MAX_BYTES: Final = 64 << 10
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HEAD: Final = re.compile(r"\A---\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_BIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_MOST_BINS: Final = 50


@dataclass(frozen=True, slots=True)
class Skill:
    """``body`` is what the agent is told, ``bins`` the programs it needs; ``version`` follows from the content."""

    name: str
    description: str
    bins: tuple[str, ...]
    body: str
    version: str


def parse(content: str) -> Skill:
    """The skill in ``content``; raises InvalidRequest, TooLarge. Keys of the head that are not ours are left alone."""
    data = content.encode("utf-8", "replace")
    if len(data) > MAX_BYTES:
        raise TooLarge(f"The skill has {len(data)} bytes; {MAX_BYTES} are allowed.", param="content")
    head = _HEAD.match(content)
    if head is None:
        raise _wrong("it begins with a head of YAML between two lines of `---`")
    try:
        document = read(head[1])
    except Unreadable as error:
        raise _wrong(f"its head is not YAML: {error.message}") from None
    if document.findings:
        raise _wrong(f"its head is not as it should be: {document.findings[0].message}")
    values = document.values
    name, description = values.get("name"), values.get("description")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _wrong("`name` is 1 to 64 of a-z, 0-9, `_` and `-`")
    if not isinstance(description, str) or not 1 <= len(description) <= 1024:
        raise _wrong("`description` says in at most 1,024 characters what it is for")
    body = content[head.end() :].strip()
    if not body:
        raise _wrong("there is nothing in it beside its head")
    return Skill(name, description, _bins(values.get("requires")), body, hashlib.sha256(data).hexdigest()[:16])


def _bins(requires: Any) -> tuple[str, ...]:
    found = requires.get("bins", ()) if isinstance(requires, dict) else ()
    if not isinstance(found, list | tuple) or len(found) > _MOST_BINS:
        raise _wrong("`requires.bins` is a list of programs")
    for one in found:
        if not isinstance(one, str) or not _BIN.fullmatch(one):
            raise _wrong(f"{str(one)[:40]!r} in `requires.bins` is no program's name")
    return tuple(dict.fromkeys(found))


def _wrong(what: str) -> InvalidRequest:
    return InvalidRequest(f"That is not a skill: {what}.", param="content")
