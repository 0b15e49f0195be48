from pathlib import Path

from carrel.declare.load import Loader
from carrel.reconcile.halfway import QUIET_SECONDS, Halfway
from tests.fakes.clock import FakeClock
from tests.fakes.declarations import declare

NAME = "acme.yaml"
OLD = "display_name: Acme\nsuspended: true\n"


def begin(tmp_path: Path) -> tuple[Path, Loader, Halfway, FakeClock]:
    path = declare(tmp_path, acme=OLD)
    loader, clock = Loader(path), FakeClock()
    loader.load(loader.changed())
    return path / NAME, loader, Halfway(clock), clock


def test_a_whole_change_counts_at_once(tmp_path: Path) -> None:
    file, loader, halfway, _ = begin(tmp_path)
    for text in ("display_name: Other\nsuspended: true\n", "plan: pro\n", OLD + "plan: pro\n"):
        file.write_text(text)
        assert halfway.settled({NAME}, loader) == {NAME}
    assert not halfway.due()


def test_gone_emptied_or_cut_short_counts_when_seen_twice(tmp_path: Path) -> None:
    file, loader, halfway, clock = begin(tmp_path)
    for text in (None, "", "\n", "display_name: Acme\n"):
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        assert halfway.settled({NAME}, loader) == set()
        assert halfway.take_due() == set()
        clock.advance(QUIET_SECONDS + 0.01)
        assert halfway.due()
        assert halfway.settled(halfway.take_due(), loader) == {NAME}
        assert not halfway.due()


def test_a_write_that_goes_on_is_waited_for(tmp_path: Path) -> None:
    file, loader, halfway, clock = begin(tmp_path)
    file.write_text("display_name: A")
    halfway.settled({NAME}, loader)
    clock.advance(QUIET_SECONDS + 0.01)
    file.write_text("display_name: Acme")
    assert halfway.settled({NAME}, loader) == set()
    file.write_text("display_name: Acme Ltd\n")
    assert halfway.settled({NAME}, loader) == {NAME}
    assert halfway.wait() > 1e9


def test_an_empty_new_file_is_looked_at_twice(tmp_path: Path) -> None:
    file, loader, halfway, clock = begin(tmp_path)
    (file.parent / "new.yaml").write_text("")
    assert halfway.settled({"new.yaml"}, loader) == set()
    clock.advance(QUIET_SECONDS + 0.01)
    assert halfway.settled({"new.yaml"}, loader) == {"new.yaml"}


def test_who_knows_better_may_say_so(tmp_path: Path) -> None:
    file, loader, halfway, _ = begin(tmp_path)
    file.write_text("")
    halfway.settled({NAME}, loader)
    halfway.clear()
    assert halfway.wait() > 1e9
