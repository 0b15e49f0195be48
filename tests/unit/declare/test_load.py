import errno
import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from carrel.declare.directory import DirectoryUnreadable
from carrel.declare.load import Loader, check, load_tree
from carrel.ids import TenantId
from tests.fakes.declarations import declare

REPOSITORY = Path(__file__).resolve().parents[3]
DIGEST = "ab" * 32


def said(path: Path) -> list[str]:
    return [str(problem) for problem in check(path)]


def test_a_good_tree_has_no_problems(tmp_path: Path) -> None:
    path = declare(tmp_path / "d", acme="plan: starter\npackages: [jq]\n", empty="")
    tree = load_tree(path)
    assert tree.problems == ()
    assert set(tree.tenants) == {"acme", "empty"}
    acme = tree.tenants[next(t for t in tree.tenants if t == "acme")]
    assert acme.config is not None
    assert acme.config.quotas.tokens_per_day == 1000


def test_each_problem_has_its_place_and_touches_its_tenant_alone(tmp_path: Path) -> None:
    path = declare(
        tmp_path / "d", acme="plan: strter\n", other="packages:\n  - jq\n  - ripgrp\n", good="", torn="agents: {\n"
    )
    assert said(path) == [
        "acme.yaml:1:7: plan: _plans.yaml has no such plan, found 'strter'; did you mean starter?",
        "other.yaml:3:5: packages[1]: _allowlists.yaml does not have this package, found 'ripgrp';"
        " did you mean ripgrep?",
        "torn.yaml:2:1: not YAML: while parsing a flow node did not find expected node content",
    ]
    assert [t for t, judged in load_tree(path).tenants.items() if judged.config is not None] == ["good"]


def test_a_default_that_a_plan_forbids_is_named(tmp_path: Path) -> None:
    path = declare(tmp_path / "d", acme="models: [other]\n")
    assert said(path) == [
        "acme.yaml:1:1: agents.main.model: this tenant may not use that model (it is the default_model),"
        " found 'demo'; allowed: other"
    ]


def test_files_of_the_wrong_name_or_kind_are_named(tmp_path: Path) -> None:
    path = declare(tmp_path / "d")
    (path / "acme.yml").write_text("")
    (path / "Bad.yaml").write_text("")
    (path / "link.yaml").symlink_to("_plans.yaml")
    (path / "_gatway.yaml").write_text("")
    (path / ".acme.yaml.swp").write_text("x")
    (path / "acme.yaml~").write_text("x")
    lines = said(path)
    assert [line.split(":")[0] for line in lines] == ["Bad.yaml", "_gatway.yaml", "acme.yml", "link.yaml"]
    assert "symbolic link" in lines[3]


def test_operators_files_that_disagree_leave_no_tenant_judged(tmp_path: Path) -> None:
    path = declare(tmp_path / "d", acme="")
    (path / "_rate-card.yaml").write_text("models: {demo: {input: 1, output: 2}}\n")
    tree = load_tree(path)
    assert tree.operators is None
    assert "_gateway.yaml:4:3: models.other: the model has no price" in str(tree.problems[0])
    assert all(judged.config is None for judged in tree.tenants.values())
    (path / "_gateway.yaml").unlink()
    assert "the file is missing" in str(load_tree(path).problems[0])


def test_a_token_belongs_to_one_tenant_and_who_was_first_keeps_it(tmp_path: Path) -> None:
    token = f"tokens: [{{name: ci, sha256: {DIGEST}}}]\n"
    path = declare(tmp_path / "d", zed=token)
    loader = Loader(path)
    loader.load(loader.changed())
    (path / "acme.yaml").write_text(token)
    loader.load(loader.changed())
    states = {tenant: judged.config is not None for tenant, judged in loader.tenants.items()}
    assert states == {"zed": True, "acme": False}
    assert "another tenant" in str(loader.tree().problems[0])
    (path / "zed.yaml").write_text("")
    loader.load(loader.changed())
    loader.load(["acme.yaml"])
    assert all(judged.config is not None for judged in loader.tenants.values())


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    path = declare(tmp_path / "d", acme="", other="")
    loader = Loader(path)
    loader.load(loader.changed())
    assert loader.changed() == set()
    (path / "acme.yaml").write_text("display_name: x\n")
    (path / "other.yaml").unlink()
    (path / "third.yaml").write_text("")
    assert loader.changed() == {"acme.yaml", "other.yaml", "third.yaml"}
    assert loader.load(loader.changed()) == {"acme", "other", "third"}
    assert set(loader.tenants) == {"acme", "third"}


@pytest.mark.parametrize(
    ("number", "again"), [(errno.EMFILE, {"acme.yaml"}), (errno.EIO, {"acme.yaml"}), (errno.EACCES, set())]
)
def test_what_the_machine_lacked_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, again: set[str]
) -> None:
    loader = Loader(declare(tmp_path / "d", acme="", other=""))
    real = os.open

    def refuses(path: str, flags: int, **more: int) -> int:
        if str(path).endswith("acme.yaml"):
            raise OSError(number, os.strerror(number))
        return real(path, flags, **more)

    with monkeypatch.context() as machine:
        machine.setattr(os, "open", refuses)
        loader.load(loader.changed())
        assert loader.tenants[TenantId("acme")].config is None
    assert loader.changed() == again
    loader.load(again)
    assert (loader.tenants[TenantId("acme")].config is not None) == bool(again)


def test_after_a_move_only_what_is_not_the_same_is_read(tmp_path: Path) -> None:
    path = declare(tmp_path / "d", acme="", other="", third="")
    loader = Loader(path)
    loader.load(loader.changed())
    there = shutil.copytree(path, tmp_path / "e")
    (there / "other.yaml").write_text("display_name: x\n")
    (there / "third.yaml").unlink()
    (there / "fourth.yaml").write_text("")
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in there.iterdir()}
    loader.move_to(there, digests)
    assert loader.changed() == {"other.yaml", "third.yaml", "fourth.yaml"}
    loader.load({"other.yaml", "third.yaml", "fourth.yaml"})
    assert loader.changed() == set()
    (there / "acme.yaml").write_text("display_name: y\n")
    assert loader.changed() == {"acme.yaml"}
    # Where nothing is known of what is there, all of it is read.
    loader.move_to(path)
    assert len(loader.changed()) > 3


def test_a_change_of_the_operators_judges_everyone_again(tmp_path: Path) -> None:
    path = declare(tmp_path / "d", acme="packages: [jq]\n", other="")
    loader = Loader(path)
    loader.load(loader.changed())
    (path / "_allowlists.yaml").write_text("packages: {names: [ripgrep]}\n")
    assert loader.load(loader.changed()) == {"acme", "other"}
    assert {t for t, judged in loader.tenants.items() if judged.config is None} == {"acme"}


def test_no_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DirectoryUnreadable):
        check(tmp_path / "nope")


def test_the_samples_are_right() -> None:
    assert said(REPOSITORY / "tenants.d") == []


def test_the_samples_are_right_with_every_example_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "tenants.d"
    shutil.copytree(REPOSITORY / "tenants.d", path)
    for file in path.iterdir():
        file.write_text(re.sub(r"(?m)^#(?=  |[a-z])", "", file.read_text()))
    tree = load_tree(path)
    assert [str(problem) for problem in tree.problems] == []
    assert tree.operators is not None
    assert len(tree.operators.gateway.models) >= 5
    assert any(judged.config and judged.config.tokens for judged in tree.tenants.values())


def test_every_sample_names_its_schema() -> None:
    for file in (REPOSITORY / "tenants.d").iterdir():
        first = file.read_text().splitlines()[0]
        found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert found, file.name
        assert (file.parent / found.group(1)).is_file()
