"""A mode is chosen by what is declared, and none that is not declared is ever run by something else."""

import errno

import pytest

from carrel.declare.modes import CALLS
from carrel.declare.tenant import SandboxConfig, SandboxMode, SeccompProfile
from carrel.errors import SandboxUnavailable
from carrel.sandbox import modes
from carrel.sandbox.protocol import KILLED, Confinement

STRICT = SandboxMode(runtime="oci", runtime_class="runsc", memory_bytes=1 << 28, deny_calls=("socket",))
CONFIG = SandboxConfig(modes={"untrusted_code": STRICT, "calm": SandboxMode(wall_seconds=900.0)})


def test_a_tools_name_goes_before_its_annotation_and_that_before_the_default() -> None:
    assert modes.mode_of(CONFIG, "shell", modes.UNTRUSTED_CODE) == "untrusted_code"
    assert modes.mode_of(CONFIG, "file_search", None) == "bwrap"
    named = CONFIG.model_copy(update={"tool_modes": {"shell": "calm"}, "default_mode": "untrusted_code"})
    assert modes.mode_of(named, "shell", modes.UNTRUSTED_CODE) == "calm"
    assert modes.mode_of(named, "file_search", None) == "untrusted_code"
    assert modes.mode_of(SandboxConfig(), "shell", modes.UNTRUSTED_CODE) == "bwrap"


def test_a_modes_limits_are_over_the_tenants() -> None:
    limits = modes.limits_in(CONFIG, "untrusted_code")
    assert (limits.memory_bytes, limits.pids, limits.wall_seconds) == (1 << 28, CONFIG.pids, CONFIG.wall_seconds)
    assert modes.limits_in(CONFIG, "bwrap") == modes.limits_in(CONFIG, "") == CONFIG
    by_default = CONFIG.model_copy(update={"default_mode": "calm"})
    assert modes.limits_in(by_default, "").wall_seconds == modes.longest(CONFIG) == 900.0


def test_what_a_mode_is_run_by() -> None:
    assert modes.confinement_in(CONFIG, "untrusted_code") == Confinement("oci", "runsc", ("socket",))
    calm = modes.confinement_in(CONFIG, "calm")
    assert (calm.runtime, calm.mode, modes.confinement_in(CONFIG, "").mode) == ("bwrap", "calm", "bwrap")
    assert modes.confinement_in(CONFIG, "") == Confinement()
    with pytest.raises(SandboxUnavailable, match="nothing is run"):
        modes.confinement_in(CONFIG, "gone")


def test_the_runtimes_that_are_to_be_tried() -> None:
    podman = SandboxMode(runtime="oci", engine="podman")
    others = SandboxConfig(modes={"a": podman, "b": podman, "c": SandboxMode(engine="podman")})
    found = modes.containers([CONFIG, SandboxConfig(), others])
    assert found == (Confinement("oci", "crun", engine="podman"), Confinement("oci", "runsc"))
    assert [way.runner for way in found] == ["podman with crun", "runsc"]
    assert modes.confinement_in(others, "a").engine == "podman"
    assert modes.confinement_in(others, "c").engine is None


def test_docker_runs_nothing_even_where_it_was_declared() -> None:
    config = SandboxConfig(modes={"a": SandboxMode(runtime="oci", engine="docker")})
    assert modes.containers([config]) == ()
    with pytest.raises(SandboxUnavailable, match="`podman`"):
        modes.confinement_in(config, "a")


def test_a_profile_is_what_it_refuses_of_what_the_sandbox_has() -> None:
    profiles = {
        "no_links": SeccompProfile(deny_calls=("symlink", "mount"), answer="kill"),
        "few": SeccompProfile(
            allow_calls=("execve", "exit_group", "mount"), deny_calls=("exit_group",), answer="absent"
        ),
    }
    named = {"a": SandboxMode(seccomp="no_links", deny_calls=("link",)), "b": SandboxMode(seccomp="few")}
    config = SandboxConfig(modes={**named, "c": SandboxMode(seccomp="none")}, profiles=profiles)
    assert modes.confinement_in(config, "a").refusals == {"link": errno.EPERM, "symlink": KILLED}
    few = modes.confinement_in(config, "b").refusals
    assert set(few) == CALLS - {"execve"}, "what it would allow beyond them is not even spoken of"
    assert set(few.values()) == {errno.ENOSYS}
    with pytest.raises(SandboxUnavailable, match="No seccomp profile 'none'"):
        modes.confinement_in(config, "c")
