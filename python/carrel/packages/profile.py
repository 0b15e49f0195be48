"""One tree of links to the programs and files of several packages, as Nix's own profiles are.

It is for environments that no Nix puts together. Where two packages have the same file the first one's counts; where
they have the same directory it holds what is in both. All of it blocks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PARTS: Final = ("bin", "etc", "lib", "libexec", "share")


def make(profile: Path, packages: Sequence[str], physical: Callable[[str], Path]) -> None:
    """Fill ``profile``, which is new, with links to store paths. ``physical`` says where one really is."""
    profile.mkdir(mode=0o755)
    for part in PARTS:
        having = [f"{package}/{part}" for package in packages if (physical(package) / part).is_dir()]
        if having:
            _merge(profile / part, having, physical)
    shell = profile / "bin" / "sh"
    if not shell.is_symlink():
        # Base sets whose bash comes without its other name.
        shell.symlink_to("bash")


def _merge(target: Path, sources: Sequence[str], physical: Callable[[str], Path]) -> None:
    target.mkdir(mode=0o755)
    having: dict[str, list[str]] = {}
    for source in sources:
        for entry in physical(source).iterdir():
            having.setdefault(entry.name, []).append(f"{source}/{entry.name}")
    for name, places in having.items():
        directories = [place for place in places if _is_directory(physical(place))]
        if len(places) > 1 and len(directories) == len(places):
            _merge(target / name, places, physical)
        else:
            (target / name).symlink_to(places[0])


def _is_directory(path: Path) -> bool:
    """Not by way of a link: where it leads is said in terms of the sandbox."""
    return path.is_dir() and not path.is_symlink()
