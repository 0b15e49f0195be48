"""The committed page of the module's options is the module's."""

from tests.nixos.evaluated import Nix
from tests.nixos.options_page import PAGE, page


def test_the_committed_page_is_what_the_module_says(nix: Nix) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(nix), "run `make docs`"
