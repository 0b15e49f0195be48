import json
from pathlib import Path

import pytest

from carrel.declare.schema import KINDS, schema_documents
from tests.unit.cli.conftest import CommandLine

SCHEMAS = Path(__file__).resolve().parents[3] / "docs" / "reference" / "schema"
GATEWAY = """\
providers:
  demo: {kind: demo}
models:
  demo: {provider: demo, context_window: 32768, max_output: 4096}
default_model: demo
"""


@pytest.fixture
def tenants_d(tmp_path: Path) -> Path:
    path = tmp_path / "tenants.d"
    path.mkdir()
    (path / "_gateway.yaml").write_text(GATEWAY)
    (path / "_rate-card.yaml").write_text("models:\n  demo: {input: 1, output: 2}\n")
    (path / "acme.yaml").write_text("display_name: Acme\n")
    return path


def test_nothing_wrong(carrel: CommandLine, tenants_d: Path) -> None:
    done = carrel.run("check", str(tenants_d))
    assert (done.code, done.err) == (0, "")
    assert done.out == f"1 tenant declared in {tenants_d}: nothing is wrong\n"


def test_the_directory_here_is_the_default(
    carrel: CommandLine, tenants_d: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tenants_d.parent)
    assert carrel.run("check").out == "1 tenant declared in tenants.d: nothing is wrong\n"


def test_what_is_wrong_is_placed(carrel: CommandLine, tenants_d: Path) -> None:
    (tenants_d / "acme.yaml").write_text("quotas:\n  tokens_per_dya: 5\n")
    done = carrel.run("check", str(tenants_d))
    assert done.code == 1
    assert done.err.startswith(f"{tenants_d}/acme.yaml:2:3: ")
    assert "tokens_per_day" in done.err
    assert "1 error" in done.out
    told = carrel.run("check", str(tenants_d), "--json")
    assert told.code == 1
    [problem] = told.json()["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == ("acme.yaml", 2, 3)
    assert told.json()["ok"] is False


def test_hostile_text_in_a_file_stays_text(carrel: CommandLine, tenants_d: Path) -> None:
    (tenants_d / "acme.yaml").write_text('plan: "\\e]0;x\\a"\n')
    done = carrel.run("check", str(tenants_d))
    assert done.code == 1
    assert "\x1b" not in done.err + done.out


def test_no_such_directory(carrel: CommandLine, tmp_path: Path) -> None:
    done = carrel.run("check", str(tmp_path / "none"))
    assert done.code == 1
    assert str(tmp_path / "none") in done.err
    told = carrel.run("check", str(tmp_path / "none"), "--json")
    assert json.loads(told.err)["error"]["code"] == "declaration_unreadable"


def test_schemas(carrel: CommandLine) -> None:
    listed = carrel.run("schema")
    assert all(kind in listed.out for kind in KINDS)
    assert carrel.run("schema", "tenant").out == (SCHEMAS / "tenant.json").read_text(), "it is the checked-in file"
    assert carrel.run("schema", "--json").json() == schema_documents()
    done = carrel.run("schema", "tenent")
    assert done.code == 2
    assert "did you mean tenant?" in done.err


def test_a_machines_settings_are_judged(carrel: CommandLine, tenants_d: Path, tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    file.write_text('{"tenants_dir": "/t"}')
    done = carrel.run("check", "--host", str(file))
    assert (done.code, done.err, done.out) == (0, "", f"{file}: nothing is wrong\n")
    assert carrel.run("check", "--host", str(file), str(tenants_d)).code == 0
    (tenants_d / "acme.yaml").write_text("plan: none\n")
    assert carrel.run("check", "--host", str(file), str(tenants_d)).code == 1
    file.write_text('{"tenants_dir": "/t", "log": {"level": "loud"}}')
    told = carrel.run("check", "--host", str(file), "--json")
    assert (told.code, [p["path"] for p in told.json()["problems"]]) == (1, ["log.level"])
    assert "it is refused" in carrel.run("check", "--host", str(file)).out
