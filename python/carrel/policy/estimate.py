"""How many tokens a call can use at most, before it is made, and about how many it used where nobody said.

The bound on input is strict for byte-level tokenizers, which every served model has: a token is at least one byte of
text, and the JSON around a message is longer than the tokens that a vendor's template puts around it. Images are the
exception, for a short address may stand for a large picture; each has a bound of its own.
"""

from typing import Final

TEMPLATE_TOKENS: Final = 1024
"""What a vendor may add by itself: its template, the instructions for tools."""
IMAGE_TOKENS: Final = 8192
"""More than any served model counts for one image."""
BYTES_PER_TOKEN: Final = 4
"""The usual length of a token, for estimates that are called so."""


def worst_input(body_bytes: int, *, images: int, context_window: int) -> int:
    """The most input tokens of a request of that many bytes; a vendor refuses what is over the model's window."""
    return min(body_bytes + TEMPLATE_TOKENS + images * IMAGE_TOKENS, context_window)


def worst_output(asked: int | None, *, max_output: int, choices: int = 1) -> int:
    """The most output tokens where the caller asked for ``asked`` at most (None: for no limit) in each choice."""
    return (max_output if asked is None else asked) * choices


def likely(size: int) -> int:
    """About how many tokens ``size`` bytes of text are."""
    return -(-max(size, 0) // BYTES_PER_TOKEN)
