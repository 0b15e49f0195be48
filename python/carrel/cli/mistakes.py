"""What is wrong with a command's words, said to whoever typed them."""

from collections.abc import Sequence
from typing import Final, get_args

from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnusedCliTokensError,
)

from carrel.declare.problems import nearest

_KINDS: Final = {int: "a whole number", float: "a number"}


def mistake(error: CycloptsError, app_name: str, commands: Sequence[tuple[str, ...]]) -> str:
    """The mistake as a sentence. ``commands`` are all that there are, by their words."""
    chain = [app_name, *(error.command_chain or ())]
    command = f"`{' '.join(chain)}`"
    match error:
        case UnknownCommandError(unused_tokens=[word, *_]):
            return _unknown(word, chain, [words for words in commands if list(words[:-1]) == chain[1:]])
        case MissingArgumentError(argument=argument, keyword=None) if argument is not None and not argument.tokens:
            return f"{command} needs {argument.name}{_about(argument.parameter.help)}."
        case MissingArgumentError(argument=argument) if argument is not None:
            return f"{error.keyword or argument.tokens[-1].keyword or argument.name} needs a value."
        case UnusedCliTokensError(unused_tokens=[*words]):
            return f"{command} does not take {' '.join(map(repr, words))}."
        case CoercionError(token=token, target_type=kind) if token is not None and kind in _KINDS:
            return f"{token.keyword or 'It'} takes {_KINDS[kind]}, not {token.value!r}."
        case CoercionError(token=token, target_type=kind) if token is not None and get_args(kind):
            name = token.keyword or (error.argument.name if error.argument is not None else "It")
            return f"{name} takes {_either(list(map(str, get_args(kind))))}, not {token.value!r}."
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _unknown(word: str, chain: Sequence[str], commands: Sequence[tuple[str, ...]]) -> str:
    if word.startswith("-"):
        return (
            f"There is no option {word} of `{' '.join(chain)}` itself: options come after the command that takes them."
        )
    names = sorted(words[-1] for words in commands)
    said = f"There is no command `{' '.join([*chain, word])}`"
    close = nearest(word, names)
    return f"{said}; did you mean `{' '.join([*chain, close])}`?" if close else f"{said}; there are {', '.join(names)}."


def _about(help_text: str | None) -> str:
    """What an argument is, where its help says so in one sentence."""
    text = (help_text or "").rstrip(".")
    return f": {text[0].lower()}{text[1:]}" if text and "." not in text else ""


def _either(values: Sequence[str]) -> str:
    return " or ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else values[0]
