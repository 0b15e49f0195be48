import io
from dataclasses import replace
from pathlib import Path

from carrel.main.announce import Announcement, declared
from tests.fakes.tenants import make_tenant


def announcement(token: str | None, tenant: str | None = "demo", count: int = 2) -> Announcement:
    return Announcement(
        url="http://127.0.0.1:18789",
        state_dir=Path("/var/lib/carrel"),
        tenants_dir=Path("/etc/carrel/tenants.d"),
        tenants=[f"t{n}" for n in range(count)],
        userland="host (Nix is missing)",
        sandbox="bubblewrap",
        notes=["one note"],
        token=token,
        token_tenant=tenant,
    )


def test_a_new_token_stands_on_a_line_of_its_own() -> None:
    out = io.StringIO()
    announcement("tk_demo_" + "a" * 32).write(out)
    assert "tk_demo_" + "a" * 32 in out.getvalue().splitlines()
    assert 'chat demo "run: uname -a; ls | wc -l"' in out.getvalue()


def test_who_is_there_is_who_is_declared_and_for_whom_nothing_runs_is_told(tmp_path: Path) -> None:
    here, idle, gone, broken = (make_tenant(tmp_path, name, suspended=name != "d") for name in ("d", "c", "b", "a"))
    tenants = [here, idle, replace(gone, removed=True), replace(broken, ready=False)]
    assert declared(tenants) == ["a (broken)", "c (suspended)", "d"]


def test_where_tenants_come_from_is_told_where_there_is_none() -> None:
    nobody = announcement(None, None, count=0)
    assert "add a file to tenants.d" in "\n".join(nobody.lines())
    assert "pushed or pulled" in "\n".join(replace(nobody, by_git=True).lines())


def test_a_token_issued_before_is_not_shown() -> None:
    text = "\n".join(announcement(None).lines())
    assert "token rotate demo" in text


def test_a_state_directory_that_was_named_is_named_in_what_to_try() -> None:
    assert "--state-dir" not in "\n".join(announcement(None).lines())
    lines = replace(announcement(None), state_dir=Path("/srv/my state"), state_named=True).lines()
    assert [line.endswith(" --state-dir '/srv/my state'") for line in lines[-3:]] == [False, False, True]
    assert "token rotate demo --state-dir '/srv/my state'` makes another" in lines[-3]


def test_without_a_demo_tenant_nothing_is_said_of_tokens() -> None:
    assert "token" not in "\n".join(announcement(None, None).lines())


def test_many_tenants_are_counted() -> None:
    assert "and 88 more" in "\n".join(announcement(None, count=100).lines())
    assert "none yet" in "\n".join(announcement(None, count=0).lines())
