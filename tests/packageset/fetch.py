"""Fetches the Debian packages of the test package set: ``python tests/packageset/fetch.py``.

They go into ``.cache/packageset`` at the top of the checkout, by apt and its signed lists, and are compared with
``lock.json``. Where the distribution does not have a locked version any more, the current ones are taken on apt's word
and it is said: the lock in the cache names what is there. What is there is fetched anew only where the lock or the list
of packages changes; where that fails, what is there serves on. ``--patient`` begins a download that failed once more,
``--update-lock`` locks what the distribution has now. Standard library only; nothing is installed.
"""

import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "packageset"
SECONDS = 300
PATIENCE = 3
"""How often a patient caller begins a download."""
PAUSE = 5.0
Locked = dict[str, dict[str, str]]


class CannotFetch(Exception):
    """What is missing and what to do about it."""


def wanted() -> list[str]:
    """The Debian packages of all groups, and what unpacks and patches them."""
    told = json.loads((HERE / "packages.json").read_text(encoding="utf-8"))
    names = {name for group in told["groups"].values() for name in group["debs"]}
    return sorted(names | set(told["tools"]) | {"busybox-static"})


def architecture() -> str:
    """Debian's name for this machine."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def order(names: list[str]) -> str:
    """A name for what is to be fetched: a cache that bears another one was filled for another lock."""
    told = json.dumps([names, sorted(_locked().items())])
    return hashlib.sha256(told.encode()).hexdigest()


def ordered(names: list[str]) -> str | None:
    """The order that the cache was filled for; None where it is not whole. Content was compared when it was written."""
    try:
        told = json.loads((CACHE / "lock.json").read_text(encoding="utf-8"))
        have, filled_for = told["debs"], str(told["order"])
    except (OSError, ValueError, KeyError):
        return None
    if sorted(have) != names or not (CACHE / "busybox" / "bin" / "busybox").is_file():
        return None
    return filled_for if all((CACHE / entry["file"]).is_file() for entry in have.values()) else None


def fetch(names: list[str], into: Path, locked: Locked, *, tries: int = 1) -> dict[str, dict[str, str]]:
    """Download into the directory and describe what came: file, version and SHA-256 by name."""
    if shutil.which("apt-get") is None:
        raise CannotFetch("the test package set is made of Debian packages, and there is no apt-get here")
    known = [f"{name}={locked[name]['version']}" if name in locked else name for name in names]
    for number, asked in enumerate([known, names] * tries):
        if number and number % 2 == 0:
            time.sleep(PAUSE * number)
        reason = _download(asked, into)
        if reason is None:
            break
    else:
        raise CannotFetch(f"apt-get cannot download it ({reason}); it needs Debian 12, and `apt-get update` as root")
    found: dict[str, dict[str, str]] = {}
    for file in sorted(into.glob("*.deb")):
        name, version, _ = file.name.split("_", 2)
        found[name] = {
            "file": file.name,
            "version": version.replace("%3a", ":"),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
    missing = sorted(set(names) - set(found))
    if missing:
        raise CannotFetch(f"apt-get did not give {', '.join(missing)}")
    return found


def _download(asked: list[str], into: Path) -> str | None:
    """One try, into the emptied directory: why it failed, or None."""
    for partial in into.iterdir():
        partial.unlink()
    try:
        done = subprocess.run(
            ["apt-get", "download", "-qq", "-oAcquire::Retries=3", "-oAPT::Sandbox::User=root", *asked],
            cwd=into, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it was not done within {SECONDS} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def compare(found: dict[str, dict[str, str]], locked: Locked) -> list[str]:
    """What is not as locked: sentences for newer versions; raises CannotFetch for the same version with other bytes."""
    notes = []
    for name, entry in found.items():
        expected = locked.get(name)
        if expected is None:
            notes.append(f"{name} is not in the lock")
        elif expected["version"] != entry["version"]:
            notes.append(f"{name} is {entry['version']} by now, not {expected['version']} as locked")
        elif expected["sha256"] != entry["sha256"]:
            raise CannotFetch(f"{name} {entry['version']} is not what the lock says: {entry['sha256']}")
    return notes


def busybox(deb: Path, into: Path) -> None:
    """Take the program out of its package, to where its applets find it."""
    data = _member(deb.read_bytes(), b"data.tar.xz")
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(data))) as archive:
        program = next(m for m in archive.getmembers() if m.isfile() and m.name.endswith("bin/busybox"))
        source = archive.extractfile(program)
        assert source is not None
        target = into / "bin" / "busybox"
        target.parent.mkdir(parents=True)
        target.write_bytes(source.read())
        target.chmod(0o755)


def _member(archive: bytes, name: bytes) -> bytes:
    at = 8
    while at < len(archive):
        header = archive[at : at + 60]
        size = int(header[48:58])
        if header[:16].rstrip(b" /") == name:
            return archive[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise CannotFetch(f"no {name.decode()} in busybox-static")


def _locked() -> Locked:
    try:
        told: dict[str, Any] = json.loads((HERE / "lock.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    locked: Locked = told.get(architecture(), {})
    return locked


def fill(names: list[str], *, update_lock: bool, tries: int) -> None:
    """Fetch into a directory beside the cache, and put it in the cache's place when it is whole."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix="packageset-", dir=CACHE.parent))
    try:
        found = fetch(names, staged, {} if update_lock else _locked(), tries=tries)
        if update_lock:
            _lock(found)
        for note in compare(found, _locked()):
            _say(note)
        busybox(staged / found["busybox-static"]["file"], staged / "busybox")
        told = {"debs": found, "order": order(names)}
        (staged / "lock.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        # Whoever the gateway becomes reads it, whatever the mask of whoever fetched it.
        for path in (staged, *staged.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.name == "busybox" else 0o644)
        if CACHE.exists():
            shutil.rmtree(CACHE)
        staged.rename(CACHE)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _lock(found: dict[str, dict[str, str]]) -> None:
    path = HERE / "lock.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    told[architecture()] = {name: {key: entry[key] for key in ("version", "sha256")} for name, entry in found.items()}
    path.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _say(line: str) -> None:
    print(f"carrel: test package set: {line}", file=sys.stderr)  # noqa: T201 - a script says what it did


def main(words: list[str]) -> int:
    """Fetch what is missing; 0 where all of it is there."""
    names, update_lock = wanted(), "--update-lock" in words
    filled_for = ordered(names)
    if filled_for == order(names) and not update_lock:
        return 0
    try:
        fill(names, update_lock=update_lock, tries=PATIENCE if "--patient" in words else 1)
    except (CannotFetch, OSError) as error:
        _say(str(error))
        if filled_for is None or update_lock:
            return 1
        _say("what was fetched for an older lock serves on")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
