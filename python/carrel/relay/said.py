"""About how many tokens a call had, where its vendor did not count: from its text, without the frames around it.

Pure. Text is found as bytes between quotation marks, behind the names that a dialect gives it; nothing is parsed, so
half an answer is read as a whole one is.
"""

import re
from typing import Final

from carrel.policy.estimate import IMAGE_TOKENS, likely

_ENCODED: Final = re.compile(rb"[A-Za-z0-9+/=_-]{2048,}")
"""An image or a file in a request: its bytes are no text."""
KEPT: Final = 32 << 10
"""Bytes of an answer that are looked at; what is longer is taken to be like them."""


def prompt_tokens(body: bytes, *, images: int, most: int) -> int:
    """About how many tokens the request ``body`` has, of ``most``; ``images`` are those that it only names, too."""
    encoded = _ENCODED.findall(body)
    text = likely(len(body) - sum(map(len, encoded)))
    return min(text + max(len(encoded), images) * IMAGE_TOKENS, most)


def text_members(*names: str) -> re.Pattern[bytes]:
    """What finds the text of members of these names."""
    return re.compile(rb'"(?:%b)"\s*:\s*(?:"((?:[^"\\]|\\.)*)|null)' % "|".join(names).encode())


def tokens_in(
    front: bytes, size: int, text: re.Pattern[bytes], *, stream: bool = False, counted: bool = False
) -> int:  # fmt: skip
    """About how many tokens the answer of ``size`` bytes said that begins with ``front``.

    A quarter of the bytes of its text, and of a stream one for each piece of text at least. Where there are none of the
    members that text is in, the answer is of a shape that nobody knows: then all of it is taken for text. ``counted``:
    its vendor counted something, so that an answer without text is one.
    """
    found = text.findall(front)
    if not found:
        return 0 if counted else likely(size)
    seen = likely(sum(len(piece) for piece in found))
    if stream:
        seen = max(seen, sum(1 for piece in found if piece))
    return seen if size <= len(front) else -(-seen * size // len(front))
