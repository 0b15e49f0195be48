"""When it was backed up last."""

from datetime import UTC, datetime
from pathlib import Path

from carrel.backup.note import Note, read_note, write_note
from tests.fakes.tenants import make_tenant


def test_kept_changed_and_not_believed_where_it_is_none(tmp_path: Path) -> None:
    root = make_tenant(tmp_path).root
    assert read_note(root) == Note()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    write_note(root, last=at, id="x")
    write_note(root, failed="why")
    assert read_note(root) == Note(last=at, id="x", failed="why")
    (tmp_path / "tenants/acme/backups.json").write_text("{")
    assert read_note(root) == Note()
    root.close()
