"""What large files ask of a store, with patience."""

import pytest

from carrel.objects.location import parse_location
from carrel.objects.pace import Cancelled, Pace
from carrel.objects.protocol import StoreUnavailable
from carrel.objects.retry import Patience
from carrel.objects.s3 import S3Store
from carrel.objects.s3_line import S3Line
from tests.fakes.s3_servers import BUCKET, FaultyProxy, options, status


def test_a_look_is_tried_again_until_it_is_stopped(seaweed_url: str) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        store = S3Store(parse_location(f"s3://{BUCKET}/line"), options(proxy.url))
        line = S3Line(store, pace=Pace(), patience=Patience(attempts=3, first=0.0, most=0.0))
        proxy.before += status(503, method="HEAD", times=2)
        assert line.look("a") is None
        tag = store.put("a", b"12345")
        assert line.look("a") == (5, tag)
        proxy.before += status(503, method="HEAD", times=3)
        with pytest.raises(StoreUnavailable):
            line.look("a")
        line.pace.stop()
        with pytest.raises(Cancelled):
            line.look("a")
        store.close()
