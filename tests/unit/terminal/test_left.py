"""What a gateway that is killed leaves."""

from pathlib import Path

from carrel.terminal.left import Began, Left


def test_those_that_never_ended_are_found_by_the_next(tmp_path: Path) -> None:
    left = Left(tmp_path)
    assert list(left.all()) == []
    one, two = (Began(f"term_{n}", "acme", "tk_acme", "req_1") for n in (1, 2))
    left.note(one)
    left.note(two)
    left.clear(one.id)
    (tmp_path / "run" / "terminals" / "broken").write_text("{")
    assert list(Left(tmp_path).all()) == [two]
    left.clear(two.id)
    assert list(Left(tmp_path).all()) == []
