"""Whoever mistypes a command is told what it takes, in words of its own."""

import pytest

from tests.unit.cli.conftest import CommandLine


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("statsu", "There is no command `carrel statsu`; did you mean `carrel status`? `carrel --help` says more."),
        ("tenants crate x", "There is no command `carrel tenants crate`; did you mean `carrel tenants create`?"),
        ("--state-dir /x status", "There is no option --state-dir of `carrel` itself: options come after the command"),
        (
            "audit zzz",
            "There is no command `carrel audit zzz`; there are export, key, mark, search, tail, verify. "
            "`carrel audit --help`",
        ),
        (
            "tenants create",
            "`carrel tenants create` needs ID: 1 to 32 of a-z, 0-9, `_` and `-`. `carrel tenants create",
        ),
        ("tenants show", "`carrel tenants show` needs ID: the tenant."),
        ("tenants show a b", "`carrel tenants show` does not take 'b'."),
        ("status --every", "--every needs a value."),
        ("status --every soon", "--every takes a number, not 'soon'."),
        ("audit tail -n many", "-n takes a whole number, not 'many'."),
        ("gateway --log-level loud", "--log-level takes debug, info, warning or error, not 'loud'."),
        ("completion csh", "SHELL takes bash, zsh or fish, not 'csh'. `carrel completion --help` says more."),
        ("status --wach", "Unknown option: --wach. Did you mean --watch?"),
    ],
)
def test_a_mistake_is_told_with_what_mends_it(carrel: CommandLine, words: str, said: str) -> None:
    done = carrel.run(*words.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"carrel: {said}")


def test_all_commands_are_told_where_none_is_near(carrel: CommandLine) -> None:
    told = carrel.run("qqqq").err
    assert "there are admin-key, audit, backup," in told
    assert "gateway" in told
