"""What is handed over, what is refused, and that no link leads root astray."""

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from carrel.main import acl, ownership
from carrel.main.statedir import StateInUse
from tests.fakes.faulty_disk import FaultyDisk, run_on

UID = 60987
OLD_UID = 60988

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands anything over")


def owner(path: Path) -> int:
    return path.lstat().st_uid


def give(path: Path, *apart_from: Path) -> Path:
    return ownership.give_state(path, UID, UID, apart_from=apart_from)


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A state directory that root used."""
    state = tmp_path / "state"
    (state / "tenants" / "acme" / "sandbox").mkdir(parents=True)
    (state / "run").mkdir()
    (state / "run" / "lock").touch()
    (state / "tenants" / "acme" / "sandbox" / "file").write_text("x")
    return state


def test_a_new_state_directory_is_made_private(tmp_path: Path) -> None:
    state = give(tmp_path / "a" / "b" / "state")
    assert owner(state) == UID
    assert state.stat().st_mode & 0o7777 == 0o700
    assert owner(tmp_path / "a" / "b") == 0


def test_a_new_one_has_its_owner_after_a_power_cut(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    disk = FaultyDisk(root, tmp_path / "store")
    disk.sync()
    run_on(
        disk,
        "from pathlib import Path; from carrel.main.ownership import give_state\n"
        f"give_state(Path({str(root / 'state')!r}), {UID}, {UID}, apart_from=())",
    )
    disk.power_cut()
    assert owner(root / "state") == UID


def test_what_is_made_above_it_belongs_to_whom_the_place_belongs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, OLD_UID, OLD_UID)
    give(home / ".local" / "state" / "carrel")
    assert owner(home / ".local") == owner(home / ".local" / "state") == OLD_UID


def test_a_used_one_is_handed_over_whole(used: Path) -> None:
    give(used)
    assert {owner(path) for path in (used, *used.rglob("*"))} == {UID}


def test_where_the_owner_is_right_nothing_beneath_is_touched(used: Path) -> None:
    os.chown(used, UID, UID)
    give(used)
    assert owner(used / "tenants") == 0


def test_links_in_it_are_handed_over_and_not_followed(used: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    (used / "tenants" / "to-dir").symlink_to(outside)
    (used / "tenants" / "to-file").symlink_to(outside / "file")
    give(used)
    assert owner(used / "tenants" / "to-dir") == owner(used / "tenants" / "to-file") == UID
    assert owner(outside) == owner(outside / "file") == 0


def test_a_file_of_root_in_another_uid_s_tree_stays_root_s(used: Path, tmp_path: Path) -> None:
    for path in (used, *used.rglob("*")):
        os.chown(path, OLD_UID, OLD_UID)
    secret = tmp_path / "secret"
    secret.write_text("root's")
    (used / "tenants" / "hard").hardlink_to(secret)
    give(used)
    assert owner(secret) == 0
    assert owner(used / "tenants" / "acme" / "sandbox" / "file") == UID


def test_a_link_of_another_uid_on_the_way_is_refused_and_root_s_is_not(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "state")
    assert give(link) == tmp_path / "state"
    os.chown(link, OLD_UID, OLD_UID, follow_symlinks=False)
    with pytest.raises(ownership.NotOurs, match="link"):
        give(link / "deeper")


@pytest.mark.parametrize("path", ["/", "/etc", "/usr/share", "/home", "/root", "/var/lib", "/tmp", "/proc/1"])
def test_the_system_s_directories_are_refused(path: str) -> None:
    before = owner(Path(path))
    with pytest.raises(ownership.NotOurs):
        give(Path(path))
    assert owner(Path(path)) == before


def test_nothing_is_made_in_the_system_s_directories() -> None:
    with pytest.raises(ownership.NotOurs):
        give(Path("/etc/carrel-state-of-a-test"))
    assert not Path("/etc/carrel-state-of-a-test").exists()


def test_what_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tenants.d").mkdir()
    with pytest.raises(ownership.NotOurs, match=r"tenants\.d"):
        give(tmp_path, tmp_path / "tenants.d")
    assert owner(tmp_path) == 0


def test_a_directory_full_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ownership.NotOurs, match="not empty"):
        give(tmp_path)
    assert owner(tmp_path / "thesis.tex") == 0


@pytest.mark.parametrize("there", ["lost+found", "master.key"])
def test_a_file_system_of_its_own_is_taken(tmp_path: Path, there: str) -> None:
    (tmp_path / there).mkdir()
    assert give(tmp_path) == tmp_path
    assert owner(tmp_path) == UID
    assert owner(tmp_path / there) == (0 if there == "lost+found" else UID)


def test_one_that_is_in_use_is_refused(used: Path) -> None:
    with (used / "run" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StateInUse):
            give(used)
    assert owner(used) == 0
    give(used)
    assert owner(used) == UID


def test_endless_depth_is_refused_with_the_mend(used: Path) -> None:
    fd = os.open(used / "tenants", os.O_RDONLY)
    for _ in range(ownership.MAX_DEPTH + 2):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(ownership.NotOurs, match="chown"):
        give(used)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    top = tmp_path / "repository"
    (top / "tenants.d").mkdir(parents=True)
    (top / "tenants.d" / "acme.yaml").write_text("plan: basic\n")
    (top / "code.py").touch()
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "one")
    return top


def git(top: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *words],
        cwd=top, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def named(path: Path) -> bool:
    return "system.posix_acl_access" in os.listxattr(path)


def test_tenants_d_and_its_git_are_let_to_the_uid_and_nothing_else_is(repository: Path) -> None:
    ownership.let_declare(repository / "tenants.d", UID)
    inside = repository / ".git"
    tenants_dir = repository / "tenants.d"
    let = [tenants_dir, tenants_dir / "acme.yaml", inside, inside / "objects", inside / "logs" / "HEAD"]
    assert all(named(path) for path in let)
    kept = [repository, repository / "code.py", inside / "hooks", inside / "config", *(inside / "hooks").iterdir()]
    assert not any(named(path) for path in kept)
    assert {owner(path) for path in repository.rglob("*")} == {0}
    assert git(repository, "status", "--porcelain") == ""


def test_links_in_tenants_d_are_not_followed(repository: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    (repository / "tenants.d" / "link.yaml").symlink_to(outside)
    (repository / "tenants.d" / "hard.yaml").hardlink_to(outside)
    ownership.let_declare(repository / "tenants.d", UID)
    assert not named(outside)


def test_a_linked_work_tree_has_two_git_directories(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"))
    assert ownership.git_directories(tmp_path / "linked" / "tenants.d") == [
        repository / ".git" / "worktrees" / "linked",
        repository / ".git",
    ]
    assert ownership.git_directories(repository / "tenants.d") == [repository / ".git"]


def test_where_there_is_no_git_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "tenants.d").mkdir()
    assert ownership.git_directories(tmp_path / "tenants.d") == []
    assert ownership.work_tree(tmp_path / "tenants.d") is None
    ownership.let_declare(tmp_path / "tenants.d", UID)
    assert acl.inherits(str(tmp_path / "tenants.d"), UID, 7)


def test_what_belongs_to_the_uid_already_is_left_alone(repository: Path) -> None:
    for path in (repository, *repository.rglob("*")):
        os.chown(path, UID, UID)
    ownership.let_declare(repository / "tenants.d", UID)
    assert not any(named(path) for path in repository.rglob("*"))
