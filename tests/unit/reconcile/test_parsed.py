"""The gateway's parse cache, looked into from beside it."""

from pathlib import Path

import apsw
import pytest

from carrel.declare.load import load_files, load_tree
from carrel.declare.operators import OPERATOR_MODELS
from carrel.reconcile import parsed
from carrel.reconcile.parsed import DATABASE, ParsedBefore
from carrel.reconcile.record import Record
from tests.fakes.declarations import declare


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    """Declarations that a gateway with this state has taken in."""
    directory = declare(tmp_path / "tenants.d", acme="display_name: A\n", beta="quotas: {tokens_per_day: 5}\n")
    kept = Record.open(tmp_path)
    tree = load_tree(directory, cache=kept)
    for tenant, judged in tree.tenants.items():
        kept.keep(tenant, judged.digest, judged.canonical, judged.basis)
    kept.flush()
    kept.close()
    return directory


def test_what_was_read_is_not_read_again(tmp_path: Path, declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: path.read_bytes() for path in declared.iterdir()}
    whole = load_files(files)
    cache = ParsedBefore.open(tmp_path)
    assert cache is not None
    monkeypatch.setattr("carrel.declare.file.read", lambda *_, **__: pytest.fail("it was read again"))
    monkeypatch.setattr("carrel.declare.load.judge", lambda *_: pytest.fail("it was judged again"))
    assert load_files(files, cache=cache) == whole


def test_what_changed_is_judged_and_nothing_is_written(tmp_path: Path, declared: Path) -> None:
    files = {path.name: path.read_bytes() for path in declared.iterdir()}
    files["acme.yaml"] = b"plan: none\n"
    files["new.yaml"] = b"display_name: N\n"
    cache = ParsedBefore.open(tmp_path)
    assert cache is not None
    before = (tmp_path / DATABASE).read_bytes()
    tree = load_files(files, cache=cache)
    assert [problem.file for problem in tree.errors] == ["acme.yaml"]
    assert set(tree.tenants) == {"acme", "beta", "new"}
    cache.put("new.yaml", "digest", "{}")
    assert cache.get("new.yaml", "digest") is None
    assert (tmp_path / DATABASE).read_bytes() == before
    assert set(OPERATOR_MODELS) & set(files)


def test_what_other_code_made_counts_for_nothing(
    tmp_path: Path, declared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ParsedBefore.open(tmp_path / "elsewhere") is None
    monkeypatch.setattr(parsed, "models_digest", lambda: "other")
    assert ParsedBefore.open(tmp_path) is None
    monkeypatch.undo()
    (tmp_path / DATABASE).write_bytes(b"no database" * 100)
    assert ParsedBefore.open(tmp_path) is None


def test_a_database_that_lacks_what_it_should_have_gives_nothing(tmp_path: Path, declared: Path) -> None:
    other = apsw.Connection(str(tmp_path / DATABASE))
    other.execute("DROP TABLE parsed")
    other.close()
    assert ParsedBefore.open(tmp_path) is None
