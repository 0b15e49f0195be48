"""Edits YAML text in place: comments, order, quoting and layout stay as their author left them."""

import difflib
import io
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import yaml as pyyaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, FoldedScalarString, LiteralScalarString

from carrel.declare.document import Unreadable, plain, read
from carrel.vcs.edits import DELETE, NotEditable

_BLOCKS: Final = (LiteralScalarString, FoldedScalarString)


def edit(text: str, changes: Mapping[tuple[str, ...], object]) -> str:
    """``text`` with each key at its path set, or taken out by DELETE; mappings on the way are made.

    Values are text, numbers, booleans, None, and mappings and sequences of them. What stands under another key of the
    top is not touched at all. Raises NotEditable where the text is not YAML of ours, a path leads through something
    else than mappings, or the result would not read back as meant.
    """
    if "\r\n" in text and text.count("\r\n") == text.count("\n"):
        return edit(text.replace("\r\n", "\n"), changes).replace("\n", "\r\n")
    before = _values(text)
    try:
        document = _yaml(text).load(text)
    except YAMLError as error:
        raise NotEditable(f"The YAML cannot be edited: {error}") from error
    if document is None:
        document = CommentedMap()
    for path, value in changes.items():
        _apply(document, path, value)
        before = _applied(before, path, value)
    for result in _ways(text, document, {path[0] for path in changes}):
        if _reads_as(result, before):
            return result
    raise NotEditable("The YAML cannot be edited: the result would not read back as meant. Edit it by hand.")


def _ways(text: str, document: CommentedMap, touched: Collection[str]) -> Iterator[str]:
    """``text`` as ``document`` is now, the way that leaves most of it as it was first."""
    try:
        dumped = _dump(text, document)
        # Where the file has no line end at its end, one behind the last value may be a part of that.
        last = [] if text.endswith("\n") else list(_places(text))[-1:]
        for apart in (touched, {*touched, *last}) if last else (touched,):
            kept = _as_they_were(text, dumped, apart)
            yield _with_remarks(text, kept)
            yield kept
        yield _with_remarks(text, dumped)
    except (YAMLError, pyyaml.YAMLError, AttributeError):
        # Where a remark is in the way of what is new, the library writes what is no YAML, or breaks off.
        return
    yield dumped


def _reads_as(text: str, values: dict[str, Any]) -> bool:
    try:
        return _values(text) == values
    except NotEditable:
        return False


def _dump(text: str, document: CommentedMap) -> str:
    if not document:
        return "".join(line for line in text.splitlines(keepends=True) if _is_remark(line))
    out = io.StringIO()
    _yaml(text).dump(document, out)
    return out.getvalue()


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _values_of_lines(text: str) -> frozenset[int]:
    """The lines, by number, that are inside of a value of several: there nothing is a remark."""
    lines = text.splitlines()
    inside = set[int]()
    for token in pyyaml.scan(text, pyyaml.CSafeLoader):
        if not isinstance(token, pyyaml.ScalarToken) or token.start_mark.line == token.end_mark.line:
            continue
        start, end = token.start_mark.line, token.end_mark.line
        if token.style in ("|", ">"):
            # It ends at the next line's beginning, if any; empty ones behind it are its own only where all are kept.
            end -= not token.end_mark.column
            keeps = "+" in lines[start][token.start_mark.column :].partition("#")[0]
            while not keeps and not lines[end].strip():
                end -= 1
        inside.update(range(start + 1, end + 1))
    return frozenset(inside)


def _split(text: str) -> tuple[list[str], list[list[str]]]:
    """The lines that hold something, and the remarks (comments, empty lines) above each and after the last."""
    lines: list[str] = []
    remarks: list[list[str]] = [[]]
    inside = _values_of_lines(text)
    for number, line in enumerate(text.splitlines(keepends=True)):
        if _is_remark(line) and number not in inside:
            remarks[-1].append(line)
        else:
            lines.append(line)
            remarks.append([])
    return lines, remarks


def _with_remarks(before: str, after: str) -> str:
    """``after`` with the remarks of ``before`` above the lines that they were above.

    The library hangs a remark onto the value that comes before it, and loses or moves it with that value.
    """
    old, old_remarks = _split(before)
    new, _ = _split(after)
    above: list[list[str]] = [[] for _ in range(len(new) + 1)]
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal" or i2 - i1 == j2 - j1:
            for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                above[j] += old_remarks[i]
        else:
            above[j1 if kind == "replace" else j2] += [line for i in range(i1, i2) for line in old_remarks[i]]
    above[-1 if old else 0] += old_remarks[-1]
    result = [line for j, remarks in enumerate(above) for line in [*remarks, *new[j : j + 1]]]
    return "".join(line if line.endswith("\n") else line + "\n" for line in result)


def _as_they_were(before: str, after: str, touched: Collection[str]) -> str:
    """``after`` with the lines of ``before`` for each key of the top that is in both and not ``touched``.

    The library sets flow mappings of several lines anew, and loses the remarks in them.
    """
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    were = _places(before)
    for key, (start, end) in reversed(_places(after).items()):
        if key in were and key not in touched:
            new[start:end] = [line if line.endswith("\n") else line + "\n" for line in old[slice(*were[key])]]
    return "".join(new)


def _places(text: str) -> dict[str, tuple[int, int]]:
    """The lines of each key of the top, in their order, without remarks behind them."""
    root = pyyaml.compose(text, pyyaml.CSafeLoader)
    if not isinstance(root, pyyaml.MappingNode) or root.flow_style:
        return {}
    lines, inside = text.splitlines(), _values_of_lines(text)
    starts = [key.start_mark.line for key, _ in root.value]
    places = {}
    for (key, _), start, end in zip(root.value, starts, [*starts[1:], len(lines)], strict=True):
        said = (at for at in range(end, start + 1, -1) if not _is_remark(lines[at - 1]) or at - 1 in inside)
        places[str(key.value)] = (start, next(said, start + 1))
    return places


def _yaml(text: str) -> YAML:
    yaml = YAML(typ="rt")
    yaml.version = None
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    yaml.allow_duplicate_keys = False
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.representer.add_representer(Decimal, _represent_decimal)
    indent, offset = _layout(text)
    yaml.indent(mapping=indent, sequence=offset + 2, offset=offset)
    return yaml


def _represent_decimal(representer: Any, value: Decimal) -> Any:
    text = format(value, "f")
    # A whole number with the tag of a fraction would be written with that tag.
    return representer.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in text else 'int'}", text)


def _layout(text: str) -> tuple[int, int]:
    """How far mappings, and dashes under their key, are set in: as the text does it, else by two."""
    mapping, offset = 2, 2
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for above, below in pairwise(lines):
        step = (len(below) - len(below.lstrip())) - (len(above) - len(above.lstrip()))
        if not above.rstrip().endswith(":"):
            continue
        if below.lstrip().startswith("- "):
            return mapping, max(step, 0)
        if step > 0:
            mapping = step
    return mapping, offset


def _apply(document: Any, path: tuple[str, ...], value: object) -> None:
    if not path:
        raise NotEditable("The YAML cannot be edited: no key is named.")
    at: Any = document
    above: Any = None
    for depth, key in enumerate(path[:-1]):
        below = at.get(key) if isinstance(at, MutableMapping) else None
        if below is None:
            if value is DELETE:
                return
            below = at[key] = CommentedMap()
        elif not isinstance(below, MutableMapping):
            raise NotEditable(f"The YAML cannot be edited: {'.'.join(path[: depth + 1])} is not a mapping.")
        at, above = below, at
    if value is DELETE:
        at.pop(path[-1], None)
        if above is not None and not at and not at.anchor.value:
            # One with nothing in it is written with braces, which the remarks in it would stand before.
            above[path[-2]] = CommentedMap()
            above.ca.items.pop(path[-2], None)
    else:
        was = at.get(path[-1])
        at[path[-1]] = _commented(value)
        if isinstance(was, _BLOCKS):
            _part_with_block(at, path[-1])


def _part_with_block(at: CommentedMap, key: str) -> None:
    """Let go of the remark that the library keeps behind a text of several lines that was under ``key``.

    It would be set beside what is there now, too. The one in the text's first line stays in that line.
    """
    kept = at.ca.items.pop(key, None) or [None] * 4
    head = "".join(kept[3] or ()).strip()
    if head and isinstance(at[key], _BLOCKS):
        at[key].comment = f" {head}"
    elif head:
        at.yaml_add_eol_comment(head, key, column=0)


def _commented(value: object) -> Any:
    match value:
        case Mapping():
            return CommentedMap((str(key), _commented(item)) for key, item in value.items())
        case list() | tuple():
            sequence = CommentedSeq(_commented(item) for item in value)
            if all(isinstance(item, str | int) for item in value):
                sequence.fa.set_flow_style()
            return sequence
        case str():
            return _text(value)
        case None | bool() | int() | Decimal():
            return value
        case _:
            raise NotEditable(f"The YAML cannot be edited: {type(value).__name__} is no value of YAML.")


def _text(value: str) -> Any:
    """Text that stays text: quoted where plain it would be something else, to any reader of YAML."""
    if "\n" in value.rstrip("\n") and all(c.isprintable() or c == "\n" for c in value):
        return LiteralScalarString(value)
    if plain(value) is not value or value.lower() in ("yes", "no", "on", "off", "y", "n"):
        return DoubleQuotedScalarString(value)
    return value


def _applied(values: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    """What reading back must give."""
    key, rest = path[0], path[1:]
    result = dict(values)
    if rest:
        below = values.get(key)
        if below is None and value is DELETE:
            return result
        if below is not None and not isinstance(below, dict):
            raise NotEditable(f"The YAML cannot be edited: {key} is not a mapping.")
        result[key] = _applied(below or {}, rest, value)
    elif value is DELETE:
        result.pop(key, None)
    else:
        result[key] = _read_back(value)
    return result


def _read_back(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _read_back(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_read_back(item) for item in value)
    return value


def _values(text: str) -> dict[str, Any]:
    try:
        document = read(text)
    except Unreadable as error:
        raise NotEditable(f"The YAML cannot be edited: line {error.line}: {error.message}.") from error
    if document.findings:
        raise NotEditable(f"The YAML cannot be edited: {document.findings[0].message}.")
    return document.values
