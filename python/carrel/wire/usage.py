"""What vendors say a call used, wherever they say it, as disjoint token counts."""

from collections.abc import Mapping
from typing import Any, Final, cast

from carrel.declare.rate_card import Tier, TokenCounts

Json = Mapping[str, Any]
_NOTHING: Final[Json] = {}
_TOTALS: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"})
"""What the usage of a vendor that tells no classes apart consists of."""


_SERVED: Final[Mapping[str, Tier]] = {
    "default": "standard", "standard": "standard", "standard_only": "standard", "on_demand": "standard",
    "flex": "batch", "batch": "batch",
    "priority": "priority", "fast": "priority", "scale": "priority", "performance": "priority",
}  # fmt: skip


def tier_of(holder: Json) -> Tier | None:
    """The tier that a request asks for, or that an answer says it was served at; None where that is left open."""
    tier = holder.get("service_tier")
    return _SERVED.get(tier) if isinstance(tier, str) else None


def count(value: object) -> int:
    """A token count out of JSON; whatever is not a whole number of at least 0 counts as 0."""
    if value is None:
        return 0
    if type(value) is int:
        return max(value, 0)
    if isinstance(value, bool):
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return max(value, 0) if isinstance(value, int) else 0


def _inner(usage: Json, *names: str) -> Json:
    for name in names:
        value = usage.get(name)
        # A dict is the usual case, and far cheaper to know than a Mapping.
        if value is not None and (type(value) is dict or isinstance(value, Mapping)):
            return cast(Json, value)
    return _NOTHING


def usage_from_openai(usage: Json, *, served: Tier | None = None) -> TokenCounts:
    """Disjoint counts from an OpenAI-shaped ``usage``, with the ways other vendors fill it.

    ``served`` is what is said beside it, by `tier_of` the whole answer.

    Cached tokens: ``prompt_tokens_details.cached_tokens`` (OpenAI, vLLM), ``prompt_cache_hit_tokens`` (DeepSeek),
    ``cached_tokens`` (Moonshot). They are inside ``prompt_tokens``. Reasoning is inside ``completion_tokens``, except
    where ``total_tokens`` shows that a vendor counts it beside them.
    """
    prompt = count(usage.get("prompt_tokens")) or count(usage.get("input_tokens"))
    completion = count(usage.get("completion_tokens")) or count(usage.get("output_tokens"))
    if usage.keys() <= _TOTALS:
        return TokenCounts(input=prompt, output=completion, served=served)
    prompt_details = _inner(usage, "prompt_tokens_details", "input_tokens_details")
    completion_details = _inner(usage, "completion_tokens_details", "output_tokens_details")
    hit, miss = count(usage.get("prompt_cache_hit_tokens")), count(usage.get("prompt_cache_miss_tokens"))
    prompt = prompt or hit + miss
    cache_read = min(count(prompt_details.get("cached_tokens")) or hit or count(usage.get("cached_tokens")), prompt)
    cache_write = min(
        count(prompt_details.get("cache_write_tokens")) or count(prompt_details.get("cache_creation_tokens")),
        prompt - cache_read,
    )
    reasoning = count(completion_details.get("reasoning_tokens")) or count(usage.get("reasoning_tokens"))
    beside = reasoning > completion or (
        reasoning > 0 and count(usage.get("total_tokens")) == prompt + completion + reasoning
    )
    return TokenCounts(
        input=prompt - cache_read - cache_write,
        cache_read=cache_read,
        cache_write=cache_write,
        output=completion if beside else completion - reasoning,
        reasoning=reasoning,
        served=served,
    )


def find_openai_usage(record: Json) -> Json | None:
    """The usage object of one chunk or completion: at the top, in a choice (Moonshot), or under ``x_groq`` (Groq)."""
    usage = _inner(record, "usage")
    if usage:
        return usage
    choices = record.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if type(choice) is dict or isinstance(choice, Mapping):
            usage = _inner(choice, "usage")
            if usage:
                return usage
    return _inner(_inner(record, "x_groq"), "usage") or None


def usage_from_anthropic(usage: Json) -> TokenCounts:
    """Disjoint counts from an Anthropic ``usage``: its input classes are disjoint, thinking is in the output.

    ``cache_creation`` says how long what was written is kept; its sum is ``cache_creation_input_tokens``.
    """
    written = _inner(usage, "cache_creation")
    hour = count(written.get("ephemeral_1h_input_tokens"))
    told = count(usage.get("cache_creation_input_tokens"))
    output = count(usage.get("output_tokens"))
    reasoning = min(count(_inner(usage, "output_tokens_details").get("thinking_tokens")), output)
    return TokenCounts(
        input=count(usage.get("input_tokens")),
        cache_read=count(usage.get("cache_read_input_tokens")),
        cache_write=max(told, hour + count(written.get("ephemeral_5m_input_tokens"))),
        output=output - reasoning,
        reasoning=reasoning,
        cache_write_1h=hour,
        served=tier_of(usage),
    )


def usage_to_openai(counts: TokenCounts) -> dict[str, Any]:
    """``counts`` as an OpenAI ``usage`` object."""
    prompt = counts.input + counts.cache_read + counts.cache_write
    completion = counts.output + counts.reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": counts.cache_read} | _written(counts),
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    }


def usage_to_responses(counts: TokenCounts) -> dict[str, Any]:
    """``counts`` as the ``usage`` object of a response."""
    prompt = counts.input + counts.cache_read + counts.cache_write
    completion = counts.output + counts.reasoning
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": counts.cache_read, "cache_write_tokens": counts.cache_write},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": prompt + completion,
    }


def usage_to_anthropic(counts: TokenCounts) -> dict[str, Any]:
    """``counts`` as Anthropic's ``usage`` object, its classes of input disjoint as ours are."""
    return {
        "input_tokens": counts.input,
        "cache_read_input_tokens": counts.cache_read,
        "cache_creation_input_tokens": counts.cache_write,
        "cache_creation": {
            "ephemeral_5m_input_tokens": counts.cache_write - counts.cache_write_1h,
            "ephemeral_1h_input_tokens": counts.cache_write_1h,
        },
        "output_tokens": counts.output + counts.reasoning,
        "output_tokens_details": {"thinking_tokens": counts.reasoning},
    }


def _written(counts: TokenCounts) -> dict[str, int]:
    """What was written to a cache, which the vendor of this dialect does not bill and so does not always name."""
    return {"cache_write_tokens": counts.cache_write} if counts.cache_write else {}
