"""The package set is fetched once, compared with its lock, and whole or not there; apt is a stand-in here."""

import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.packageset import fetch

NAMES = ["bash", "busybox-static"]


def deb(text: str) -> bytes:
    """A Debian package that has only what is read of it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("./bin/busybox")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    body = lzma.compress(data.getvalue())
    head = f"{'data.tar.xz/':16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(body):<10}`\n"
    return b"!<arch>\n" + head.encode() + body


class Apt:
    """``apt-get download`` of some versions by name; it says what it was asked for."""

    def __init__(self, top: Path) -> None:
        self.program, self.asked, self.pool = top / "bin" / "apt-get", top / "asked", top / "pool"
        self.program.parent.mkdir()
        self.pool.mkdir()
        self.program.write_text(
            f"""#!/bin/sh
echo "$@" >> {self.asked}
for stumble in {top}/stumble-*; do [ ! -e "$stumble" ] || {{ rm "$stumble"; exit 100; }}; done
for word; do
  case $word in
    download | -* | APT::*) continue ;;
    *=*) version=${{word#*=}} ;;
    *) version='*' ;;
  esac
  cp {self.pool}/${{word%%=*}}_${{version}}_all.deb . || {{ echo "E: $word was not found" >&2; exit 100; }}
done
"""
        )
        self.program.chmod(0o755)

    def has(self, versions: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Offer these versions; gives the lock of them."""
        for file in self.pool.iterdir():
            file.unlink()
        lock = {}
        for name, version in versions.items():
            content = deb(f"{name} {version}")
            (self.pool / f"{name}_{version}_all.deb").write_bytes(content)
            lock[name] = {"version": version, "sha256": hashlib.sha256(content).hexdigest()}
        return lock

    def stumbles(self, times: int) -> None:
        """Fail so often, whatever is asked for."""
        for number in range(times):
            (self.pool.parent / f"stumble-{number}").touch()

    def times(self) -> int:
        return len(self.asked.read_text().splitlines()) if self.asked.exists() else 0


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    made = Apt(tmp_path)
    here = tmp_path / "packageset"
    here.mkdir()
    (here / "packages.json").write_text(json.dumps({"groups": {"bash": {"debs": ["bash"]}}, "tools": []}))
    monkeypatch.setattr(fetch, "HERE", here)
    monkeypatch.setattr(fetch, "CACHE", tmp_path / ".cache" / "packageset")
    monkeypatch.setenv("PATH", f"{made.program.parent}:/usr/bin:/bin")
    return made


def lock(told: Mapping[str, Mapping[str, str]]) -> None:
    (fetch.HERE / "lock.json").write_text(json.dumps({fetch.architecture(): told}))


def test_what_is_locked_is_fetched_once(apt: Apt, capsys: pytest.CaptureFixture[str]) -> None:
    lock(apt.has({"bash": "5", "busybox-static": "1"}))
    assert fetch.main([]) == 0
    assert fetch.main([]) == 0
    assert apt.times() == 1
    assert "bash=5" in apt.asked.read_text()
    assert (fetch.CACHE / "busybox" / "bin" / "busybox").read_text() == "busybox-static 1"
    assert (fetch.CACHE / "bash_5_all.deb").stat().st_mode & 0o777 == 0o644
    assert fetch.CACHE.stat().st_mode & 0o777 == 0o755
    assert capsys.readouterr().err == ""


def test_what_is_cut_short_is_fetched_again(apt: Apt) -> None:
    lock(apt.has({"bash": "5", "busybox-static": "1"}))
    assert fetch.main([]) == 0
    (fetch.CACHE / "bash_5_all.deb").unlink()
    assert fetch.main([]) == 0
    assert (fetch.CACHE / "bash_5_all.deb").is_file()
    assert sorted(path.name for path in fetch.CACHE.parent.iterdir()) == ["packageset"]


def test_a_version_that_is_gone_gives_way_to_the_current_one_and_it_is_said(
    apt: Apt, capsys: pytest.CaptureFixture[str]
) -> None:
    lock(apt.has({"bash": "5", "busybox-static": "1"}))
    apt.has({"bash": "6", "busybox-static": "1"})
    assert fetch.main([]) == 0
    assert "bash is 6 by now, not 5 as locked" in capsys.readouterr().err
    assert json.loads((fetch.CACHE / "lock.json").read_text())["debs"]["bash"]["version"] == "6"
    assert not (fetch.HERE / "lock.json").read_text().count("6_")


def test_other_bytes_under_a_locked_version_are_refused(apt: Apt, capsys: pytest.CaptureFixture[str]) -> None:
    told = apt.has({"bash": "5", "busybox-static": "1"})
    told["bash"]["sha256"] = "0" * 64
    lock(told)
    assert fetch.main([]) == 1
    assert "is not what the lock says" in capsys.readouterr().err
    assert not fetch.CACHE.exists()


def test_a_new_lock_is_fetched_for_and_the_old_serves_where_that_fails(
    apt: Apt, capsys: pytest.CaptureFixture[str]
) -> None:
    lock(apt.has({"bash": "5", "busybox-static": "1"}))
    assert fetch.main([]) == 0
    newer = apt.has({"bash": "6", "busybox-static": "1"})
    lock(newer)
    assert fetch.main([]) == 0
    assert (fetch.CACHE / "bash_6_all.deb").is_file()
    apt.has({})
    lock({**newer, "bash": {"version": "7", "sha256": "0" * 64}})
    assert fetch.main([]) == 0
    assert "serves on" in capsys.readouterr().err
    assert (fetch.CACHE / "bash_6_all.deb").is_file()


def test_the_lock_is_brought_up_to_date_when_asked_for(apt: Apt) -> None:
    lock(apt.has({"bash": "5", "busybox-static": "1"}))
    newer = apt.has({"bash": "6", "busybox-static": "1"})
    assert fetch.main(["--update-lock"]) == 0
    assert json.loads((fetch.HERE / "lock.json").read_text()) == {fetch.architecture(): newer}
    assert "bash=" not in apt.asked.read_text()
    assert fetch.main([]) == 0
    assert apt.times() == 1


def test_where_apt_is_missing_or_has_nothing_it_is_said(
    apt: Apt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch.main([]) == 1
    assert "apt-get update" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    assert fetch.main([]) == 1
    assert "there is no apt-get here" in capsys.readouterr().err
    assert list(fetch.CACHE.parent.iterdir()) == []


def test_the_checked_in_lock_names_all_that_is_wanted() -> None:
    told = json.loads((fetch.HERE / "lock.json").read_text())
    assert sorted(told["amd64"]) == fetch.wanted()
    assert all(set(entry) == {"version", "sha256"} for entry in told["amd64"].values())


def test_a_patient_caller_begins_anew_where_a_download_failed(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    lock(apt.has({"bash": "5", "busybox-static": "1"}))
    apt.stumbles(2)
    assert fetch.main([]) == 1
    apt.stumbles(3)
    assert fetch.main(["--patient"]) == 0
    assert apt.times() == 2 + 4
