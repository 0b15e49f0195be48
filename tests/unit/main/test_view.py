"""What a uid can reach: judged by the kernel, and shown in a namespace of its own where it could not."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.main.view import CannotShow, Need, Reader, trace
from tests.fakes.mounts import mounts

UID = 60987
READER = Reader(UID, UID)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another uid")


def test_a_path_is_traced_through_its_links(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("../link/deep")
    (tmp_path / "whole").symlink_to(tmp_path / "real" / "up")
    assert trace(tmp_path / "whole" / "file") == (
        tmp_path / "real" / "deep" / "file",
        [tmp_path / "whole", tmp_path / "real" / "up", tmp_path / "link"],
    )
    assert trace(tmp_path / "link" / ".." / "real") == (tmp_path / "real", [tmp_path / "link"])
    assert trace(tmp_path / "real") == (tmp_path / "real", [])


def test_links_in_a_ring_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CannotShow):
        trace(tmp_path / "a")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody can pass through, as those of the tests are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


@as_root
def test_the_reader_s_rights_are_the_kernel_s_word_and_root_is_root_again(public: Path) -> None:
    (public / "closed").mkdir(mode=0o700)
    (public / "file").write_text("x")
    (public / "file").chmod(0o640)
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    assert READER.may(public, os.X_OK)
    assert not READER.may(public, os.R_OK)
    assert not READER.may(public / "file", os.R_OK)
    fd = os.open(public / "closed", os.O_PATH)
    assert not READER.may_search(fd)
    os.chown(public / "closed", UID, UID)
    assert READER.may_search(fd, os.R_OK | os.X_OK)
    os.close(fd)
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


SHOWS = """
import os, sys
from pathlib import Path
from carrel.main.view import Need, Reader, show
home = Path(sys.argv[1])
reader = Reader(60987, 60987)
show([Need(home / "alias" / "code"), Need(home / "shut"), Need(home / "file"), Need(home / "missing"),
      Need(home / "alias" / "code" / "data", written=True), Need(home / "keys", secret=True)], reader)
with reader.acting():
    print((home / "alias" / "code" / "module.py").read_text())
    print((home / "file").read_text())
    print((home / "keys" / "KEY").read_text())
    (home / "alias" / "code" / "data" / "new").write_text("made inside")
    print(sorted(os.listdir(home / "shut")))
    for name in ("private", "other/file", "shut/inner/file"):
        try:
            (home / name).read_text()
            print("read", name)
        except OSError as error:
            print(type(error).__name__)
try:
    (home / "alias" / "code" / "module.py").write_text("changed")
except OSError as error:
    print(error.strerror)
"""


@as_root
def test_needs_are_shown_and_nothing_else_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("real/code/data", "shut/inner", "other", "keys"):
        (home / name).mkdir(parents=True)
    (home / "alias").symlink_to("real")
    for name, mode in {
        "real/code/module.py": 0o644, "file": 0o644, "private": 0o644, "other/file": 0o644, "shut/open": 0o644,
        "shut/inner/file": 0o644, "keys/KEY": 0o600,
    }.items():  # fmt: skip
        (home / name).write_text(name)
        (home / name).chmod(mode)
    os.chown(home / "real/code/data", UID, UID)
    for name in ("", "shut", "shut/inner", "keys", "real"):
        (home / name).chmod(0o700)
    before = mounts(home)
    shown = run(SHOWS, home)
    assert shown == [
        "real/code/module.py", "file", "keys/KEY", "['open']",
        "FileNotFoundError", "FileNotFoundError", "FileNotFoundError", "Read-only file system",
    ]  # fmt: skip
    assert (home / "real/code/data/new").read_text() == "made inside"
    assert (home / "keys/KEY").stat().st_uid == 0
    assert mounts(home) == before


REACHED = """
import os, sys
from pathlib import Path
from carrel.main.view import Need, Reader, show
before = os.readlink("/proc/self/ns/mnt")
show([Need(Path(sys.argv[1])), Need(Path("/nowhere/at/all"))], Reader(60987, 60987))
print(os.readlink("/proc/self/ns/mnt") == before)
"""


PASSES = """
import os, sys
from pathlib import Path
from carrel.main.view import Need, Reader, show
home = Path(sys.argv[1])
show([Need(home / "passed" / "deep"), Need(home / "passed", passed=True, optional=True)], Reader(60987, 60987))
os.chdir(home / "passed")
os.setgroups([])
os.setresgid(60987, 60987, 60987)
os.setresuid(60987, 60987, 60987)
print(Path("deep/file").read_text())
print(sorted(os.listdir(home / "passed")))
"""


@as_root
def test_a_directory_to_be_passed_shows_no_more_than_what_is_needed_in_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "passed" / "deep").mkdir(parents=True)
    (home / "passed" / "deep" / "file").write_text("deep")
    (home / "passed" / "diary").write_text("diary")
    assert run(PASSES, home) == ["deep", "['deep']"]
    (home / "passed").chmod(0o700)
    assert run(PASSES, home) == ["deep", "['deep']"]


OPTIONAL = """
import sys
from pathlib import Path
from carrel.main.view import CannotShow, Need, Reader, show
home = Path(sys.argv[1])
show([Need(home, optional=True)], Reader(60987, 60987))
try:
    show([Need(home, optional=True), Need(home / "needed")], Reader(60987, 60987))
except CannotShow as error:
    print(str(home / "needed") + "," in str(error), str(home) + "," in str(error))
"""


@as_root
def test_where_it_cannot_be_shown_only_what_is_needed_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "needed").mkdir()
    tmp_path.chmod(0o700)
    assert run(OPTIONAL, tmp_path, under=("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")) == ["True False"]


@as_root
def test_where_all_is_reached_no_namespace_is_made() -> None:
    assert run(REACHED, Path("/usr")) == ["True"]


def test_a_need_is_only_read_unless_it_says_more() -> None:
    need = Need(Path("/x"))
    assert not need.written
    assert not need.secret


def run(program: str, *words: Path, under: tuple[str, ...] = ()) -> list[str]:
    done = subprocess.run(
        [*under, sys.executable, "-c", program, *map(str, words)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
