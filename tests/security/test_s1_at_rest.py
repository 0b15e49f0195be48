"""Security 1.1 and 1.6: where a token's secret is once it was told: nowhere. By a whole gateway and the real store."""

import hashlib
import hmac
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.tenancy.tokens import TokenStore
from tests.fakes.clock import FakeClock
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.tenants import make_tenant

NOW = datetime(2026, 3, 31, tzinfo=UTC)


def files(place: Path) -> Iterator[tuple[Path, bytes]]:
    """Every plain file beneath ``place``, git's objects among them as they are."""
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes()


def git(place: Path, *words: str) -> str:
    author = ("-c", "user.name=ops", "-c", "user.email=ops@example.org", "-c", "safe.directory=*")
    return subprocess.run(("git", *author, *words), cwd=place, check=True, capture_output=True, text=True).stdout


def arguments() -> Iterator[bytes]:
    """The command line and the environment of every process that may be looked at."""
    for process in Path("/proc").iterdir():
        for name in ("cmdline", "environ") if process.name.isdigit() else ():
            try:
                yield (process / name).read_bytes()
            except OSError:
                continue


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(home=tmp_path_factory.mktemp("rest") / "home").prepare()
    git(running.tenants_dir, "init", "-q")
    git(running.tenants_dir, "add", ".")
    git(running.tenants_dir, "commit", "-qm", "as it was")
    running.start()
    yield running
    assert running.stop() == 0, running.text


def test_S1_06_a_secret_that_was_told_is_in_no_file_no_commit_no_argument_and_no_log(gateway: GatewayProcess) -> None:
    tokens = [
        gateway.token,
        gateway.cli("tenants", "create", "widgets").stdout.strip(),
        gateway.cli("tenants", "token", "rotate", "widgets").stdout.strip(),
    ]
    assert [gateway.request("GET", "/v1/models", token=token).status for token in tokens] == [200, 401, 200]
    assert "Add the tenant widgets" in (commits := git(gateway.tenants_dir, "log", "-p", "--all"))
    told = gateway.text.replace(gateway.token, "", 1)
    everywhere = [*files(gateway.home), *((Path("/proc"), line) for line in arguments())]
    for token in tokens:
        secret = token.rpartition("_")[2]
        assert len(secret) == 32
        assert secret not in commits
        assert secret not in told
        assert [path for path, content in everywhere if secret.encode() in content] == []


def test_S1_01_what_is_at_rest_is_the_digest(gateway: GatewayProcess) -> None:
    digest = hashlib.sha256(gateway.token.encode()).hexdigest().encode()
    holders = [path for path, content in files(gateway.state_dir / "tenants") if digest in content]
    assert [path.parts[-3:-1] for path in holders] == [("demo", "credentials")]
    assert (holders[0].stat().st_mode & 0o077) == 0
    served = gateway.request("GET", "/v1/models", token=gateway.token).status
    assert served == 200, "the permitted twin: it is known by its digest alone"


def test_S1_01_a_secret_is_128_bits_none_of_them_fixed(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    store = TokenStore(state_dir=tmp_path, clock=FakeClock(NOW))
    drawn = [int(store.rotate(tenant)[0].removeprefix("tk_acme_"), 16) for _ in range(100)]
    seen_set, seen_clear = 0, 0
    for secret in drawn:
        seen_set |= secret
        seen_clear |= ~secret
    assert seen_set == seen_clear & (1 << 128) - 1 == (1 << 128) - 1


def test_S1_01_a_miss_costs_what_a_hit_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = make_tenant(tmp_path)
    store = TokenStore(state_dir=tmp_path, clock=FakeClock(NOW))
    good, _ = store.issue(tenant, name="good")
    late, _ = store.issue(tenant, name="late", expires=NOW + timedelta(seconds=1))
    compared: list[tuple[int, int]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    asked = [good, late, "tk_acme_" + "0" * 32, "tk_nobody_" + "0" * 32, "", "x" * 4096]
    found = [store.verify(text, NOW + timedelta(seconds=2)) is not None for text in asked]
    assert found == [True] + [False] * 5
    assert compared == [(64, 64)] * len(asked), "one whole digest against one whole digest, whoever asks"
