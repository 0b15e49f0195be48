"""The arguments of bubblewrap: nothing that a job says becomes an option."""

from dataclasses import replace

from carrel.sandbox import bwrap
from tests.fakes.sandboxed import USR, shell

FILES = bwrap.Files(filters=2)


def test_the_command_is_not_among_the_options() -> None:
    options = bwrap.arguments(shell("--bind / /host"), FILES)
    assert "--bind / /host" not in options
    assert "--" not in options


def test_every_namespace_is_new_and_every_capability_dropped() -> None:
    options = bwrap.arguments(shell("true"), FILES)
    for wanted in (
        "--unshare-all", "--unshare-user", "--disable-userns", "--assert-userns-disabled", "--new-session",
        "--die-with-parent", "--clearenv",
    ):  # fmt: skip
        assert wanted in options
    assert options[options.index("--cap-drop") + 1] == "ALL"


def test_each_descriptor_is_named_once() -> None:
    options = bwrap.arguments(shell("true"), FILES)
    named = [options[at + 1] for at, text in enumerate(options) if text in ("--add-seccomp-fd", "--file", "--bind-fd")]
    assert len(named) == len(set(named)) == 2 + len(bwrap.ETC) + 1


def test_a_job_cannot_change_where_programs_are_found() -> None:
    job = replace(shell("true"), env={"PATH": "/workspace/bin", "LD_PRELOAD": "/workspace/x.so", "TOOL": "1"})
    made = bwrap.environment(job)
    assert (made["PATH"], made["TOOL"]) == (USR.search_path, "1")
    assert "LD_PRELOAD" not in made


def test_a_userlands_own_variables_are_kept() -> None:
    job = replace(shell("true"), userland=replace(USR, env=(("SSL_CERT_FILE", "/certs"),)))
    assert bwrap.environment(job)["SSL_CERT_FILE"] == "/certs"


def test_limits_become_the_kernels() -> None:
    made = bwrap.rlimits(
        shell("true", memory_bytes=1 << 20, cpu_seconds=3, pids=5, open_files=16, file_size_bytes=2**21)
    )
    assert made["DATA"] == (1 << 20, 1 << 20)
    assert made["CPU"] == (3, 4)
    assert (made["NPROC"], made["NOFILE"], made["FSIZE"]) == ((5, 5), (16, 16), (2**21, 2**21))
    assert made["CORE"] == (0, 0)


def test_a_userlands_mounts_are_read_only() -> None:
    options = bwrap.arguments(shell("true"), FILES)
    at = options.index("/usr")
    assert options[at - 1 : at + 2] == ["--ro-bind", "/usr", "/usr"]
    assert "--bind" not in options
