"""YAML read strictly: text to plain values, with the place of each where it is asked for.

YAML 1.2's core types and nothing else: no tags, no merge keys, keys are text, a fraction is an exact Decimal of its
text, a sequence is a tuple. Read from libyaml's events rather than its composed nodes, because composing recurses in C
and a file of nested brackets would end the process; the caps on depth, nodes and aliases hold while reading.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import yaml

from carrel.declare.problems import Finding, Path, Problem, dotted

MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000
MAX_ALIASES: Final = 100

_WORDS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,30})")
_FRACTION: Final = re.compile(r"-?(?:(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?")
_TEXT_TAG: Final = "tag:yaml.org,2002:str"

Spot = tuple[int, int]


class Unreadable(Exception):
    """The text is not YAML that is taken here."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message


@dataclass(frozen=True, slots=True)
class Document:
    """A file's values. ``findings`` are what could be read on past: duplicate keys, tags, merge keys."""

    values: dict[str, Any]
    findings: tuple[Finding, ...] = ()
    keys: Mapping[Path, Spot] = field(default_factory=dict)
    spots: Mapping[Path, Spot] = field(default_factory=dict)

    def place(self, file: str, finding: Finding) -> Problem:
        """``finding`` at its line and column; where its path is not in the file, at the nearest part of it that is."""
        path = finding.path
        line, column = 1, 1
        for length in range(len(path), -1, -1):
            part = path[:length]
            places = (self.keys, self.spots) if finding.at_key or length < len(path) else (self.spots, self.keys)
            spot = places[0].get(part) or places[1].get(part)
            if spot is not None:
                line, column = spot
                break
        return Problem(
            file, line, column, dotted(path), finding.message, finding.found, finding.allowed, finding.nearest,
            finding.severity,
        )  # fmt: skip


class _Container:
    """A mapping or sequence that is being read."""

    __slots__ = ("anchor", "index", "items", "key", "map", "path", "weight")

    def __init__(self, is_map: bool, path: Path, anchor: str | None) -> None:
        self.map: dict[str, Any] | None = {} if is_map else None
        self.items: list[Any] = []
        self.key: str | None = None
        self.index = 0
        self.path = path
        self.anchor = anchor
        self.weight = 1


def read(text: str, *, places: bool = False) -> Document:
    """The values of ``text``; raises Unreadable. ``places`` also keeps where each is, at twice the cost."""
    return _Reader(places).read(text)


def _events(text: str) -> Iterator[Any]:
    """What `yaml.parse` gives, with half of its calls."""
    loader = yaml.CSafeLoader(text)
    try:
        yield from iter(loader.get_event, None)
    finally:
        loader.dispose()


class _Reader:
    def __init__(self, places: bool) -> None:
        self._places = places
        self._findings: list[Finding] = []
        self._keys: dict[Path, Spot] = {}
        self._spots: dict[Path, Spot] = {}
        self._stack: list[_Container] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliases = 0
        self._nodes = 0
        self._root: Any = None
        self._documents = 0

    def read(self, text: str) -> Document:
        try:
            self._run(_events(text))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            why = " ".join(part for part in (error.context, error.problem) if part)
            where = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
            raise Unreadable(*where, f"not YAML: {why or 'syntax error'}") from None
        except yaml.YAMLError as error:
            reason = getattr(error, "reason", None) or "syntax error"
            raise Unreadable(1, 1, f"not YAML: {reason}") from None
        root = {} if self._root is None else self._root
        if not isinstance(root, dict):
            raise Unreadable(1, 1, "the file must hold a mapping of keys to values")
        return Document(root, tuple(self._findings), self._keys, self._spots)

    def _run(self, events: Iterable[Any]) -> None:
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event, kind is yaml.MappingStartEvent)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._close()
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentStartEvent:
                self._documents += 1
                if self._documents > 1:
                    raise _at(event, "more than one document (`---`) in the file")

    def _scalar(self, event: Any) -> None:
        top = self._stack[-1] if self._stack else None
        if top is not None and top.map is not None and top.key is None:
            self._take_key(top, event)
            return
        value: Any = event.value
        if event.implicit[0]:
            value = plain(value)
        elif event.tag is not None and event.tag not in (_TEXT_TAG, "!"):
            self._tagged(event)
        self._count(event, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._put(event, value, 1)

    def _take_key(self, top: _Container, event: Any) -> None:
        key: str = event.value
        path = (*top.path, key)
        if event.implicit[0] and key == "<<":
            self._findings.append(Finding(path, "merge keys are not taken: use a plan or `defaults`", at_key=True))
        elif top.map is not None and key in top.map:
            self._findings.append(Finding(path, "the key is there twice", at_key=True))
        if self._places:
            self._keys[path] = (event.start_mark.line + 1, event.start_mark.column + 1)
        if event.tag is not None and event.tag != _TEXT_TAG:
            self._tagged(event)
        top.key = key
        self._count(event, 1)

    def _open(self, event: Any, is_map: bool) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _at(event, f"nested deeper than {MAX_DEPTH} levels")
        if self._stack and self._stack[-1].map is not None and self._stack[-1].key is None:
            raise _at(event, "a key must be text")
        self._count(event, 1)
        path = self._path()
        if event.tag is not None and not event.implicit:
            self._tagged(event)
        if self._places:
            self._spots.setdefault(path, (event.start_mark.line + 1, event.start_mark.column + 1))
        self._stack.append(_Container(is_map, path, event.anchor))

    def _close(self) -> None:
        done = self._stack.pop()
        value: Any = done.map if done.map is not None else tuple(done.items)
        if done.anchor is not None:
            self._anchors[done.anchor] = (value, done.weight)
        self._put(None, value, done.weight)

    def _alias(self, event: Any) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise _at(event, f"more than {MAX_ALIASES} aliases (`*name`)")
        if event.anchor not in self._anchors:
            raise _at(event, "an alias (`*name`) of no anchor before it, or of one that it is itself inside of")
        value, weight = self._anchors[event.anchor]
        top = self._stack[-1] if self._stack else None
        if top is not None and top.map is not None and top.key is None:
            raise _at(event, "a key must be text, not an alias")
        self._count(event, weight)
        self._put(event, value, weight)

    def _put(self, event: Any, value: Any, weight: int) -> None:
        if self._places and event is not None:
            self._spots.setdefault(self._path(), (event.start_mark.line + 1, event.start_mark.column + 1))
        if not self._stack:
            self._root = value
            return
        top = self._stack[-1]
        top.weight += weight
        if top.map is None:
            top.items.append(value)
            top.index += 1
        elif top.key is not None:
            top.map.setdefault(top.key, value)
            top.key = None

    def _path(self) -> Path:
        if not self._stack:
            return ()
        top = self._stack[-1]
        return (*top.path, top.index if top.map is None else top.key or "")

    def _count(self, event: Any, weight: int) -> None:
        self._nodes += weight
        if self._nodes > MAX_NODES:
            raise _at(event, f"more than {MAX_NODES} values, aliases counted in full")

    def _tagged(self, event: Any) -> None:
        self._findings.append(Finding(self._path(), "tags (`!name`) are not taken"))


def plain(text: str) -> Any:
    """What an unquoted scalar means: nothing, true or false, a whole number, an exact fraction, else its text."""
    if not text or text[0] in "tTfFnN~":
        return _WORDS.get(text, text)
    if text[0] in "0123456789-.":
        if _WHOLE.fullmatch(text):
            return int(text)
        if _FRACTION.fullmatch(text):
            return Decimal(text)
    return text


def _at(event: Any, message: str) -> Unreadable:
    return Unreadable(event.start_mark.line + 1, event.start_mark.column + 1, message)
