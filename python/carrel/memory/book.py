"""One tenant's memory in a database: texts in pieces, an index of their words, and vectors where there are any."""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import apsw

from carrel.errors import CarrelError, Conflict, NotFound
from carrel.store.sqlite import transaction

MOST_NOTES: Final = 10_000
PIECE: Final = 1200
"""Characters of one piece at most: what is found is shown, and embedded, by pieces."""
NEAR: Final = 50
"""How many are looked at, by words and by meaning each."""
_RANK: Final = 60.0


@dataclass(frozen=True, slots=True)
class Note:
    """A text to be remembered. ``source`` is `note`, or the file that it is; ``agent`` whose it is, None for all."""

    id: str
    source: str
    agent: str | None
    member: str | None
    text: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """A piece that was found, by its `words`, its `meaning` or both. The higher ``score``, the better."""

    note: Note
    piece: str
    score: float
    by: tuple[str, ...]


def upgrade(connection: apsw.Connection) -> None:
    """The schema."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, source TEXT NOT NULL, agent TEXT, member TEXT, "
        "text TEXT NOT NULL, created REAL NOT NULL) WITHOUT ROWID"
    )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS pieces (id INTEGER PRIMARY KEY, note TEXT NOT NULL REFERENCES notes (id) "
        "ON DELETE CASCADE, text TEXT NOT NULL)"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS pieces_of ON pieces (note)")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS vectors (piece INTEGER NOT NULL REFERENCES pieces (id) ON DELETE CASCADE, "
        "model TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (piece, model)) WITHOUT ROWID"
    )
    connection.execute(
        "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, content='pieces', content_rowid='id', "
        "tokenize='unicode61 remove_diacritics 2')"
    )


def put(connection: apsw.Connection, note: Note) -> None:
    """Keep ``note``, in the place of the one of its id; raises Conflict where there are too many."""
    with transaction(connection):
        _drop(connection, note.id)
        if _number(connection, "SELECT count(*) FROM notes") >= MOST_NOTES:
            raise Conflict(f"A tenant's memory holds at most {MOST_NOTES} notes: forget some first.")
        connection.execute(
            "INSERT INTO notes VALUES (?, ?, ?, ?, ?, ?)",
            (note.id, note.source, note.agent, note.member, note.text, note.created.timestamp()),
        )
        for text in pieces_of(note.text):
            connection.execute("INSERT INTO pieces (note, text) VALUES (?, ?)", (note.id, text))
            connection.execute(
                "INSERT INTO words (rowid, text) VALUES (?, ?)", (connection.last_insert_rowid(), text)
            )  # fmt: skip


def forget(connection: apsw.Connection, note_id: str) -> None:
    """Remove a note; raises NotFound."""
    with transaction(connection):
        if not _drop(connection, note_id):
            raise NotFound("There is no such note.")


def get(connection: apsw.Connection, note_id: str) -> Note | None:
    """One note."""
    row = connection.execute("SELECT * FROM notes WHERE id = ?", (note_id,)).fetchone()
    return None if row is None else _note(row)


def notes(connection: apsw.Connection) -> list[Note]:
    """All of them by id."""
    return [_note(row) for row in connection.execute("SELECT * FROM notes ORDER BY id")]


def follow(connection: apsw.Connection, files: Mapping[str, Note]) -> None:
    """Bring the files in the memory up to ``files``, by their ids."""
    rows = connection.execute("SELECT id, text FROM notes WHERE source != 'note'").fetchall()
    known = {str(note_id): str(text) for note_id, text in rows}
    for gone in known.keys() - files.keys():
        forget(connection, gone)
    for note_id, note in files.items():
        if known.get(note_id) != note.text:
            put(connection, note)


def unembedded(connection: apsw.Connection, model: str, limit: int) -> list[tuple[int, str]]:
    """Pieces that have no vector of ``model`` yet: number and text."""
    rows = connection.execute(
        "SELECT id, text FROM pieces WHERE id NOT IN (SELECT piece FROM vectors WHERE model = ?) ORDER BY id LIMIT ?",
        (model, limit),
    )
    return [(int(number), str(text)) for number, text in rows]


def embed(connection: apsw.Connection, model: str, vectors: Iterable[tuple[int, Sequence[float]]]) -> None:
    """Keep vectors of pieces; those of other models go."""
    with transaction(connection):
        connection.execute("DELETE FROM vectors WHERE model != ?", (model,))
        connection.executemany(
            "INSERT OR REPLACE INTO vectors SELECT id, ?, ? FROM pieces WHERE id = ?",
            [(model, packed(vector), piece) for piece, vector in vectors],
        )


def packed(vector: Sequence[float]) -> bytes:
    """A vector as sqlite-vec takes it: 32-bit floats."""
    return struct.pack(f"<{len(vector)}f", *vector)


def search(
    connection: apsw.Connection,
    match: str,
    *,
    sees: Callable[[Note], bool],
    meaning: tuple[str, Sequence[float]] | None = None,
) -> list[Found]:
    """The best pieces by words (``match`` is an FTS5 expression) and by ``meaning``, a model's vector of the query."""
    lists = {"words": _by_words(connection, match)}
    if meaning is not None:
        lists["meaning"] = _by_meaning(connection, *meaning)
    scores: dict[int, float] = {}
    by: dict[int, list[str]] = {}
    for name, numbers in lists.items():
        for rank, number in enumerate(numbers, 1):
            # Reciprocal rank fusion: neither scale means anything to the other.
            scores[number] = scores.get(number, 0.0) + 1.0 / (_RANK + rank)
            by.setdefault(number, []).append(name)
    found = []
    for number in sorted(scores, key=lambda n: (-scores[n], n)):
        row = connection.execute("SELECT note, text FROM pieces WHERE id = ?", (number,)).fetchone()
        note = get(connection, str(row[0])) if row is not None else None
        if row is not None and note is not None and sees(note):
            found.append(Found(note, str(row[1]), scores[number], tuple(by[number])))
    return found


def pieces_of(text: str) -> list[str]:
    """``text`` in pieces at paragraphs where that is possible, none over PIECE characters."""
    pieces: list[str] = []
    held = ""
    for paragraph in text.split("\n\n"):
        for start in range(0, max(len(paragraph), 1), PIECE):
            part = paragraph[start : start + PIECE].strip()
            if held and len(held) + len(part) + 2 > PIECE:
                pieces.append(held)
                held = ""
            held = f"{held}\n\n{part}" if held else part
    return [piece for piece in (*pieces, held) if piece]


def _by_words(connection: apsw.Connection, match: str) -> list[int]:
    if not match:
        return []
    rows = connection.execute("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (match, NEAR))
    return [int(number) for (number,) in rows]


def _by_meaning(connection: apsw.Connection, model: str, vector: Sequence[float]) -> list[int]:
    _load(connection)
    query = packed(vector)
    rows = connection.execute(
        "SELECT piece FROM vectors WHERE model = ? AND length(vector) = ? "
        "ORDER BY vec_distance_cosine(vector, ?) LIMIT ?",
        (model, len(query), query, NEAR),
    )
    return [int(number) for (number,) in rows]


def _load(connection: apsw.Connection) -> None:
    """Load sqlite-vec into ``connection`` where that was not done."""
    if connection.execute("SELECT 1 FROM pragma_function_list WHERE name = 'vec_distance_cosine'").fetchone():
        return
    import sqlite_vec  # noqa: PLC0415 - a gateway without embeddings does without it

    try:
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
    except apsw.Error as error:
        raise CarrelError("Memory cannot be searched by meaning here: sqlite-vec does not load.") from error
    finally:
        connection.enable_load_extension(False)


def _drop(connection: apsw.Connection, note_id: str) -> bool:
    for number, text in connection.execute("SELECT id, text FROM pieces WHERE note = ?", (note_id,)).fetchall():
        connection.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (number, text))
    connection.execute("DELETE FROM notes WHERE id = ?", (note_id,))
    return connection.changes() > 0


def _note(row: tuple[Any, ...]) -> Note:
    note_id, source, agent, member, text, created = row
    return Note(note_id, source, agent, member, text, datetime.fromtimestamp(created, UTC))


def _number(connection: apsw.Connection, query: str) -> int:
    return int(connection.execute(query).fetchall()[0][0] or 0)
