"""`carrel tenants export` and `import` against an edge: what is asked of whom, and what people read."""

import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from carrel.cli.app import build_app, execute
from carrel.cli.conversion import AgentSettings, Conversion
from carrel.errors import Conflict, InvalidRequest, StorageFull
from carrel.wire.backups import ImportView
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine, Done, started_edge

REPORT: Mapping[str, Any] = {
    "counts": {"session": {"taken": 2, "refused": 1}, "secret": {"left": 1}},
    "items": [
        {"kind": "session", "name": "a", "outcome": "taken"},
        {"kind": "secret", "name": "b", "outcome": "left", "detail": "it is elsewhere"},
        {"kind": "session", "name": "c", "outcome": "refused", "detail": "it is a link"},
    ],
    "more": 0,
}  # fmt: skip


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with started_edge(tmp_path) as running:
        yield running


class Moving(CommandLine):
    """The command line with a conversion handed down."""

    def run(self, *words: str) -> Done:
        self.capture.readouterr()
        app = build_app(lambda _: 0, converts=self.converts, reverses=self.reverses, looks=self.looks)
        code = execute(app, words)
        wrote = self.capture.readouterr()
        return Done(code, wrote.out, wrote.err)

    def converts(self, source: Path, work: Path, tenant: str | None) -> Sequence[Conversion]:
        if not source.is_dir():
            raise InvalidRequest("It is no directory.")
        archive = work / "one.tar.gz"
        archive.write_bytes(b"converted")
        agents = (AgentSettings("main", "demo/demo", ("rhyme",)),)
        return [Conversion(tenant or "acme", archive, REPORT, {"KEY": "hidden-value"}, agents, "Name")]

    def looks(self, archive: Path, tenant: str) -> ImportView:
        if archive.read_bytes() == b"broken":
            raise InvalidRequest("It is no whole archive of a tenant.")
        return ImportView(
            tenant=tenant, source="carrel", source_tenant="acme", files=len(archive.read_bytes()), bytes=3, sessions=1,
            dry_run=True, seal="other",
        )  # fmt: skip

    def reverses(self, archive: Path, out: Path) -> Mapping[str, Any]:
        out.mkdir()
        (out / "archive").write_bytes(archive.read_bytes())
        return REPORT


@pytest.fixture
def moving(carrel: CommandLine) -> Moving:
    return Moving(carrel.state, carrel.capture)


async def test_an_export_is_a_file_and_its_import_a_tenant(moving: Moving, edge: Edge, tmp_path: Path) -> None:
    file = tmp_path / "acme.tar.gz"
    done = await moving("tenants", "export", "acme", "--to", str(file))
    assert done.code == 0, done.err
    assert file.read_bytes() == b"archive" * 400_000
    assert (file.stat().st_mode & 0o777, "master key" in done.err) == (0o600, True)
    again = await moving("tenants", "export", "acme", "--to", str(file))
    assert (again.code, "File exists" in again.err) == (1, True)
    done = await moving("tenants", "import", str(file), "--as", "bravo", "--replace")
    assert (done.code, "bravo is here: 2 files" in done.out, "--undo" in done.err) == (0, True, True)
    assert "no seal" in done.err
    sealed = await moving("tenants", "import", str(file), "--as", "bravo", "--replace", "--require-seal")
    assert "this gateway's own seal" in sealed.err
    backups: Any = edge.services.backups
    assert backups.done == ["export acme", "take in bravo True", "take in bravo True sealed"]


async def test_standard_output_and_input_take_a_files_place(
    moving: Moving, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await moving("tenants", "export", "acme", "--to", "-")).out == "archive" * 400_000
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"archive")))
    done = await moving("tenants", "import", "-", "--as", "bravo")
    assert (done.code, "bravo is here" in done.out) == (0, True), done.err


async def test_a_misspelt_option_is_no_file(moving: Moving, edge: Edge) -> None:
    done = await moving("tenants", "import", "--dryrun", "--as", "bravo")
    assert (done.code, "There is no option --dryrun" in done.err) == (2, True)


async def test_one_that_breaks_off_leaves_no_file(moving: Moving, edge: Edge, tmp_path: Path) -> None:
    done = await moving("tenants", "export", "nobody", "--to", str(tmp_path / "x.tar.gz"))
    assert done.code == 1
    assert not (tmp_path / "x.tar.gz").exists()


async def test_a_dry_run_tells_and_asks_nobody(moving: Moving, edge: Edge, tmp_path: Path) -> None:
    done = await moving("tenants", "import", "--from-openclaw", str(tmp_path), "--as", "acme", "--dry-run")
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == "refused: session c: it is a link"
    assert [line.split() for line in done.out.splitlines()[1:]] == [
        ["WHAT", "TAKEN", "CHANGED", "LEFT", "REFUSED"], ["secret", "-", "-", "1", "-"],
        ["session", "2", "-", "-", "1"],
    ]  # fmt: skip
    backups: Any = edge.services.backups
    assert backups.done == []
    words = ("tenants", "import", "--from-openclaw", str(tmp_path), "--as", "a", "--dry-run", "--json")
    shown = (await moving(*words)).json()
    assert shown["report"]["counts"] == REPORT["counts"]


async def test_thousands_of_one_kind_hide_no_other(
    moving: Moving, edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [{"kind": "job", "name": f"j{n}", "outcome": "refused", "detail": "too many"} for n in range(4800)]
    others = [{"kind": "file", "name": f"f{n}", "outcome": "left", "detail": f"for reason {n}"} for n in range(50)]
    monkeypatch.setitem(REPORT, "items", [*many, *others, *REPORT["items"]])
    words = ("tenants", "import", "--from-openclaw", str(tmp_path), "--as", "acme", "--dry-run")
    told = (await moving(*words)).err.splitlines()
    assert told[:3] == [
        "refused: job j0, j1, j2, and 4797 more: too many", "refused: session c: it is a link",
        "left: file f0: for reason 0",
    ]  # fmt: skip
    assert told[40:] == ["13 more: --json names all of them."]
    monkeypatch.setitem(REPORT, "more", 7)
    assert (await moving(*words)).err.splitlines()[40:] == ["20 more: --json names the first 4853 of them."]
    monkeypatch.setitem(REPORT, "more", 0)
    monkeypatch.setitem(REPORT, "items", many)
    assert (await moving(*words)).err.splitlines()[1:] == ["--json names all of them."]


@pytest.mark.parametrize("openclaw", [False, True])
async def test_a_tenant_that_was_declared_for_one_that_is_refused_is_told(
    moving: Moving, edge: Edge, tmp_path: Path, openclaw: bool
) -> None:
    backups: Any = edge.services.backups
    backups.error = StorageFull("There is no room.")
    file = tmp_path / "new.tar.gz"
    file.write_bytes(b"whole")
    words = ("--from-openclaw", str(tmp_path)) if openclaw else (str(file),)
    # Here what is declared comes into force for nobody, so that what is to be taken in is refused for that.
    for tenant, new, refused in (("fresh", True, "No such tenant."), ("acme", False, "There is no room.")):
        done = await moving("tenants", "import", *words, "--as", tenant)
        assert (done.code, refused in done.err) == (1, True), done.err
        told = f"{tenant} was declared for it, and is empty: import again, or `carrel tenants remove {tenant}`."
        assert (told in done.err) == new, done.err


async def test_an_import_takes_in_sets_up_and_seals(moving: Moving, edge: Edge, tmp_path: Path) -> None:
    words = ("tenants", "import", "--from-openclaw", str(tmp_path), "--as", "acme")
    done = await moving(*words)
    assert done.code == 0, done.err
    backups: Any = edge.services.backups
    assert (backups.done, backups.archive) == (["take in acme False"], b"converted")
    secrets: Any = edge.services.secrets
    assert secrets.values["acme", "KEY"] == "hidden-value"
    assert "hidden-value" not in done.out + done.err
    secrets.values["acme", "KEY"] = "set since"
    assert (await moving(*words)).code == 0
    assert secrets.values["acme", "KEY"] == "set since"
    backups.error = Conflict("acme has sessions already")
    refused = await moving(*words)
    assert (refused.code, "acme has sessions already" in refused.err) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        (), ("file",), ("file", "--from-openclaw", "x", "--as", "a"),
        ("--from-openclaw", "x", "--as", "a", "--require-seal"),
    ],
)  # fmt: skip
async def test_words_that_do_not_go_together(moving: Moving, words: tuple[str, ...]) -> None:
    assert (await moving("tenants", "import", *words)).code == 2


async def test_a_file_is_looked_at_by_the_gateway_or_here_where_the_tenant_is_new(
    moving: Moving, edge: Edge, tmp_path: Path
) -> None:
    file = tmp_path / "acme.tar.gz"
    file.write_bytes(b"12345")
    backups: Any = edge.services.backups
    looked = await moving("tenants", "import", str(file), "--as", "acme", "--dry-run", "--require-seal")
    assert (looked.code, "acme would be here: 2 files" in looked.out) == (0, True), looked.err
    assert backups.done == ["take in acme False dry sealed"]
    fresh = await moving("tenants", "import", str(file), "--as", "newco", "--dry-run")
    assert (fresh.code, "newco would be here: 5 files" in fresh.out) == (0, True), fresh.err
    assert "not declared yet" in fresh.err
    assert "whose it is, the import tells" in fresh.err
    assert len(backups.done) == 1
    wrong = await moving("tenants", "import", str(file), "--as", "No Id")
    assert (wrong.code, "an id is" in wrong.err) == (2, True)


async def test_an_archive_goes_to_a_place_and_comes_from_one(moving: Moving, edge: Edge) -> None:
    backups: Any = edge.services.backups
    done = await moving("tenants", "export", "acme", "--to", "s3://bucket/a/")
    assert (done.code, done.out) == (0, "acme is in s3://bucket/a/acme.tar.gz, 5242880 bytes.\n"), done.err
    assert "3 files, 1 name left out; SHA-256 000" in done.err
    assert "master key" in done.err
    told = (await moving("tenants", "export", "acme", "--to", "file:///x/a.tar.gz", "--replace", "--json")).json()
    assert (told["place"], told["content"]) == ("file:///x/a.tar.gz", 9 << 20)
    place = "s3://bucket/a/acme.tar.gz"
    done = await moving("tenants", "import", place, "--as", "bravo", "--replace", "--require-seal")
    assert (done.code, "bravo is here: 2 files" in done.out, "--undo" in done.err) == (0, True, True), done.err
    # As who is on the gateway's machine, by the control socket.
    assert backups.done == [
        "send acme s3://bucket/a/ False anywhere", "send acme file:///x/a.tar.gz True anywhere",
        f"fetch bravo {place} True sealed anywhere",
    ]  # fmt: skip
    backups.error = Conflict("There is acme.tar.gz at that place already")
    refused = await moving("tenants", "export", "acme", "--to", "s3://bucket/a/")
    assert (refused.code, "already" in refused.err) == (1, True)


async def test_an_archive_at_a_place_is_judged_before_anybody_is_declared_for_it(moving: Moving, edge: Edge) -> None:
    backups: Any = edge.services.backups
    place = "s3://bucket/a/acme.tar.gz"
    looked = await moving("tenants", "import", place, "--as", "newco", "--dry-run")
    assert (looked.code, "newco would be here: 2 files" in looked.out) == (0, True), looked.err
    assert "not declared yet" in looked.err
    backups.error = InvalidRequest("It is no whole archive of a tenant.")
    assert (await moving("tenants", "import", place, "--as", "newco")).code == 1
    assert "newco" not in (await moving("tenants", "list", "--json")).out
    backups.error = None
    assert backups.done == [f"look newco {place} anywhere"]
    await moving("tenants", "import", place, "--as", "newco")
    assert backups.done[1:] == [f"look newco {place} anywhere"]


@pytest.mark.parametrize("words", [("--replace",), ("--replace", "--to", "file.tar.gz")])
async def test_only_what_is_at_a_place_is_replaced(moving: Moving, edge: Edge, words: tuple[str, ...]) -> None:
    done = await moving("tenants", "export", "acme", *words)
    assert (done.code, "a file is always a new one" in done.err) == (2, True)


async def test_a_file_that_is_no_whole_one_declares_nobody(moving: Moving, edge: Edge, tmp_path: Path) -> None:
    file = tmp_path / "acme.tar.gz"
    file.write_bytes(b"broken")
    done = await moving("tenants", "import", str(file), "--as", "newco")
    assert (done.code, "It is no whole archive" in done.err) == (1, True), done.err
    listed = await moving("tenants", "list", "--json")
    assert "newco" not in listed.out


async def test_what_is_not_there_is_told(moving: Moving, edge: Edge, tmp_path: Path) -> None:
    gone = await moving("tenants", "import", str(tmp_path / "none"), "--as", "acme")
    assert (gone.code, "cannot be read" in gone.err) == (1, True)
    gone = await moving("tenants", "import", "--from-openclaw", str(tmp_path / "none"), "--as", "acme")
    assert (gone.code, "no directory" in gone.err) == (1, True)


async def test_an_export_in_the_other_layout(moving: Moving, edge: Edge, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = await moving("tenants", "export", "acme", "--as-openclaw", str(out), "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["report"]["counts"] == REPORT["counts"]
    assert (out / "archive").read_bytes() == b"archive" * 400_000
    both = await moving("tenants", "export", "acme", "--as-openclaw", str(out), "--to", "x")
    assert both.code == 2
