"""Who the gateway becomes, what it takes along, and whom it says it was started by."""

import os
import pwd
from pathlib import Path

import pytest

from carrel.main.privilege import FALLBACK_UID, STARTER, Identity, asked_by, environment, identity

WHO = Identity(60987, 60987, "carrel")


def has_user_carrel() -> bool:
    try:
        pwd.getpwnam("carrel")
    except KeyError:
        return False
    return True


without_user = pytest.mark.skipif(has_user_carrel(), reason="here is a user carrel, who always is the one")


@pytest.fixture
def tenants_dir(tmp_path: Path) -> Path:
    made = tmp_path / "tenants.d"
    made.mkdir()
    return made


@without_user
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_the_owner_of_tenants_d_comes_first_and_then_who_called_sudo(tenants_dir: Path) -> None:
    os.chown(tenants_dir, 60901, 60902)
    assert identity(tenants_dir, {"SUDO_UID": "60903", "SUDO_GID": "60904"}) == Identity(60901, 60902, "carrel")
    os.chown(tenants_dir, 0, 0)
    assert identity(tenants_dir, {"SUDO_UID": "60903", "SUDO_GID": "60904"}) == Identity(60903, 60904, "carrel")
    assert identity(tenants_dir, {"SUDO_UID": "60903", "SUDO_GID": "0"}) == Identity(60903, 60903, "carrel")


@without_user
@pytest.mark.parametrize("sudo", ["", "0", "-1", "root", "65534", "4294967295", "99999999999999999999", "²"])
def test_nobody_s_uid_is_the_last_resort(tmp_path: Path, sudo: str) -> None:
    assert identity(tmp_path / "missing", {"SUDO_UID": sudo}) == Identity(FALLBACK_UID, FALLBACK_UID, "carrel")


@without_user
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_a_known_user_has_their_own_group_and_name(tenants_dir: Path) -> None:
    daemon = pwd.getpwnam("daemon")
    os.chown(tenants_dir, daemon.pw_uid, 0)
    assert identity(tenants_dir, {}) == Identity(daemon.pw_uid, daemon.pw_gid, "daemon")


def test_what_a_gateway_reads_goes_on_and_root_s_session_does_not() -> None:
    taken = environment(
        {
            "PATH": "/bin", "LANG": "C.UTF-8", "LC_ALL": "C", "CARREL_SECRET_KEY": "k", "CREDENTIALS_DIRECTORY": "/c",
            "HOME": "/home/of-root", "XDG_STATE_HOME": "/home/of-root/x", "SUDO_UID": "5",
            "https_proxy": "http://p", "HTTPS_PROXY": "x",
            "SSH_AUTH_SOCK": "/s", "AWS_SECRET_ACCESS_KEY": "a", "TMPDIR": "/t", "USER": "root",
        },
        WHO, Path("/state"), 1000,
    )  # fmt: skip
    assert taken == {
        "PATH": "/bin", "LANG": "C.UTF-8", "LC_ALL": "C", "CARREL_SECRET_KEY": "k", "CREDENTIALS_DIRECTORY": "/c",
        "HOME": "/state", "USER": "carrel", "LOGNAME": "carrel", "CARREL_STATE_DIR": "/state",
        STARTER: f"1000:{os.getpid()}",
    }  # fmt: skip


def test_who_called_sudo_is_known_after_it(tmp_path: Path) -> None:
    env = environment({"SUDO_UID": "1007", "SUDO_USER": "ann"}, WHO, tmp_path, 0)
    assert "SUDO_USER" not in env
    assert asked_by(0, env) == 1007
    assert asked_by(0, environment({}, WHO, tmp_path, 0)) == 0
    # Whoever is not root may say anything.
    assert asked_by(1000, {"SUDO_UID": "0"}) == 1000
