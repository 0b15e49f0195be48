"""The page of the module's options, made by evaluating the module: ``python -m tests.nixos.options_page``."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.nixos.evaluated import REPOSITORY, Nix, evaluation

PAGE: Final = REPOSITORY / "docs" / "reference" / "nixos-options.md"
_HEAD: Final = """# Options of `services.carrel`

Made by evaluating the module, by `make docs`. Edit `modules/`, not this page.
"""


def page(nix: Nix) -> str:
    """The whole page."""
    walk = Path(__file__).with_name("options.nix")
    done = nix.host("{ services.carrel.enable = true; }", f"import {walk} host.options.services.carrel")
    assert done.returncode == 0, done.stderr
    return "\n".join([_HEAD, *(line for option in json.loads(done.stdout) for line in _section(option))]) + "\n"


def _section(option: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {option['path']}"
    yield ""
    yield " ".join(option["description"].split())
    yield ""
    yield f"- type: {option['type']}"
    if "default" in option:
        yield f"- default: {_value(option['default'])}"
    yield f"- example: {_value(option['example'])}"
    yield ""


def _value(value: Mapping[str, Any]) -> str:
    text = value["nix"] if "nix" in value else _nix(value["json"])
    return f"`{' '.join(text.split())}`" if "`" not in text else text


def _nix(value: Any) -> str:
    """A JSON value as Nix writes it."""
    match value:
        case None | bool() | int() | float() | str():
            return json.dumps(value, ensure_ascii=False)
        case list():
            return f"[ {' '.join(map(_nix, value))} ]" if value else "[ ]"
        case _:
            inner = " ".join(f"{name} = {_nix(one)};" for name, one in value.items())
            return f"{{ {inner} }}" if inner else "{ }"


def main() -> None:
    """Write the page, where there is a Nix to evaluate with."""
    if shutil.which("nix") is None:
        return
    with evaluation(Path(tempfile.mkdtemp(prefix="carrel-options-"))) as nix:
        PAGE.write_text(page(nix), encoding="utf-8")


if __name__ == "__main__":
    main()
