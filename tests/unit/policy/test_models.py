from dataclasses import replace
from pathlib import Path

import pytest

from carrel.declare.allowlists import Allowlists
from carrel.declare.gateway import ModelConfig
from carrel.errors import ModelNotAllowed, ModelNotFound
from carrel.policy.models import allowed, allowed_models, matches
from tests.fakes.tenants import make_snapshot, make_tenant

NAMES = ("gpt-4o", "gpt-4o-mini", "claude-x", "demo")


@pytest.mark.parametrize(
    ("listed", "own", "expected"),
    [
        (("*",), None, NAMES),
        (("*",), (), ()),
        (("gpt-*",), None, ("gpt-4o", "gpt-4o-mini")),
        (("gpt-*",), ("claude-*", "gpt-4o"), ("gpt-4o",)),
        ((), ("*",), ()),
        (("gpt-4o",), ("*",), ("gpt-4o",)),
    ],
)
def test_only_what_every_list_gives(
    tmp_path: Path, listed: tuple[str, ...], own: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    tenant = make_tenant(tmp_path, models=own)
    models = {name: ModelConfig(provider="demo") for name in NAMES}
    snapshot = replace(make_snapshot(tenant, models=models), allowlists=Allowlists(models=listed))
    assert allowed_models(snapshot, tenant) == expected
    for name in NAMES:
        if name in expected:
            allowed(snapshot, tenant, name)
        else:
            with pytest.raises(ModelNotAllowed):
                allowed(snapshot, tenant, name)
    with pytest.raises(ModelNotFound):
        allowed(snapshot, tenant, "gpt-5")
    tenant.root.close()


def test_patterns() -> None:
    assert matches(["a*"], "abc")
    assert matches(["abc"], "abc")
    assert not matches(["ab"], "abc")
    assert not matches(["*c"], "abc")
    assert not matches([], "abc")


def test_what_was_allowed_is_judged_anew_for_another_revision_and_another_declaration(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    snapshot = replace(
        make_snapshot(tenant, models={"gpt-4o": ModelConfig(provider="demo")}), allowlists=Allowlists(models=("*",))
    )
    for _ in range(2):
        allowed(snapshot, tenant, "gpt-4o")
    stricter = replace(snapshot, allowlists=Allowlists(models=()))
    own = replace(tenant, config=tenant.config.model_copy(update={"models": ()}))
    for revision, one in ((stricter, tenant), (snapshot, own)):
        with pytest.raises(ModelNotAllowed):
            allowed(revision, one, "gpt-4o")
    allowed(snapshot, tenant, "gpt-4o")
    with pytest.raises(ModelNotFound):
        allowed(make_snapshot(tenant), tenant, "gpt-4o")
    tenant.root.close()
