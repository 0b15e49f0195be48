"""What an index may say, and what is said where it says something else."""

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from carrel.packages.index import read
from carrel.packages.protocol import PackageError

BASH = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-bash"


def document(**changed: Any) -> dict[str, Any]:
    return {
        "format": "carrel-package-index", "version": 1, "system": f"{platform.machine()}-linux", "base": ["bash"],
        "packages": {"bash": {"path": BASH, "version": "5", "description": "A shell", "closure": [BASH]}},
    } | changed  # fmt: skip


def of(tmp_path: Path, content: object) -> Path:
    file = tmp_path / "packages.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def package(**changed: Any) -> dict[str, Any]:
    return {"bash": {"path": BASH, "closure": [BASH]} | changed}


def test_an_index_is_read(tmp_path: Path) -> None:
    index = read(of(tmp_path, document()))
    assert index.packages["bash"].version == "5"
    variable = {"BASH_HOME": f"{BASH}/share/x"}
    index = read(of(tmp_path, document(packages=package(environment=variable))))
    assert index.packages["bash"].environment == variable


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("{", "it is not JSON"),
        ([], "its format is carrel-package-index"),
        (document(format="x"), "its format is carrel-package-index"),
        (document(version=2), "it is of version 2, and this Carrel reads version 1"),
        (document(system="riscv128-linux"), "is for riscv128-linux, and this machine is"),
        (document(base=["zsh"]), "its base set names zsh"),
        (document(more=1), "more: Extra inputs"),
        (document(packages=package(closure=[])), r"packages\.bash\.closure"),
        (document(packages=package(closure=[BASH + "x"])), "the closure of bash lacks bash itself"),
        (document(packages=package(path="/etc")), r"packages\.bash\.path"),
        (document(packages=package(path=f"{BASH}/../../../etc")), r"packages\.bash\.path"),
        (document(packages=package(environment={"LD_PRELOAD": "/workspace/x.so"})), r"packages\.bash\.environment"),
        (document(packages=package(environment={"A": f"{BASH}/../../../etc"})), r"packages\.bash\.environment"),
        (document(packages={"../x": package()["bash"]}), r"packages\.\.\./x"),
    ],
)
def test_what_it_may_not_say_is_told(tmp_path: Path, wrong: object, told: str) -> None:
    with pytest.raises(PackageError, match=told):
        read(of(tmp_path, wrong))


def test_a_file_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        PackageError, match=r"no package index \(No such file.*services\.carrel\.packages.*packages\.path"
    ):
        read(tmp_path / "none")
