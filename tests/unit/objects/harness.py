"""Large files beneath a server's bucket, and faults on their way."""

from collections.abc import Callable
from pathlib import Path

from carrel.objects.location import parse_location
from carrel.objects.pace import Pace
from carrel.objects.protocol import StoreRefused
from carrel.objects.retry import Patience
from carrel.objects.s3 import S3Options, S3Store
from carrel.objects.s3_files import S3Files
from tests.fakes.s3_servers import (
    BUCKET,
    Exchange,
    FaultyProxy,
    options,
)

NAME = "acme.tar.gz"
PART = 5 << 20
"""The least that the servers take."""
QUICK = Patience(attempts=3, first=0.0, most=0.0)


class Place:
    """A place beneath a server's bucket, and how much was told of."""

    def __init__(
        self, url: str, prefix: str, *, conditional: bool = True, pace: Pace | None = None,
        reached: S3Options | None = None,
    ) -> None:  # fmt: skip
        how = reached or options(url, conditional=conditional)
        self.proven: set[str] = set()
        self.store = S3Store(parse_location(f"s3://{BUCKET}/{prefix}"), how)
        self.pace = pace or Pace()
        self.files = S3Files(self.store, pace=self.pace, patience=QUICK, part=PART, proven=self.proven)
        self.told = 0

    def count(self, more: int) -> None:
        self.told += more

    def send(self, source: Path, name: str = NAME, *, replaces: bool = False) -> None:
        self.files.send(name, source, replaces=replaces, counts=self.count)

    def content(self, name: str = NAME) -> bytes:
        stream, size = self.files.read(name, counts=self.count)
        with stream:
            data = stream.read()
        assert len(data) == size
        return data

    def uploads(self) -> list[str]:
        try:
            with self.store.speaking("") as (s3, named):
                found = s3.list_multipart_uploads(Bucket=named["Bucket"], Prefix=named["Key"])
        except StoreRefused as error:
            assert error.details["reason"] == "NoSuchUpload"  # noqa: PT017 - so rclone says that there is none
            return []
        return [one["Key"] for one in found.get("Uploads", ())]

    def begin(self, name: str = NAME) -> str:
        with self.store.speaking(name) as (s3, named):
            upload: str = s3.create_multipart_upload(**named)["UploadId"]
        return upload


def comes_at(method: str, name: str, url: str, prefix: str) -> Callable[[Exchange], bool]:
    """Another's object is there just before a request."""

    def comes(exchange: Exchange) -> bool:
        if exchange.method != method or name not in exchange.path:
            return False
        other = S3Store(parse_location(f"s3://{BUCKET}/{prefix}"), options(url))
        other.put(NAME, b"another's")
        other.close()
        return True

    return comes


def on_part(number: int, change: Callable[[Exchange], None]) -> Callable[[Exchange], bool]:
    def fault(exchange: Exchange) -> bool:
        if exchange.method != "PUT" or f"partNumber={number}" not in exchange.path:
            return False
        change(exchange)
        return True

    return fault


def gets(proxy: FaultyProxy) -> int:
    """How often the object was asked for, or what is left of it."""
    return len([path for method, path in proxy.seen if method == "GET" and NAME in path and "uploads" not in path])
