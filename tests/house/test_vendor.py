"""What pages load of others' is what was published, has its licence beside it, and is in the wheel with our own."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.house.vendor_pages import MANIFEST, VENDOR

PYTHON = VENDOR.parents[3]


def test_each_file_is_the_one_that_was_published() -> None:
    packages = json.loads(MANIFEST.read_text(encoding="utf-8"))["packages"]
    named = {name: file["sha256"] for package in packages for name, file in package["files"].items()}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name not in ("vendor.json", "LICENSES.txt", "README.md")
    }
    assert found == named, "run `make vendor`, or take out what vendor.json does not name"
    licences = (VENDOR / "LICENSES.txt").read_text(encoding="utf-8")
    for package in packages:
        assert package["licence"] == "MIT"
        assert package["integrity"].startswith("sha512-")
        assert f"== {package['name']} {package['version']}\n" in licences


def test_the_wheel_holds_the_pages_and_is_built_without_a_network(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=PYTHON, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        inside = set(opened.namelist())
    ours = {str(path.relative_to(PYTHON)) for path in VENDOR.parent.rglob("*") if path.is_file()}
    assert len(ours) > 8
    assert ours <= inside
