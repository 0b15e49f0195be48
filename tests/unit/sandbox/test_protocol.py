"""What a job is run by, in words."""

from carrel.sandbox.protocol import Confinement


def test_a_runner_has_a_name_of_its_own() -> None:
    told = [Confinement(), Confinement("oci"), Confinement("oci", "runc", engine="podman")]
    assert [one.runner for one in told] == ["bwrap", "crun", "podman with runc"]
    assert Confinement(mode="a") == Confinement(mode="b"), "a mode's name makes no other runner"
