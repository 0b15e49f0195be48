import io
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


class Piped(io.TextIOWrapper):
    """Standard input that is no terminal."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def values(edge: Edge) -> dict[tuple[str, str], str]:
    secrets: Any = edge.services.secrets
    kept: dict[tuple[str, str], str] = secrets.values
    return kept


async def test_a_value_from_standard_input_or_a_file(
    carrel: CommandLine, edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b"canary-one\n"))
    done = await carrel("secrets", "set", "acme", "TOKEN")
    assert (done.code, done.out) == (0, "TOKEN is kept, version 1.\n")
    file = tmp_path / "value"
    file.write_bytes(b"canary-two")
    done = await carrel("secrets", "rotate", "acme", "TOKEN", "--from-file", str(file), "--json")
    assert done.json()["name"] == "TOKEN"
    assert values(edge) == {("acme", "TOKEN"): "canary-two"}
    assert "canary" not in done.out + done.err


async def test_those_that_there_are(carrel: CommandLine, edge: Edge) -> None:
    assert "no secret" in (await carrel("secrets", "list", "acme")).err
    values(edge)["acme", "TOKEN"] = "canary"
    done = await carrel("secrets", "list", "acme")
    assert done.out.splitlines()[1].split()[:3] == ["TOKEN", "1", "1"]
    assert "canary" not in done.out
    assert (await carrel("secrets", "list", "acme", "--json")).json()["secrets"][0]["name"] == "TOKEN"
    assert (await carrel("secrets", "reseal", "acme")).out == "2 sealed anew.\n"
    assert (await carrel("secrets", "reseal", "acme", "--json")).json() == {"count": 2}
    assert (await carrel("secrets", "remove", "acme", "TOKEN")).out == "TOKEN is removed.\n"
    done = await carrel("secrets", "remove", "acme", "TOKEN", "--json")
    assert done.code == 1


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe", b"x" * (64 * 1024 + 1)])
async def test_what_is_no_value(carrel: CommandLine, edge: Edge, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(data))
    done = await carrel("secrets", "set", "acme", "TOKEN")
    assert (done.code, done.out) == (2, "")
    assert values(edge) == {}


async def test_a_file_that_is_not_there(carrel: CommandLine, edge: Edge, tmp_path: Path) -> None:
    done = await carrel("secrets", "set", "acme", "TOKEN", "--from-file", str(tmp_path / "none"))
    assert done.code == 2
    assert "cannot be read" in done.err


async def test_a_terminal_is_asked_and_shows_nothing(
    carrel: CommandLine, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Piped(b"")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr("getpass.getpass", lambda _: "typed")
    assert (await carrel("secrets", "set", "acme", "TOKEN")).code == 0
    assert values(edge) == {("acme", "TOKEN"): "typed"}
