from collections.abc import Mapping
from typing import Any

import pytest

from carrel.ids import TenantId
from carrel.plan.removal import confirmation, judge_loss


def names(count: int) -> list[TenantId]:
    return [TenantId(f"t{n}") for n in range(count)]


@pytest.mark.parametrize(
    ("gone", "declared", "lately", "held"),
    [
        (1, 1, 0, False),
        (1, 0, 0, True),
        (2, 8, 0, False),
        (3, 7, 0, True),
        (2, 7, 1, True),
        (1, 8, 1, False),
        (1, 2, 1, True),
        (100, 0, 0, True),
    ],
)
def test_how_much_at_once_is_too_much(gone: int, declared: int, lately: int, held: bool) -> None:
    loss = judge_loss(names(gone), declared=declared, lately=lately, share=0.2)
    assert bool(loss.held) == held
    assert len(loss.held) + len(loss.suspend) == gone
    assert bool(loss.confirm) == held


@pytest.mark.parametrize(
    ("more", "suspended", "held", "refused"),
    [
        ({"ordered": names(3)}, 3, 0, 0),
        ({"ordered": names(2)}, 3, 0, 0),
        ({"protected": names(1)}, 0, 2, 1),
        ({"protected": names(3), "ordered": names(3)}, 0, 0, 3),
    ],
)
def test_what_a_person_named_and_what_is_protected(
    more: Mapping[str, Any], suspended: int, held: int, refused: int
) -> None:
    loss = judge_loss(names(3), declared=4, lately=0, share=0.2, **more)
    assert (len(loss.suspend), len(loss.held), len(loss.refused)) == (suspended, held, refused)


def test_another_loss_has_another_word() -> None:
    assert confirmation(names(3)) == confirmation(reversed(names(3)))
    assert confirmation(names(3)) != confirmation(names(4))
