from pathlib import Path

from carrel.errors import StorageFull
from carrel.ids import TenantId
from carrel.plan.drift import Drift
from carrel.reconcile.patrol import Patrol
from carrel.reconcile.places import Places
from tests.fakes.clock import FakeClock

ACME = TenantId("acme")


class Tokens:
    def __init__(self) -> None:
        self.changed, self.read = False, 0

    def drifted(self, tenant: TenantId) -> bool:
        return self.changed

    def reload(self, tenant: TenantId) -> None:
        self.read += 1
        self.changed = False


class Weak(Places):
    """Cannot mend."""

    tried = 0

    def mend(self, tenant: TenantId, drift: Drift) -> None:
        self.tried += 1
        raise StorageFull("Full.")


def patrol(home: Path, places: Places | None = None) -> Patrol:
    (home / "acme").mkdir(mode=0o700)
    made = Patrol(places or Places(home), places or Places(home), FakeClock())
    made.begin()
    return made


def test_a_change_of_the_directory_brings_a_close_look(tmp_path: Path) -> None:
    it = patrol(tmp_path)
    assert it.has(ACME)
    assert it.due([], 10) == []
    (tmp_path / "acme").chmod(0o755)
    assert ACME in it.moved()
    assert it.due([], 10) == [ACME]
    news = it.inspect(ACME, "r", mends=False)
    assert news is not None
    assert not news.corrected
    assert it.kinds() == {"directory_mode": 1}
    assert it.inspect(ACME, "r", mends=False) is None
    news = it.inspect(ACME, "r", mends=True)
    assert news is not None
    assert news.corrected == ("tenants/acme: mode 0755, where mode 0700 is wanted",)
    assert it.drift(ACME) == ()


def test_a_missing_directory_is_made_anew(tmp_path: Path) -> None:
    it = patrol(tmp_path)
    (tmp_path / "acme").rmdir()
    assert it.moved() == {ACME}
    assert not it.has(ACME)
    news = it.inspect(ACME, "r", mends=True)
    assert news is not None
    assert news.renewed
    assert (tmp_path / "acme").is_dir()


def test_all_are_looked_at_in_rounds(tmp_path: Path) -> None:
    it = patrol(tmp_path)
    tenants = [TenantId(f"t{n}") for n in range(5)]
    seen = [*it.due(tenants, 2), *it.due(tenants, 2), *it.due(tenants, 2)]
    assert seen == tenants
    assert it.due(tenants, 2) == tenants[:2]
    it.suspect(ACME)
    assert it.due(tenants, 1)[0] == ACME


def test_tokens_that_were_changed_are_taken_in(tmp_path: Path) -> None:
    it, tokens = patrol(tmp_path), Tokens()
    it.tokens, tokens.changed = tokens, True
    news = it.inspect(ACME, "r", mends=True)
    assert news is not None
    assert (tokens.read, len(news.corrected)) == (1, 1)


def test_what_cannot_be_put_right_is_not_tried_in_a_storm(tmp_path: Path) -> None:
    weak = Weak(tmp_path)
    it = patrol(tmp_path, weak)
    (tmp_path / "acme").chmod(0o755)
    first = it.inspect(ACME, "r", mends=True)
    assert first is not None
    assert first.failed == ("Full.",)
    for _ in range(10):
        it.inspect(ACME, "r", mends=True)
    assert weak.tried == 1
    assert [one.kind for one in it.drift(ACME)] == ["directory_mode"]
    it.forget(ACME)
    assert it.drift(ACME) == ()
