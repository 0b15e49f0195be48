"""What was built is found again, whole or not at all, as one directory where that can be."""

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.errors import StorageFull
from carrel.packages import farm
from carrel.packages.closures import PROFILE, Closures, Made
from carrel.packages.protocol import PackageError
from carrel.tenancy.userland import Userland

HASH = "0123456789abcdfghijklmnpqrsvwxyz"
ENVIRONMENT, JQ = f"/nix/store/{HASH}-environment", f"/nix/store/{HASH}-jq"
KEY, OTHER = "a" * 20, "b" * 20
NOW = datetime.now(UTC)


class Place:
    """A store that was not made by Nix, and ``envs`` beside it."""

    def __init__(self, top: Path) -> None:
        self.store, self.envs = top / "nix", top / "envs"
        self.envs.mkdir()
        self.closures = Closures(self.envs, self.physical)
        self.write(f"{JQ}/bin/jq", "jq")
        self.write(f"{ENVIRONMENT}/nix-support/closure", f"{JQ}\n{ENVIRONMENT}\n")
        self.write(f"{ENVIRONMENT}/nix-support/environment", f"SSL_CERT_FILE={JQ}/bundle.crt\n")
        link = Path(f"{self.store}{ENVIRONMENT}/bin/jq")
        link.parent.mkdir()
        link.symlink_to(f"{JQ}/bin/jq")

    def physical(self, path: str) -> Path:
        return Path(f"{self.store}{path}")

    def keep(self, key: str, environment: str = ENVIRONMENT) -> Userland:
        return self.closures.keep(key, ("jq",), self.closures.described(environment))

    def write(self, path: str, text: str) -> None:
        file = Path(f"{self.store}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_closure_is_one_directory_of_the_stores_own_files(place: Place) -> None:
    made = place.keep(KEY)
    assert [(mount.source, mount.target) for mount in made.mounts] == [(str(place.envs / KEY), "/nix/store")]
    assert (made.kind, made.key, made.search_path) == ("closure", KEY, f"{ENVIRONMENT}/bin")
    assert made.env == (("SSL_CERT_FILE", f"{JQ}/bundle.crt"),)
    farm = place.envs / KEY
    assert sorted(path.name for path in farm.iterdir()) == [f"{HASH}-environment", f"{HASH}-jq"]
    assert (farm / f"{HASH}-jq/bin/jq").samefile(f"{place.store}{JQ}/bin/jq")
    assert (farm / f"{HASH}-environment/bin/jq").readlink() == Path(f"{JQ}/bin/jq")


def test_it_is_found_again_whole_or_not_at_all(place: Place) -> None:
    assert place.closures.found(KEY) is None
    made = place.keep(KEY)
    assert place.closures.found(KEY) == made
    farm.remove(place.envs / KEY / f"{HASH}-jq")
    assert place.closures.found(KEY) is None
    assert place.keep(KEY) == made == place.closures.found(KEY)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"packages": []}'])
def test_a_record_that_is_not_one_is_none(place: Place, text: str) -> None:
    place.keep(KEY)
    (place.envs / f"{KEY}.json").write_text(text)
    assert place.closures.found(KEY) is None


def test_what_a_crash_cut_short_is_made_anew(place: Place) -> None:
    half = place.envs / f".{KEY}.farm" / f"{HASH}-jq"
    half.mkdir(parents=True)
    half.chmod(0o555)
    (place.envs / f".{KEY}.json").write_text("{")
    (place.envs / KEY).mkdir()
    assert place.closures.found(KEY) is None
    made = place.keep(KEY)
    assert place.closures.found(KEY) == made
    assert sorted(path.name for path in place.envs.iterdir()) == [KEY, f"{KEY}.json"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK])
def test_what_cannot_be_linked_is_bound_path_by_path(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(farm, "_link", refuse)
    place.closures = Closures(place.envs, place.physical, copies=False)
    made = place.keep(KEY)
    assert {(mount.source, mount.target) for mount in made.mounts} == {
        (f"{place.store}{path}", path) for path in (JQ, ENVIRONMENT)
    }
    assert place.closures.found(KEY) == made
    assert not (place.envs / KEY).exists()
    farm.remove(Path(f"{place.store}{JQ}"))
    assert place.closures.found(KEY) is None


def test_a_full_disk_keeps_nothing_half(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(farm, "_link", full)
        with pytest.raises(StorageFull, match="disk is full"):
            place.keep(KEY)
    assert place.closures.found(KEY) is None
    assert list(place.envs.iterdir()) == []


@pytest.mark.parametrize("line", ["LD_PRELOAD=/workspace/x.so", "PATH=/nix/store/x y", "a=/nix/store/x", "nonsense"])
def test_an_environment_that_sets_what_it_may_not_is_refused(place: Place, line: str) -> None:
    place.write(f"{ENVIRONMENT}/nix-support/environment", f"{line}\n")
    with pytest.raises(PackageError, match="may not"):
        place.keep(KEY)


@pytest.mark.parametrize("closure", [JQ, f"{ENVIRONMENT}\n/etc", f"{ENVIRONMENT}\n/nix/store/../../etc", ""])
def test_an_environment_that_lies_about_its_closure_is_refused(place: Place, closure: str) -> None:
    place.write(f"{ENVIRONMENT}/nix-support/closure", f"{closure}\n")
    with pytest.raises(PackageError, match="what it is made of"):
        place.keep(KEY)


def test_what_is_gone_from_the_store_is_said(place: Place) -> None:
    with pytest.raises(PackageError, match="cannot be kept"):
        place.keep(KEY, f"/nix/store/{HASH}-gone")


def test_what_nobody_has_used_for_long_goes_and_the_rest_stays(place: Place) -> None:
    for key in (KEY, OTHER):
        place.keep(key)
        place.closures.root(key).symlink_to(ENVIRONMENT)
    (place.envs / "note").touch()
    assert not place.closures.prune({KEY}, NOW - timedelta(days=1))
    assert place.closures.found(OTHER) is not None
    assert place.closures.prune({KEY}, datetime.now(UTC) + timedelta(seconds=1))
    assert sorted(path.name for path in place.envs.iterdir()) == [KEY, f"{KEY}.json", f"{KEY}.root", "note"]
    assert Path(f"{place.store}{JQ}/bin/jq").read_text() == "jq"


def test_what_was_found_counts_as_used(place: Place) -> None:
    place.keep(KEY)
    long_ago = (NOW - timedelta(days=30)).timestamp()
    for path in place.envs.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert place.closures.found(KEY) is not None
    assert not place.closures.prune((), NOW - timedelta(days=1))
    assert json.loads((place.envs / f"{KEY}.json").read_text())["packages"] == ["jq"]


def test_without_environments_there_is_nothing_to_prune(tmp_path: Path) -> None:
    assert not Closures(tmp_path / "none", Path).prune((), NOW)


# --- what no Nix put together ---


def test_packages_without_an_environment_get_a_profile(place: Place) -> None:
    made = place.closures.keep(KEY, ("jq",), Made((JQ,), {}, packages=(JQ,)))
    assert [(mount.source, mount.target) for mount in made.mounts] == [
        (str(place.envs / KEY), "/nix/store"), (str(place.envs / f"{KEY}.profile"), PROFILE),
    ]  # fmt: skip
    assert (made.search_path, made.shell) == (f"{PROFILE}/bin", f"{PROFILE}/bin/bash")
    assert (place.envs / f"{KEY}.profile/bin/jq").readlink() == Path(f"{JQ}/bin/jq")
    assert place.closures.found(KEY) == made
    farm.remove(place.envs / f"{KEY}.profile")
    assert place.closures.found(KEY) is None
    assert place.closures.keep(KEY, ("jq",), Made((JQ,), {}, packages=(JQ,))) == made
    assert place.closures.prune((), datetime.now(UTC) + timedelta(seconds=1))
    assert list(place.envs.iterdir()) == []


def test_what_the_store_lacks_is_named(place: Place) -> None:
    gone = f"/nix/store/{HASH}-gone"
    assert place.closures.missing((JQ, gone, ENVIRONMENT)) == (gone,)
