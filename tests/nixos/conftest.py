from collections.abc import Iterator

import pytest

from tests.nixos.evaluated import Nix, evaluation


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nix]:
    """The real Nix, evaluating against the stand-in."""
    with evaluation(tmp_path_factory.mktemp("nix")) as made:
        yield made
