"""Where objects are, as a person writes it: `s3://bucket/prefix` or `file:///directory`."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from carrel.errors import InvalidRequest

MOST_CHARACTERS: Final = 1024
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PART: Final = re.compile(r"[A-Za-z0-9!_.*'()-]{1,255}")
_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}(?:/[A-Za-z0-9_.-]{1,255}){0,8}")


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket and a prefix of whole parts, or an absolute directory, which is then ``prefix``."""

    scheme: Literal["s3", "file"]
    bucket: str
    prefix: str

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{self.prefix}"
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def within(self, other: "Location") -> bool:
        """Whether this is ``other`` or lies beneath it, by whole parts: `a-evil` is not beneath `a`."""
        if (self.scheme, self.bucket) != (other.scheme, other.bucket):
            return False
        return not other.prefix or self.prefix == other.prefix or self.prefix.startswith(other.prefix + "/")


def parse_location(text: str) -> Location:
    """The place that ``text`` names; raises InvalidRequest."""
    if len(text) > MOST_CHARACTERS or not text.isprintable():
        raise InvalidRequest("A backup's place is one line of printable text.", param="to")
    scheme, colon, rest = text.partition("://")
    if scheme == "file" and colon:
        path = PurePosixPath(rest)
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or rest.startswith("//"):
            raise InvalidRequest(f"{text!r} names no directory: write `file:///an/absolute/directory`.", param="to")
        return Location("file", "", str(path))
    if scheme != "s3" or not colon:
        raise InvalidRequest(f"{text!r} is no place: write `s3://bucket/prefix` or `file:///directory`.", param="to")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidRequest(
            f"{bucket!r} is no bucket's name: 3 to 63 of a-z, 0-9, '.' and '-'.", param="to"
        )  # fmt: skip
    if prefix and not all(_PART.fullmatch(part) and part not in (".", "..") for part in prefix.split("/")):
        raise InvalidRequest(
            f"{prefix!r} is no prefix: its parts are letters, digits and `!_.*'()-`, with one '/' between them.",
            param="to",
        )
    return Location("s3", bucket, prefix)


def require_key(key: str) -> str:
    """``key`` where it is one that Carrel makes; raises InvalidRequest, whoever wrote it."""
    if not _KEY.fullmatch(key) or any(part in (".", "..") for part in key.split("/")):
        raise InvalidRequest("That is no key of a backup's.", param="key")
    return key


def require_prefix(prefix: str) -> str:
    """``prefix`` where it is empty or whole parts that end in ``/``; raises InvalidRequest."""
    if prefix and (not prefix.endswith("/") or require_key(prefix[:-1]) != prefix[:-1]):
        raise InvalidRequest("A prefix of a backup's is whole parts, each ended by '/'.", param="prefix")
    return prefix
