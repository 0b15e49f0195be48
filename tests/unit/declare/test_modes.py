"""Modes that agree with each other, and where it is said that they do not."""

from pathlib import Path
from typing import Any

import pytest

from carrel.declare.judge import judge
from carrel.declare.load import check
from carrel.declare.modes import call_findings, mode_findings
from carrel.declare.operators import Operators
from carrel.declare.tenant import SandboxConfig, SandboxMode

MODES = {"untrusted_code": SandboxMode(runtime="oci", deny_calls=("socket",))}


def test_what_agrees_is_found_right() -> None:
    config = SandboxConfig(modes=MODES, default_mode="untrusted_code", tool_modes={"shell": "bwrap"})
    assert [*call_findings(("sandbox",), config), *mode_findings(("sandbox",), config)] == []


@pytest.mark.parametrize(
    ("config", "path", "near"),
    [
        ({"default_mode": "untrusted_cod"}, ("sandbox", "default_mode"), "untrusted_code"),
        ({"tool_modes": {"shell": "bwarp"}}, ("sandbox", "tool_modes", "shell"), "bwrap"),
        ({"modes": {"x": {"deny_calls": ("sokcet",)}}}, ("sandbox", "modes", "x", "deny_calls", 0), "socket"),
        ({"modes": {"x": {"deny_calls": ("mount",)}}}, ("sandbox", "modes", "x", "deny_calls", 0), None),
        ({"modes": {"x": {"runtime": "oci", "engine": "docker"}}}, ("sandbox", "modes", "x", "engine"), None),
        ({"modes": {"x": {"engine": "podman"}}}, ("sandbox", "modes", "x", "engine"), None),
        ({"profiles": {"p": {"deny_calls": ("sokcet",)}}}, ("sandbox", "profiles", "p", "deny_calls", 0), "socket"),
        ({"profiles": {"p": {"deny_calls": ("execve",)}}}, ("sandbox", "profiles", "p"), None),
        ({"profiles": {"p": {"allow_calls": ("execve",)}}}, ("sandbox", "profiles", "p"), None),
        (
            {"profiles": {"p": {"allow_calls": ("execve", "exit_group", "mount")}}},
            ("sandbox", "profiles", "p", "allow_calls", 2),
            None,
        ),
        (
            {"profiles": {"calm": {}}, "modes": {"x": {"seccomp": "clam"}}},
            ("sandbox", "modes", "x", "seccomp"),
            "calm",
        ),
        ({"modes": {"bwrap": {"runtime": "oci"}}}, ("sandbox", "modes", "bwrap"), None),
    ],
)
def test_what_does_not_is_named_with_the_nearest(
    config: dict[str, Any], path: tuple[Any, ...], near: str | None
) -> None:
    declared = SandboxConfig(**{"modes": MODES, **config})
    (found,) = [*call_findings(("sandbox",), declared), *mode_findings(("sandbox",), declared)]
    assert found.path == path
    assert near is None or found.nearest == near


def test_the_place_is_named_wherever_it_is_declared(tmp_path: Path) -> None:
    (tmp_path / "_gateway.yaml").write_text("defaults:\n  sandbox:\n    default_mode: strict\n")
    (tmp_path / "_plans.yaml").write_text(
        "plans:\n  pro:\n    sandbox:\n      modes:\n        strict:\n          deny_calls: [sokcet]\n"
    )
    (tmp_path / "acme.yaml").write_text("sandbox:\n  modes:\n    strict:\n      runtime: docker\n")
    told = [str(problem) for problem in check(tmp_path)]
    assert any("_gateway.yaml:3:" in line and "strict" in line for line in told), told
    assert any("_plans.yaml:6:" in line and "socket" in line for line in told), told
    assert any("acme.yaml:4:" in line and "oci" in line for line in told), told


def test_a_tenant_cannot_write_it_itself() -> None:
    verdict = judge(Operators(), {}, {"sandbox": {"default_mode": "bwrap"}})
    assert [finding.path for finding in verdict.overlay] == [("sandbox",)]
    assert "only the operator" in verdict.overlay[0].message
