"""Jobs in a tenant's YAML."""

import pytest

from carrel.declare.file import parse
from carrel.declare.tenant import Tenant


def problems(cron: str) -> list[str]:
    return [str(problem) for problem in parse("acme.yaml", "d", f"cron:\n{cron}".encode(), Tenant).problems]


@pytest.mark.parametrize(
    "when",
    [
        'cron: "0 9 * * 1-5"',
        'cron: "*/5 * * * *"\n    tz: Europe/Vienna',
        "every_seconds: 60",
        "at: 2027-01-31T09:00:00+01:00",
        'cron: "0 9 * * *"\n    agent: main\n    session: daily\n    enabled: false\n    catch_up: skip',
    ],
)
def test_a_job_is_declared(when: str) -> None:
    assert problems(f"  digest:\n    message: Sum up.\n    {when}\n") == []


@pytest.mark.parametrize(
    ("job", "line", "word"),
    [
        ("message: x", 3, "say when by one of"),
        ("message: x, every_seconds: 60, at: 2027-01-31T09:00:00Z", 3, "every_seconds and at"),
        ("message: x, every_seconds: 60, tz: Europe/Vienna", 3, "tz is the time zone"),
        ("message: x, every_seconds: 9", 3, "every_seconds"),
        ('message: x, cron: "0 9 * *"', 3, "five fields"),
        ('message: x, cron: "61 9 * * *"', 3, "no cron expression"),
        ('message: x, cron: "0 9 * * *", tz: Mars', 3, "no such time zone"),
        ("message: x, at: 2027-01-31T09:00:00", 3, "at"),
        ("message: x, every_seconds: 60, session: ../x", 3, "session"),
        ("every_seconds: 60", 3, "message"),
        ("message: x, every_seconds: 60, mesage: y", 3, "mesage"),
    ],
)
def test_one_that_is_wrong_is_told_in_its_place(job: str, line: int, word: str) -> None:
    (found,) = problems(f"  digest:\n    {{{job}}}\n")
    assert word in found
    assert found.startswith(("acme.yaml:2:", f"acme.yaml:{line}:")), found


def test_names_and_numbers_are_bounded() -> None:
    assert problems("  Digest: {message: x, every_seconds: 60}\n")
    many = "".join(f"  job-{number}: {{message: x, every_seconds: 60}}\n" for number in range(101))
    assert "100" in problems(many)[0]
