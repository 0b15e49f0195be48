"""What starts a launcher."""

import io
import sys
import zipfile

from carrel.sandbox.launching import archive, command


def test_the_archive_is_the_launcher_and_nothing_else() -> None:
    names = zipfile.ZipFile(io.BytesIO(archive())).namelist()
    assert "__main__.py" in names
    assert all(name.startswith("carrel/sandbox/launcher/") for name in names if name.count("/") > 2)
    assert {name for name in names if name.count("/") <= 2} <= {
        "__main__.py", "carrel/__init__.py", "carrel/sandbox/__init__.py",
    }  # fmt: skip


def test_it_is_run_isolated_and_by_descriptor() -> None:
    assert command(7, 8, uid=None, groups="") == [sys.executable, "-I", "-S", "-B", "/proc/self/fd/7", "8", "", ""]
    assert command(7, 8, uid=987, groups="/g")[-2:] == ["987", "/g"]
