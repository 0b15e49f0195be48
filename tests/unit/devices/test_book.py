"""Names of devices' tokens."""

import pytest

from carrel.devices.book import device_of, token_name


def test_a_token_is_of_its_device() -> None:
    assert device_of(token_name("dev_ab")) == "dev_ab"


@pytest.mark.parametrize("name", [None, "default", "dev_ab"])
def test_another_token_is_of_none(name: str | None) -> None:
    assert device_of(name) is None
