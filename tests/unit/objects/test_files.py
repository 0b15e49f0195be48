"""Names of large files."""

import pytest

from carrel.errors import InvalidRequest
from carrel.objects.files import require_name, there_is
from carrel.objects.protocol import ObjectChanged


def test_a_name_is_one_part_of_a_key() -> None:
    for name in ("acme.tar.gz", "a", "_x-1.tar.gz", "x" * 255):
        assert require_name(name) == name
    for name in ("", ".hidden", "a/b", "../x", "a b", "x" * 256, "é", "-x", "a\n"):
        with pytest.raises(InvalidRequest):
            require_name(name)


def test_what_is_said_where_one_is_taken() -> None:
    assert isinstance(there_is("acme.tar.gz"), ObjectChanged)
    assert "acme.tar.gz" in there_is("acme.tar.gz").message
