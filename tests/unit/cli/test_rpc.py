"""`carrel rpc`: a method's result on standard output, its error as the command's."""

import io

import pytest

from carrel.cli import rpc
from carrel.cli.failures import WrongUsage
from carrel.cli.options import HERE
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def test_a_result_is_json(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("rpc", "acme", "tenants.get")
    assert done.code == 0, done.err
    assert "acme" in str(done.json())


async def test_parameters_are_read_where_a_hyphen_stands_for_them(
    carrel: CommandLine, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"limit": "many"}'))
    assert "`keys` is missing" in (await carrel("rpc", "acme", "sessions.preview", "-")).err


async def test_a_methods_error_is_the_commands(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("rpc", "acme", "tenants.nothing")
    assert (done.code, done.out) == (1, "")
    assert "tenants.nothing" in done.err
    wrong = await carrel("rpc", "acme", "sessions.preview", '{"limit": "many"}')
    assert wrong.code == 1
    assert "sessions.preview: `keys` is missing." in wrong.err


async def test_a_tenant_that_is_not_there(carrel: CommandLine, edge: Edge) -> None:
    assert (await carrel("rpc", "nobody", "health")).code == 1


@pytest.mark.parametrize("text", ["{", "7", '"text"'])
def test_parameters_are_an_object_or_an_array(text: str) -> None:
    with pytest.raises(WrongUsage, match="PARAMS"):
        rpc._parsed(text)
    assert rpc._parsed('{"a": [1]}') == {"a": [1]}


def test_a_list_is_asked_for_page_after_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def called(target: object, tenant: str, method: str, params: dict[str, object]) -> object:
        asked.append(params.get("cursor"))
        return {"jobs": [len(asked)], **({"next": f"c{len(asked)}"} if len(asked) < 3 else {})}

    monkeypatch.setattr(rpc, "called", called)
    assert rpc.called_whole(HERE, "acme", "cron.list", "jobs") == {"jobs": [1, 2, 3]}
    assert asked == [None, "c1", "c2"]
