"""Two S3 servers that are not ours, for whoever asks."""

from collections.abc import Iterator

import pytest

from tests.fakes.s3_servers import rclone, seaweed


@pytest.fixture(scope="module")
def seaweed_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as url:
        yield url


@pytest.fixture(scope="module")
def rclone_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rclone(tmp_path_factory.mktemp("rclone")) as url:
        yield url


@pytest.fixture(params=["seaweed", "rclone"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found
