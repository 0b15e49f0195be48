import os
from pathlib import Path

import pytest

from carrel.cli.gateway_options import GatewayOptions


@pytest.mark.parametrize("secrets_dir", [None, Path("/k")])
@pytest.mark.parametrize("name", ["plain", 'with space: ünd "quotes"', os.fsdecode(b"not-\xff-text")])
def test_options_are_the_same_on_the_other_side(secrets_dir: Path | None, name: str) -> None:
    options = GatewayOptions("::1", 9, Path("/t") / name, Path("/s"), secrets_dir, "debug", True, False)
    text = options.text()
    assert text.isascii()
    assert GatewayOptions.from_text(text) == options
