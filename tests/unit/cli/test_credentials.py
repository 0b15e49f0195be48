"""Keys and tokens that the doctor warns of, and secrets that others may read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.cli import credentials
from carrel.declare.load import load_tree
from carrel.tenancy.tokens import TokenStore
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DIGEST = "0" * 63
DEMO = "providers: {demo: {kind: demo}}\nmodels: {demo: {provider: demo}}\ndefault_model: demo\n"


def test_admin_keys_that_ended_or_will_soon(tmp_path: Path) -> None:
    ends = ("2026-02-01", "2026-03-05", "2026-09-01", None)
    keys = [
        f"  - {{name: k{n}, sha256: {DIGEST}{n}{f', expires: {end}T00:00:00Z' if end else ''}}}\n"
        for n, end in enumerate(ends)
    ]
    (tmp_path / "_gateway.yaml").write_text("admin_keys:\n" + "".join(keys))
    found = list(credentials.admin_keys(load_tree(tmp_path), NOW))
    assert [one.what for one in found] == ["admin key k0", "admin key k1", "admin key k3"]
    assert {one.state for one in found} == {"warning"}
    assert found[2].text == "It never ends."
    assert "ended at 2026-02-01" in found[0].text
    assert "in 4 days" in found[1].text
    assert "carrel admin-key k1-2 --expires 365d" in found[1].mend


def test_declared_tokens_without_an_end_and_near_it(tmp_path: Path) -> None:
    (tmp_path / "_gateway.yaml").write_text(DEMO)
    (tmp_path / "_rate-card.yaml").write_text("models: {demo: {input: 1, output: 2}}\n")
    (tmp_path / "acme.yaml").write_text(
        f"tokens:\n  - {{name: forever, sha256: {DIGEST}1}}\n"
        f"  - {{name: soon, sha256: {DIGEST}2, expires: 2026-03-02T00:00:00Z}}\n"
        f"  - {{name: fine, sha256: {DIGEST}3, expires: 2027-03-02T00:00:00Z}}\n"
    )
    endless, over = credentials.declared_tokens(load_tree(tmp_path), NOW)
    assert (endless.state, endless.text) == ("warning", "acme/forever: declared without an end.")
    assert "acme/soon" in over.text


def test_issued_tokens_without_an_end_and_near_it(tmp_path: Path) -> None:
    assert list(credentials.issued_tokens(tmp_path, NOW)) == []
    acme, bravo = make_tenant(tmp_path), make_tenant(tmp_path, "bravo")
    tokens = TokenStore(state_dir=tmp_path, clock=FakeClock(NOW))
    tokens.issue(acme)
    tokens.issue(acme, name="device-0011", scopes=("node",))
    tokens.issue(acme, name="fine", expires=NOW + timedelta(days=90))
    tokens.issue(bravo, name="soon", expires=NOW + timedelta(days=2))
    endless, over = credentials.issued_tokens(tmp_path, NOW)
    assert (endless.state, endless.text) == ("warning", "acme/default: issued without an end.")
    assert (over.state, over.text.partition(":")[0]) == ("warning", "bravo/soon")
    (tmp_path / "tenants" / "bravo" / "credentials" / "tokens.json").write_text('{"tokens": [{"name": 7}]}')
    damaged, _ = credentials.issued_tokens(tmp_path, NOW)
    assert (damaged.state, "bravo" in damaged.text) == ("fault", True)
    assert "not as they were written" in damaged.text


def test_the_doctor_says_of_tokens_what_the_gateway_would(tmp_path: Path) -> None:
    make_tenant(tmp_path).root.replace("credentials/tokens.json", b'{"version": 1, "tokens": []}' + b" " * (1 << 20))
    [told] = credentials.issued_tokens(tmp_path, NOW)
    assert (told.state, "The file is over 1048576 bytes" in told.text) == ("fault", True)
    assert TokenStore(state_dir=tmp_path, clock=FakeClock(NOW)).load() == [told.text]


def test_models_without_a_price(tmp_path: Path) -> None:
    (tmp_path / "_gateway.yaml").write_text(
        "providers: {demo: {kind: demo}}\nmodels: {a: {provider: demo}, b: {provider: demo}}\n"
    )
    (tmp_path / "_rate-card.yaml").write_text("otherwise: {input: 9, output: 9}\nmodels: {a: {input: 1, output: 2}}\n")
    tree = load_tree(tmp_path)
    assert tree.operators is not None, tree.errors
    (found,) = credentials.prices(tree)
    assert (found.state, found.text.partition(",")[0]) == ("warning", "b: without rates on the rate card")
    assert "`otherwise`" in found.text


def test_secrets_that_others_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    state, kept = tmp_path / "state", tmp_path / "secrets"
    for directory in (state, kept):
        directory.mkdir()
        directory.chmod(0o755)
    (kept / "KEY").write_text("k")
    (kept / "KEY").chmod(0o644)
    (found,) = credentials.readable(kept, state)
    assert (found.state, found.mend) == ("fault", f"chmod 0600 {kept / 'KEY'}")
    kept.chmod(0o700)
    (found,) = credentials.readable(kept, state)
    assert found.state == "ok", "nobody else comes to it"
    (state / "master.key").write_text("k")
    (state / "master.key").chmod(0o640)
    state.chmod(0o750)
    (found,) = credentials.readable(None, state)
    assert (found.state, "master.key" in found.text) == ("fault", True)
    assert [one.state for one in credentials.readable(tmp_path / "none", tmp_path)] == ["warning", "ok"]
