import stat

from carrel.plan.drift import KINDS, Seen, drift_of, uncommitted

DIRECTORY = stat.S_IFDIR | 0o700


def kinds(seen: Seen) -> list[str]:
    return [one.kind for one in drift_of("acme", seen, uid=10)]


def test_what_was_made_is_no_drift() -> None:
    assert kinds(Seen(DIRECTORY, 10)) == []


def test_each_difference_has_its_kind() -> None:
    assert kinds(Seen(None)) == ["directory_missing"]
    assert kinds(Seen(stat.S_IFREG | 0o600, 10)) == ["directory_kind"]
    seen = Seen(stat.S_IFDIR | 0o755, 11, acl=True, missing=("sandbox",), tokens_changed=True)
    assert kinds(seen) == ["directory_owner", "directory_mode", "directory_acl", "part_missing", "tokens_changed"]


def test_it_says_where_and_what() -> None:
    assert str(uncommitted("acme.yaml")) == "acme.yaml: changes that are in no commit, where a commit of them is wanted"
    assert not uncommitted("acme.yaml").mendable
    assert uncommitted("acme.yaml").kind in KINDS
    (one,) = drift_of("acme", Seen(stat.S_IFDIR | 0o755, 10), uid=10)
    assert str(one) == "tenants/acme: mode 0755, where mode 0700 is wanted"
    (one,) = drift_of("acme", Seen(DIRECTORY, 0), uid=10)
    assert not one.mendable
