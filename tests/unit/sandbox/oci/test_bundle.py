"""What a runtime is handed: the declared limits, nothing that is not there under bubblewrap, and no way to say more."""

import json
from dataclasses import replace
from pathlib import Path

from carrel.sandbox.bwrap import ETC, Files, environment, rlimits
from carrel.sandbox.oci import bundle
from carrel.sandbox.oci.runtimes import Runtime
from carrel.sandbox.protocol import Job
from tests.fakes.sandboxed import shell

CRUN = Runtime("crun", "/usr/bin/crun", 1000, "crun")
RUNC = Runtime("runc", "/usr/sbin/runc", 0, "runc")


def config(job: Job, runtime: Runtime = CRUN) -> dict[str, object]:
    return bundle.config(job, runtime, uid=60987)


def test_no_capability_no_privilege_no_network_of_the_hosts() -> None:
    made = json.loads(json.dumps(config(shell("true"))))
    process, linux = made["process"], made["linux"]
    assert process["noNewPrivileges"] is True
    assert all(granted == [] for granted in process["capabilities"].values())
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 1000, "hostID": 60987, "size": 1}]
    assert {kind["type"] for kind in linux["namespaces"]} == {"user", "pid", "ipc", "uts", "mount"}
    assert "/proc/sys" in linux["readonlyPaths"]
    assert {mount["type"] for mount in made["mounts"]} == {"proc", "tmpfs", "devpts"}, "nothing of the host's"
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


def test_the_command_is_an_argument_and_never_a_part_of_the_script() -> None:
    hostile = "'; mount / #\n$(id)"
    args = bundle.config(shell(hostile), CRUN, uid=1)["process"]["args"]
    plain = bundle.config(shell("true"), CRUN, uid=1)["process"]["args"]
    assert args[:-1] == plain[:-1]
    assert args[-1] == hostile


def test_limits_and_environment_are_bubblewraps() -> None:
    job = replace(shell("true", memory_bytes=77 << 20, tmp_bytes=123), env={"A": "1", "PATH": "/workspace"})
    order = bundle.order(job, Files(filters=2), CRUN, uid=60987)
    assert order["rlimits"] == rlimits(job)
    assert order["config"]["process"]["env"] == [f"{name}={value}" for name, value in environment(job).items()]
    assert [m["options"][-1] for m in order["config"]["mounts"] if m["destination"] == "/tmp"] == ["size=123"]


def test_etc_is_bubblewraps_with_the_name_of_whoever_one_is() -> None:
    assert bundle.etc(CRUN) == {name: content.decode() for name, content in ETC}
    assert bundle.etc(RUNC)["passwd"].startswith("agent:x:0:0:agent:/workspace:/bin/sh\n")
    assert bundle.order(shell("true"), Files(filters=2), CRUN, uid=1)["skip"] == Files(filters=2).job_fd(0)


def test_mounts_are_the_userlands_alone() -> None:
    order = bundle.order(shell("true"), Files(filters=2), CRUN, uid=1)
    assert order["mounts"] == [["/usr", "/usr"]]
    assert not [text for text in json.dumps(order).split('"') if text.startswith(str(Path.home()))]
