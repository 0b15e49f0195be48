"""What Nix's errors mean to whoever asked for packages: one sentence, with no path of this machine in it."""

import re
from collections.abc import Collection, Sequence
from typing import Final

from carrel.declare.problems import nearest
from carrel.packages.protocol import BuildFailed, NoRoom, PackageError, UnknownPackage
from carrel.telemetry import escape_text

_TOLD: Final = 40
_NO_ROOM: Final = ("No space left on device", "Disk quota exceeded", "database or disk is full")

_UNKNOWN: Final = re.compile(r"error: (the test set|nixpkgs) has no package (.+?)(?:; it has (.*))?$")
_NOT_PERMITTED: Final = re.compile(
    r"Package \u2018([^\u2019]+)\u2019.* (has an unfree license|is marked as (?:insecure|broken))"
)
_STOPPED: Final = re.compile(
    r"error: building of '/nix/store/[^-']+-([^']+?)\.drv[^']*'.* (timed out after .*|killed after writing .*)"
)
_OUT_OF_MEMORY: Final = re.compile(r"error: (out of memory|stack overflow.*)|std::bad_alloc")
_IMPORTS: Final = re.compile(r"cannot build '/nix/store/[^-']+-([^']+)\.drv' .*allow-import-from-derivation")
_NIX_SAYS: Final = re.compile(
    r"(error|warning|note): |(this|these) .*(derivation|path)s? will be |copying path|building '|  /nix/store/|\s*$"
)
_WRONG_HASH: Final = re.compile(r"(?:hash|store path) mismatch in .*?'/?(?:[^']*/)?([^'/]+)'")
_BUILDER: Final = re.compile(r"error: builder for '/nix/store/[^-']+-([^']+)\.drv' (failed[^;]*|timed out[^;]*)")
_LOG_LINE: Final = re.compile(r"^\s*> (.*\S)")
_ADVICE: Final = re.compile(r" \(use '--impure' to override\)")
_PLACE: Final = re.compile(r"(?<![\w.])/(?!nix/store/)(?:[^\s'\"/]+/)+(?=[^\s'\"/])")


def not_evaluated(lines: Sequence[str]) -> PackageError:
    """The error that an evaluation's standard error stands for. What another attempt cannot mend is not retryable."""
    for line in lines:
        found = _UNKNOWN.search(line)
        if found is not None:
            return unknown(found[1], found[2], (found[3] or "").split(", "))
        told = _not_permitted(line) or _over_its_limits(line) or _wrong_hash(line)
        if told is not None:
            return told
    return _for_another_reason(lines)


def not_built(lines: Sequence[str]) -> PackageError:
    """The error that a build's standard error stands for, in which builders have their say too."""
    said: list[str] = []
    for place, line in enumerate(lines):
        wrong = _wrong_hash(line)
        if wrong is not None:
            return wrong
        stopped = _STOPPED.search(line)
        if stopped is not None:
            return BuildFailed(f"The environment cannot be built: {stopped[1]} {stopped[2].rstrip('.')}.")
        builder = _BUILDER.search(line)
        if builder is not None and not _full(lines):
            # Where the log was not shown as it came, its end is quoted behind.
            quoted = [found[1] for later in lines[place:] if (found := _LOG_LINE.match(later))]
            last = (quoted or said or [""])[-1]
            why = f": {_PLACE.sub('', last)[:300]}" if last else ""
            return BuildFailed(f"The environment cannot be built: {builder[1]} {builder[2]}{why}.")
        if not _NIX_SAYS.match(line):
            said.append(line.strip())
    return _for_another_reason(lines)


def _for_another_reason(lines: Sequence[str]) -> PackageError:
    if _full(lines):
        return NoRoom("The disk is full: the environment cannot be built.")
    told = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix("error: ") for line in told if line.startswith("error: ")]
    reason = _PLACE.sub("", _ADVICE.sub("", (errors or told or ["no reason given"])[-1]))
    return BuildFailed(f"The environment cannot be built: {reason[:300]}")


def _full(lines: Sequence[str]) -> bool:
    return any(said in line for line in lines for said in _NO_ROOM)


def _wrong_hash(line: str) -> PackageError | None:
    wrong = _WRONG_HASH.search(line)
    if wrong is None:
        return None
    return PackageError(f"The environment cannot be built: {wrong[1]} is not what its hash says. Fetch it again.")


def unknown(source: str, name: str, has: Collection[str]) -> UnknownPackage:
    """The error of a ``name`` that is not among those that ``source`` has; where they are many only one is told."""
    close = nearest(name, has)
    hint = f" Did you mean `{close}`?" if close else ""
    told = sorted(has)[:_TOLD]
    more = f" and {len(has) - _TOLD} more" if len(has) > _TOLD else ""
    offered = f" It has {', '.join(told)}{more}." if any(told) else ""
    # A letter that only looks like one of those that names are made of is told as what it is.
    shown = escape_text(name[:80]).encode("ascii", "backslashreplace").decode()
    return UnknownPackage(f"{source[0].upper()}{source[1:]} has no package `{shown}`.{hint}{offered}")


def _not_permitted(line: str) -> PackageError | None:
    found = _NOT_PERMITTED.search(line)
    if found is None:
        return None
    name, why = found[1], found[2]
    if "broken" in why:
        return PackageError(f"The package {name} is marked as broken.")
    kind, entry = ("unfree", re.sub(r"-[0-9].*", "", name)) if "unfree" in why else ("insecure", name)
    return PackageError(
        f"The package {name} is {kind}, and the operator does not permit it: packages.{kind} of _allowlists.yaml would "
        f"have to name {entry}."
    )


def _over_its_limits(line: str) -> PackageError | None:
    if _OUT_OF_MEMORY.search(line):
        return PackageError(
            "The environment cannot be built: its evaluation took more memory than it may "
            "(packages.evaluation_memory_bytes)."
        )
    imports = _IMPORTS.search(line)
    if imports is not None:
        return PackageError(f"The environment cannot be built: evaluating it would have to build {imports[1]} first.")
    return None
