"""What is kept of a terminal, by position."""

from hypothesis import given
from hypothesis import strategies as st

from carrel.terminal.ring import Ring


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=40), st.integers(1, 200), st.integers(0, 300))
def test_what_is_kept_is_the_end_of_all_there_was(pieces: list[bytes], limit: int, at: int) -> None:
    ring, whole = Ring(limit), b"".join(pieces)
    for piece in pieces:
        ring.add(piece)
    assert ring.end == len(whole)
    assert ring.start == 0 or limit <= ring.end - ring.start < limit + 50
    begin, data = ring.since(at, 1 << 20)
    assert begin == max(at, ring.start)
    assert data == whole[begin:]
    assert ring.since(at, 7)[1] == whole[begin:][:7]
