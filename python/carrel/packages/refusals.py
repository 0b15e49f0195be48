"""What Nix's errors mean to whoever asked for packages: one sentence, with no path of this machine in it."""

import difflib
import re
from collections.abc import Sequence
from typing import Final

from carrel.packages.protocol import BuildFailed, PackageError

_UNKNOWN: Final = re.compile(r"error: (the test set|nixpkgs) has no package (.+?)(?:; it has (.*))?$")
_WRONG_HASH: Final = re.compile(r"(?:hash|store path) mismatch in .*?'/?(?:[^']*/)?([^'/]+)'")
_BUILDER: Final = re.compile(r"error: builder for '/nix/store/[^-']+-([^']+)\.drv' (failed[^;]*|timed out[^;]*)")
_LOG_LINE: Final = re.compile(r"^\s*> (.*\S)")
_PLACE: Final = re.compile(r"(?<![\w.])/(?!nix/store/)(?:[^\s'\"/]+/)+(?=[^\s'\"/])")


def refusal(lines: Sequence[str]) -> PackageError:
    """The error that Nix's standard error stands for. What another attempt cannot mend is not retryable."""
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        return BuildFailed("The disk is full: the environment cannot be built.")
    for line in lines:
        unknown = _UNKNOWN.search(line)
        if unknown is not None:
            return PackageError(_unknown(unknown[1], unknown[2], (unknown[3] or "").split(", ")))
        wrong = _WRONG_HASH.search(line)
        if wrong is not None:
            return PackageError(
                f"The environment cannot be built: {wrong[1]} is not what its hash says. Fetch it again."
            )
    said = [found[1] for line in lines if (found := _LOG_LINE.match(line))]
    for line in lines:
        builder = _BUILDER.search(line)
        if builder is not None:
            why = f": {_PLACE.sub('', said[-1])[:300]}" if said else ""
            return BuildFailed(f"The environment cannot be built: {builder[1]} {builder[2]}{why}.")
    told = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix("error: ") for line in told if line.startswith("error: ")]
    reason = _PLACE.sub("", (errors or told or ["no reason given"])[-1])
    return BuildFailed(f"The environment cannot be built: {reason[:300]}")


def _unknown(source: str, name: str, has: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, has, n=1)
    hint = f" Did you mean `{nearest[0]}`?" if nearest else ""
    offered = f" It has {', '.join(has)}." if any(has) else ""
    return f"{source[0].upper()}{source[1:]} has no package `{name}`.{hint}{offered}"
