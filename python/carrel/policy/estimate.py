"""How many tokens a call can use at most, before it is made, and about how many it used where nobody said.

What a vendor says is taken where it can be: a prompt of no tokens, text of none, and a hundred times the worst case are
what no call can have used.

The bound on input is strict for byte-level tokenizers, which every served model has: a token is at least one byte of
text, and the JSON around a message is longer than the tokens that a vendor's template puts around it. Images are the
exception, for a short address may stand for a large picture; each has a bound of its own.
"""

from dataclasses import replace
from typing import Final

from carrel.declare.rate_card import Tier, TokenCounts

TEMPLATE_TOKENS: Final = 1024
"""What a vendor may add by itself: its template, the instructions for tools."""
IMAGE_TOKENS: Final = 8192
"""More than any served model counts for one image."""
BYTES_PER_TOKEN: Final = 4
"""The usual length of a token, for estimates that are called so."""

ABSURD: Final = 100
"""So many times its worst case no call used, whatever a vendor adds to a prompt or thinks beyond a limit."""


def worst_input(body_bytes: int, *, images: int, context_window: int) -> int:
    """The most input tokens of a request of that many bytes; a vendor refuses what is over the model's window."""
    return min(body_bytes + TEMPLATE_TOKENS + images * IMAGE_TOKENS, context_window)


def worst_output(asked: int | None, *, max_output: int, choices: int = 1) -> int:
    """The most output tokens where the caller asked for ``asked`` at most (None: for no limit) in each choice."""
    return (max_output if asked is None else asked) * choices


def likely(size: int) -> int:
    """About how many tokens ``size`` bytes of text are."""
    return -(-max(size, 0) // BYTES_PER_TOKEN)


def filled(
    said: TokenCounts | None, *, prompt: int, output: int, reasoning: int = 0, served: Tier | None = None
) -> tuple[TokenCounts, bool]:
    """What a whole answer used, and whether some of it is an estimate: of what its vendor did not say.

    A vendor that counts no prompt has not counted it, and one that counts no answer has not where there is one. The
    estimates are of the prompt, and of what was said and thought. ``served`` is the tier that the vendor named beside.
    """
    if said is None:
        return TokenCounts(input=prompt, output=output, reasoning=reasoning, served=served), True
    if served and not said.served:
        said = replace(said, served=served)
    unsaid = not said.prompt and prompt > 0
    if unsaid:
        said = replace(said, input=prompt)
    if not (said.output or said.reasoning) and output + reasoning > 0:
        return replace(said, output=output, reasoning=reasoning), True
    return said, unsaid


def believable(said: TokenCounts, *, max_input: int, max_output: int) -> TokenCounts:
    """``said`` where a call of that worst case can have used it; else the worst case in place of what is absurd."""
    if said.prompt > ABSURD * max(max_input, TEMPLATE_TOKENS):
        said = TokenCounts(input=max_input, output=said.output, reasoning=said.reasoning, served=said.served)
    if said.output + said.reasoning > ABSURD * max(max_output, TEMPLATE_TOKENS):
        said = replace(said, output=max_output, reasoning=0)
    return said
