"""A tenant's archive goes to a bucket and comes from one, by a real gateway; killed and stopped on its way too."""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.fakes.backups import tree
from tests.fakes.gateway_process import CARREL, GatewayProcess
from tests.fakes.patience import PATIENCE
from tests.fakes.s3_servers import ACCESS, BUCKET, SECRET, FaultyProxy, rclone, seaweed
from tests.system.conftest import StartGateway

ENV = {"CARREL_SECRET_BACKUP_ACCESS": ACCESS, "CARREL_SECRET_BACKUP_SECRET": SECRET}
MIB = 1 << 20


class Bucket:
    """A server's bucket as its owner sees it."""

    def __init__(self, url: str) -> None:
        self._s3 = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET, region_name="us-east-1"
        )

    def uploads(self) -> list[str]:
        try:
            found = self._s3.list_multipart_uploads(Bucket=BUCKET)
        except self._s3.exceptions.NoSuchUpload:
            return []
        return [one["Key"] for one in found.get("Uploads", ())]

    def archives(self) -> dict[str, int]:
        found = self._s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())
        return {one["Key"]: one["Size"] for one in found if one["Key"].endswith(".gz")}

    def close(self) -> None:
        self._s3.close()


@pytest.fixture(params=["seaweed", "rclone"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with (seaweed if request.param == "seaweed" else rclone)(tmp_path / "s3") as at:
        yield at


@pytest.fixture
def bucket(url: str) -> Iterator[Bucket]:
    made = Bucket(url)
    yield made
    made.close()


def started(new_gateway: StartGateway, url: str, more: str = "") -> GatewayProcess:
    gateway = new_gateway(env=ENV)
    declare(gateway, url, more)
    return gateway.start()


def declare(gateway: GatewayProcess, url: str, more: str = "") -> None:
    operator = gateway.tenants_dir / "_gateway.yaml"
    text = operator.read_text().partition("\nbackup:")[0]
    operator.write_text(
        f"{text}\nbackup:\n  to: s3://{BUCKET}/carrel\n  endpoint: {url}\n  access_key: {{secret: BACKUP_ACCESS}}\n"
        f"  secret_key: {{secret: BACKUP_SECRET}}\n  conditional_writes: false\n  {more}\n"
    )


def filled(gateway: GatewayProcess, size: int, *, packs: bool) -> Path:
    """A file of the demo tenant's workspace, of which ``packs`` says whether nearly all is holes."""
    place = gateway.state_dir / "tenants/demo/sandbox"
    owner = place.parent.stat()
    place.mkdir(exist_ok=True)
    file = place / "large.bin"
    with file.open("wb") as out:
        out.write(random.Random(1).randbytes(20 * MIB if packs else size))  # noqa: S311 - bytes that do not pack
        out.truncate(size)
    for path in (place, file):
        os.chown(path, owner.st_uid, owner.st_gid)
    return file


def told(gateway: GatewayProcess, *words: str) -> Any:
    done = gateway.cli(*words, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def going(gateway: GatewayProcess, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(CARREL), *words, "--state-dir", str(gateway.state_dir)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=gateway.home,
    )  # fmt: skip


def until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def work_of(gateway: GatewayProcess, tenant: str) -> dict[str, tuple[str, int, str]]:
    return tree(gateway.state_dir / f"tenants/{tenant}/sandbox")


def test_to_a_bucket_and_from_it_byte_by_byte(
    new_gateway: StartGateway, url: str, bucket: Bucket, request: pytest.FixtureRequest
) -> None:  # fmt: skip
    gateway = started(new_gateway, url)
    assert gateway.cli("chat", "demo", "hello there", "--session", "s_one").returncode == 0
    size = (200 if "rclone" in request.node.name else 40) * MIB
    filled(gateway, size, packs=True)
    place = f"s3://{BUCKET}/carrel/demo/one.tar.gz"
    sent = told(gateway, "tenants", "export", "demo", "--to", place)
    assert (sent["content"] > size, sent["bytes"] > 20 * MIB) == (True, True), "it went up in parts"
    assert bucket.archives() == {"carrel/demo/one.tar.gz": sent["bytes"]}
    looked = told(gateway, "tenants", "import", place, "--as", "moved", "--dry-run")
    assert "moved" not in gateway.cli("tenants", "list").stdout
    taken = told(gateway, "tenants", "import", place, "--as", "moved")
    assert (looked["files"], taken["files"], taken["sessions"]) == (sent["files"], sent["files"], 1)
    assert work_of(gateway, "moved") == work_of(gateway, "demo")
    assert told(gateway, "tenants", "import", place, "--as", "moved")["unchanged"]
    taken_already = gateway.cli("tenants", "export", "demo", "--to", place)
    assert (taken_already.returncode, "--replace" in taken_already.stderr) == (1, True)
    lines = map(json.loads, gateway.cli("audit", "search", "--action", "tenants.*", "--json").stdout.splitlines())
    found = [(line["action"], line["tenant"], line["target"], line["outcome"]) for line in lines]
    assert ("tenants.export", "demo", place, "ok") in found
    assert ("tenants.import", "moved", place, "ok") in found
    assert ("tenants.export", "demo", place, "failed: object_changed") in found
    assert gateway.stop() == 0, gateway.text
    assert SECRET not in gateway.text


def test_one_that_the_gateway_dies_in_is_ended_by_the_next(
    new_gateway: StartGateway, url: str, bucket: Bucket
) -> None:  # fmt: skip
    gateway = started(new_gateway, url, f"bytes_per_second: {4 * MIB}")
    filled(gateway, 40 * MIB, packs=False)
    words = ("tenants", "export", "demo", "--to", f"s3://{BUCKET}/carrel/demo/one.tar.gz")
    asked = going(gateway, *words)
    until(bucket.uploads)
    gateway.kill()
    assert asked.wait(PATIENCE) == 1, asked.communicate()
    asked.communicate()
    assert (bucket.archives(), len(bucket.uploads())) == ({}, 1)
    declare(gateway, url)
    gateway.start()
    assert list((gateway.state_dir / "run/backup").glob("*")) == []
    sent = told(gateway, *words)
    assert (bucket.archives(), bucket.uploads()) == ({"carrel/demo/one.tar.gz": sent["bytes"]}, [])
    told(gateway, "tenants", "import", words[-1], "--as", "moved")
    assert work_of(gateway, "moved") == work_of(gateway, "demo")
    assert gateway.stop() == 0, gateway.text


@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_one_that_is_stopped_leaves_nothing(new_gateway: StartGateway, tmp_path: Path, how: str) -> None:
    with seaweed(tmp_path / "s3") as url, FaultyProxy(url) as proxy:
        gateway = started(new_gateway, proxy.url, f"bytes_per_second: {2 * MIB}")
        filled(gateway, 40 * MIB, packs=False)
        asked = going(gateway, "tenants", "export", "demo", "--to", f"s3://{BUCKET}/carrel/demo/one.tar.gz")
        bucket = Bucket(url)
        until(bucket.uploads)
        if how == "stop":
            assert gateway.stop() == 0, gateway.text
        else:
            asked.send_signal(2)
        assert asked.wait(PATIENCE) != 0
        asked.communicate()
        until(lambda: not bucket.uploads())
        assert bucket.archives() == {}
        bucket.close()
