"""What a gateway rests on fails, and comes back: the bucket of its backups, and Nix.

What is asserted here is the table in docs/explanation/faults.md.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.fakes.s3_servers import ACCESS, BUCKET, SECRET, rclone
from tests.fakes.sandboxed import reachable
from tests.system.conftest import StartGateway
from tests.system.test_closure import ask, one_package


def test_a_bucket_that_vanishes(new_gateway: StartGateway, tmp_path: Path) -> None:
    bucket, gateway = (
        contextlib.ExitStack(),
        new_gateway(env={"CARREL_SECRET_S3_ID": ACCESS, "CARREL_SECRET_S3": SECRET}),
    )
    with bucket:
        url = bucket.enter_context(rclone(tmp_path / "bucket"))
        operator = gateway.tenants_dir / "_gateway.yaml"
        operator.write_text(
            f"{operator.read_text()}\nbackup:\n  to: s3://{BUCKET}/all\n  endpoint: {url}\n"
            "  access_key: {secret: S3_ID}\n  secret_key: {secret: S3}\n  conditional_writes: false\n"
        )
        gateway.start()
        assert gateway.rpc("sessions.send", {"message": "hello"})["text"]
        done = gateway.cli("tenants", "backup", "demo")
        assert done.returncode == 0, done.stderr
        bucket.close()
        assert gateway.rpc("sessions.send", {"message": "hello again"})["text"], "nobody else is held up"
        refused = gateway.cli("tenants", "backup", "demo")
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        told = refused.stderr
        bucket.enter_context(rclone(tmp_path / "bucket", port=int(url.rpartition(":")[2])))
        assert gateway.cli("tenants", "backup", "demo").returncode == 0, told
        checked = gateway.cli("backup", "verify", "demo")
        assert checked.returncode == 0, checked.stderr
        assert gateway.stop() == 0
    assert "did not answer, or broke off" in told


@pytest.fixture
def fails() -> Iterator[Path]:
    """A directory for PATH whose `nix` fails for as long as the file `broken` is there."""
    with reachable() as directory:
        (directory / "broken").touch()
        for name in ("nix", "nix-build", "nix-store"):
            real = shutil.which(name)
            if real is None:
                continue
            program = directory / name
            program.write_text(
                f"#!/bin/sh\nif [ -e {directory}/broken ]; then echo 'error: the store is on fire' >&2; exit 1; fi\n"
                f'exec {real} "$@"\n'
            )
            program.chmod(0o755)
        yield directory


def test_nix_that_fails(new_gateway: StartGateway, fails: Path) -> None:
    gateway: GatewayProcess = new_gateway(closure=True, env={"PATH": f"{fails}:{os.environ['PATH']}"})
    one_package(gateway)
    operator = gateway.tenants_dir / "_gateway.yaml"
    operator.write_text(operator.read_text() + "require_closure: true\n")
    gateway.start()
    assert gateway.rpc("sessions.send", {"message": "hello"})["text"], "what needs no tool goes on"
    told = ask(gateway, "jq --version")
    assert "the store is on fire" in told, told
    assert "Traceback" not in gateway.text
    (fails / "broken").unlink()
    assert gateway.cli("reconcile").returncode == 0
    assert until(lambda: "jq-" in ask(gateway, "jq --version"), pause=2.0), ask(gateway, "jq --version")
    assert gateway.stop() == 0, sys.executable
