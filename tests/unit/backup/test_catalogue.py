"""What a repository's objects may say."""

import pytest
from pydantic import ValidationError

from carrel.backup.catalogue import Part

PIECE = "0" * 64


def test_a_part_is_of_a_piece_or_a_hole() -> None:
    assert Part(length=5 << 40).piece == ""
    assert Part(piece=PIECE, offset=3, length=1 << 20).length == 1 << 20
    for wrong in ({"piece": PIECE, "length": (16 << 20) + 1}, {"piece": "x", "length": 1}, {"length": -1}):
        with pytest.raises(ValidationError):
            Part.model_validate(wrong)
