"""The last of what a terminal showed, by the position of each byte since it began: pure."""

from collections import deque


class Ring:
    """Keeps the last ``limit`` bytes, and a piece more at most. ``start`` is the position of the first byte kept."""

    def __init__(self, limit: int) -> None:
        self.start = 0
        self.end = 0
        self._limit = limit
        self._pieces: deque[bytes] = deque()

    def add(self, piece: bytes) -> None:
        """Keep ``piece`` behind what there is."""
        self._pieces.append(piece)
        self.end += len(piece)
        while self.end - self.start - len(self._pieces[0]) >= self._limit:
            self.start += len(self._pieces.popleft())

    def since(self, at: int, most: int) -> tuple[int, bytes]:
        """Up to ``most`` bytes from position ``at`` on, and where they begin: later, where that is gone."""
        at = max(at, self.start)
        taken: list[bytes] = []
        left = most
        piece_at = self.start
        for piece in self._pieces:
            if left <= 0:
                break
            following = piece_at + len(piece)
            if following > at:
                skip = max(0, at - piece_at)
                part = piece[skip : skip + left]
                taken.append(part)
                left -= len(part)
            piece_at = following
        return at, b"".join(taken)
