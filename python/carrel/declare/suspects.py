"""Values that look like secrets. They do not belong in YAML, nor in any message about it."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

_KNOWN: Final = re.compile(
    r"""
      (?<![A-Za-z0-9])sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}
    | (?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,} | glpat-[A-Za-z0-9_-]{16,}
    | (?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])
    | (?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,} | xapp-[A-Za-z0-9-]{20,}
    | (?<![A-Za-z0-9])[ta]k_[a-z0-9][a-z0-9_-]{0,63}_[0-9a-f]{32}
    | (?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35} | (?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}
    | (?<![A-Za-z0-9])[rs]k_live_[A-Za-z0-9]{16,} | whsec_[A-Za-z0-9]{20,}
    | (?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}
    | (?<![A-Za-z0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])
    | -----BEGIN[ ](?:[A-Z0-9]+[ ]){0,4}PRIVATE[ ]KEY | AGE-SECRET-KEY-1
    """,
    re.VERBOSE,
)
_PEM: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY.*?(?:-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY-----|\Z)", re.DOTALL
)
_WHOLE: Final = re.compile(f"(?:{_KNOWN.pattern})[A-Za-z0-9_.~+/=-]*", re.VERBOSE)
"""One of a known kind, and what it goes on with."""
HIDDEN: Final = "***"
_KEY: Final = re.compile(
    r"(?:api|access|private|auth|secret|signing)[_-]?(?:key|token)|key_?secret|passw(?:or)?d|passphrase|credentials?"
    r"|bearer|(?:.*[_-])?token|(?:.*[_-])?secret",
    re.IGNORECASE,
)
_KEY_HINT: Final = re.compile(r"(?i)key|token|passw|passphrase|secret|credential|bearer")
_SHORTEST: Final = 12
"""No secret of any kind is shorter."""
_NAME: Final = re.compile(r"(?:[A-Z][A-Z0-9]*|[a-z][a-z0-9]*)(?:[_.-](?:[A-Z0-9]+|[a-z0-9]+))*")


def looks_secret(text: str) -> bool:
    """Whether ``text`` has the shape of a known kind of secret in it. A placeholder is none."""
    found = _KNOWN.search(text)
    return found is not None and "carrel_secret_" not in found.group()


def without_secrets(text: str) -> str:
    """``text`` with what `looks_secret` sees in it cut to its first characters, which tell of what kind it was."""
    if len(text) < _SHORTEST or _KNOWN.search(text) is None:
        return text
    return _WHOLE.sub(_hidden, _PEM.sub(_hidden, text))


def _hidden(found: re.Match[str]) -> str:
    whole = found.group()
    return whole if "carrel_secret_" in whole else whole[:4] + HIDDEN


def is_secret_of(key: str, text: str) -> bool:
    """Whether ``text`` is random where ``key`` tells of a secret."""
    return len(text) >= _SHORTEST and _KEY.fullmatch(key.rpartition(".")[2]) is not None and _random(text)


def may_hold_secret(text: str) -> bool:
    """A quick look at a whole file: False means that `secrets_in` would find nothing."""
    return _KEY_HINT.search(text) is not None or _KNOWN.search(text) is not None


def secrets_in(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of the values beneath ``value`` that look like secrets, by shape or by randomness under a telling key."""
    if isinstance(value, str):
        # Nearly all values are shorter than any secret: a look at each would take a tenth of a first start.
        if len(value) >= _SHORTEST and (looks_secret(value) or (_telling(path) and _random(value))):
            yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            if len(key) >= _SHORTEST and looks_secret(key):
                yield (*path, key)
            if _worth(item):
                yield from secrets_in(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if _worth(item):
                yield from secrets_in(item, (*path, index))


def _worth(item: object) -> bool:
    """Whether there may be something in ``item``."""
    return len(item) >= _SHORTEST if isinstance(item, str) else isinstance(item, dict | list | tuple)


def _telling(path: tuple[str | int, ...]) -> bool:
    names = [part for part in path[-2:] if isinstance(part, str)]
    return bool(names) and _KEY.fullmatch(names[-1]) is not None


def _random(text: str) -> bool:
    """Long, without spaces, and with no order in it: 3 bits a character or more and no plain name."""
    if len(text) < _SHORTEST or len(text) > 4096 or any(c.isspace() for c in text):
        return False
    digits = sum(c.isdigit() for c in text)
    if _NAME.fullmatch(text) and (digits <= 3 or len(text) / (1 + text.count("_") + text.count("-")) < 12):
        return False
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return entropy >= 3.0
