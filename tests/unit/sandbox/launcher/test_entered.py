"""A command in a sandbox that runs: as confined as the first, and killed with all that it began and nothing else."""

import os

import pytest

from tests.fakes.launcher import LauncherProcess, ended, running
from tests.fakes.patience import until


@pytest.fixture
def inside(started: LauncherProcess) -> LauncherProcess:
    """A launcher whose sandbox 1 runs, which is so once its own command does: bubblewrap's words have it too."""
    mark = f"{os.getpid()}.1"
    started.run(1, "/usr/bin/sleep", mark, wall=None)
    assert until(lambda: running(mark, program="/usr/bin/sleep"))
    return started


def told(inside: LauncherProcess, number: int, command: str) -> str:
    written = inside.enter(number, 1, "/usr/bin/bash", "-c", command)
    answer = inside.answer()
    assert answer["id"] == number
    assert "ended" in answer, answer
    return written.text()


def test_it_is_in_the_sandbox_and_no_freer_than_what_was_there_before(inside: LauncherProcess) -> None:
    text = told(
        inside, 2, "readlink /proc/self/ns/{pid,net,user,mnt,ipc,uts}; echo; "
        "readlink /proc/2/ns/{pid,net,user,mnt,ipc,uts}; "
        "grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status; ls /proc/self/fd | tr '\n' ' '; pwd; id -u; env",
    )  # fmt: skip
    spaces, _, rest = text.partition("\n\n")
    assert rest.startswith(spaces)
    lines = dict(line.split(":\t") for line in rest.splitlines() if ":\t" in line)
    assert {lines[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert lines["NoNewPrivs"] == "1"
    assert lines["Seccomp_filters"] == "2"
    assert "0 1 2 3 " in rest, "3 is that of ls itself"
    assert " /tmp\n1000\n" in rest
    assert "CARREL" not in rest


def test_what_it_leaves_lives_on_and_is_seen_by_the_next(inside: LauncherProcess) -> None:
    told(inside, 2, "echo kept > /tmp/file; setsid sleep 7771 >/dev/null 2>&1 & disown")
    assert told(inside, 3, "cat /tmp/file; pgrep -f 'sleep 777[1]'").startswith("kept\n")


def test_it_tells_how_it_ended(inside: LauncherProcess) -> None:
    inside.enter(2, 1, "/usr/bin/bash", "-c", "exit 7").text()
    assert ended(inside.answer())["exit_code"] == 7
    inside.enter(3, 1, "/usr/bin/bash", "-c", "kill -TERM $$").text()
    assert ended(inside.answer())["exit_code"] == 128 + 15
    written = inside.enter(4, 1, "nothing-of-this-name")
    assert ended(inside.answer())["exit_code"] == 127
    assert written.text() == "nothing-of-this-name: command not found\n"


def test_what_somebody_inside_may_have_written_is_not_executed_by_the_host(inside: LauncherProcess) -> None:
    told(inside, 2, "printf '#!/proc/self/exe' > /tmp/sh; cp /usr/bin/true /tmp/true; chmod +x /tmp/*")
    for number, name in enumerate(("/tmp/sh", "/tmp/true", "./true"), 3):
        inside.enter(number, 1, name).text()
        assert ended(inside.answer())["exit_code"] == 127
    assert told(inside, 6, "/tmp/true && echo by the shell") == "by the shell\n"


def test_a_time_out_kills_all_that_it_began_and_nothing_that_was_there(inside: LauncherProcess) -> None:
    before, other = f"{os.getpid()}.21", f"{os.getpid()}.22"
    mine = f"{os.getpid()}.23"
    told(inside, 2, f"setsid sleep {before} >/dev/null 2>&1 & disown")
    beside = inside.enter(3, 1, "/usr/bin/bash", "-c", f"sleep {other} & wait")
    assert until(lambda: running(other))
    late = inside.enter(
        4, 1, "/usr/bin/bash", "-c", f"(setsid bash -c 'sleep {mine} & sleep {mine}' &) ; sleep {mine}", wall=4
    )
    assert until(lambda: running(mine))
    answer = inside.answer()
    assert answer["id"] == 4
    assert ended(answer)["killed"] == "wall_clock"
    assert not running(mine)
    assert running(before)
    assert running(other)
    inside.order({"do": "kill", "id": 3}, [])
    assert ended(inside.answer())["killed"] == "cancelled"
    assert not running(other)
    late.text()
    beside.text()


def test_a_fork_bomb_ends_with_its_command_or_with_the_sandbox(inside: LauncherProcess) -> None:
    mark = f"{os.getpid()}.31"
    bomb = f"f() {{ (setsid bash -c 'sleep {mark}' &); f & f; }}; ulimit -u 200; f"
    inside.enter(2, 1, "/usr/bin/bash", "-c", bomb, wall=2.0).text()
    answers = [inside.answer()]
    if answers[0]["id"] == 1:
        answers.append(inside.answer())
    assert until(lambda: not running(mark))


def test_what_has_gone_cannot_be_entered(inside: LauncherProcess) -> None:
    inside.order({"do": "kill", "id": 1}, [])
    assert ended(inside.answer())["killed"] == "cancelled"
    inside.enter(2, 1, "/usr/bin/true").text()
    assert "not there any more" in inside.answer()["failed"]


def test_commands_end_with_their_sandbox(inside: LauncherProcess) -> None:
    mark = f"{os.getpid()}.41"
    written = inside.enter(2, 1, "/usr/bin/sleep", mark)
    assert until(lambda: running(mark))
    inside.order({"do": "kill", "id": 1}, [])
    told = {answer["id"]: ended(answer) for answer in (inside.answer(), inside.answer())}
    assert told[2]["killed"] == "cancelled"
    assert not running(mark)
    written.text()


def test_twenty_at_once_all_end(inside: LauncherProcess) -> None:
    written = [inside.enter(number, 1, "/usr/bin/bash", "-c", f"echo {number}") for number in range(10, 30)]
    for _ in written:
        assert ended(inside.answer())["exit_code"] == 0
    assert sorted(int(w.text()) for w in written) == list(range(10, 30))
