"""What an edit of YAML is asked for in, and the way to have one made off the loop.

The library that edits in place is large and slow to import; a gateway whose files are edited by hand does without it.
"""

import asyncio
from collections.abc import Mapping
from enum import Enum
from typing import Final

from carrel.errors import InvalidRequest


class _Delete(Enum):
    DELETE = "delete"


DELETE: Final = _Delete.DELETE
"""The value that takes a key out."""


class NotEditable(InvalidRequest):
    """The text cannot be edited so; it is as it was."""

    code = "not_editable"


async def edited(text: str, changes: Mapping[tuple[str, ...], object]) -> str:
    """`yaml_edit.edit` of ``text``, in a thread; raises NotEditable."""
    return await asyncio.to_thread(_edited, text, changes)


def _edited(text: str, changes: Mapping[tuple[str, ...], object]) -> str:
    from carrel.vcs.yaml_edit import edit  # noqa: PLC0415 - see the module's docstring

    return edit(text, changes)
