"""The module's units, run: by a real systemd as pid 1, with credentials, hardening, launcher and bubblewrap together.

NixOS itself is not at hand; its units are. They are evaluated by the real Nix and written as NixOS's library writes
them. Where a kernel of one's own cannot be had (no user-mode-linux), the tests say so and are skipped.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import appliance
from tests.nixos.evaluated import Nix

MODULE = """{ services.carrel = {
  enable = true; requireClosure = false; tenantsDir = "/var/lib/declared";
  secrets = builtins.listToAttrs (map (name: { inherit name; value.file = "/run/keys/${name}"; }) [
    "anthropic" "carrel-master-key" "s3-access" "s3-secret"
  ]);
  backup = {
    schedule = "*-*-* *:*:0/2"; randomizedDelay = "0";
    retention = { last = 1; daily = 0; weekly = 0; monthly = 0; };
    verify = true;
  };
  restore.from = "s3://backups/carrel";
}; }"""
KEYS = {
    "anthropic": "sk-not-a-key-but-kept-like-one",
    "carrel-master-key": "1 " + "MTEx" * 10 + "MTE=",
    "s3-access": "AKIAEXAMPLEKEY",
    "s3-secret": "example-secret-of-the-tests",
}
READ = """{
  inherit (host.config) systemd; settings = host.config.services.carrel.settings;
  package = host.config.services.carrel.package.outPath; file = host.config.services.carrel.hostFile.outPath;
}"""


@pytest.fixture(scope="module")
def host(nix: Nix) -> dict[str, Any]:
    """An evaluated host."""
    done = nix.host(MODULE, READ)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def units(host: dict[str, Any]) -> dict[str, str]:
    """Its units as text."""
    return appliance.units_of(host["systemd"], host["package"], host["file"])


@pytest.fixture(scope="module")
def seen(host: dict[str, Any], units: dict[str, str]) -> dict[str, Any]:
    """What was seen on a machine that ran them."""
    told = appliance.boot(units, host["settings"], Path(__file__).with_name("inside.py"), KEYS)
    assert "failed" not in told, f"{told['failed']}\n{told['log']}"
    assert told["service"]["ActiveState"] == "active", told
    return told


@pytest.mark.parametrize(
    ("service", "heading", "most"),
    [
        ("carrel", "### What the gateway is still exposed by", 1.5),
        ("carrel-restore", "### What the gateway is still exposed by", 1.5),
        ("carrel-backup", "### What the backup's unit is exposed by", 0.5),
        ("carrel-launcher@", "### What the launcher is exposed by", 2.5),
    ],
)
def test_a_unit_is_exposed_by_what_it_must_have_and_no_more(
    units: dict[str, str], service: str, heading: str, most: float
) -> None:
    overall, costs = appliance.exposure(units, f"{service}.service")
    assert overall <= most
    page = (Path(__file__).parents[2] / "docs/explanation/nixos.md").read_text()
    reasons = page.split(heading)[1].split("\n##")[0]
    assert f" {overall} " in reasons, "the figure is as it is told"
    assert [cost for cost in costs if cost.split("=")[0] not in reasons] == [], "each has its reason in the docs"


def test_no_unit_is_without_its_figure(units: dict[str, str]) -> None:
    services = {name for name in units if name.endswith(".service")}
    assert services == {f"{name}.service" for name in ("carrel", "carrel-backup", "carrel-launcher@", "carrel-restore")}


def test_it_is_ready_when_it_says_so_and_says_that_it_lives(seen: dict[str, Any]) -> None:
    assert seen["start"] == ""
    assert seen["service"]["StatusText"] == "2 tenants"
    assert int(seen["service"]["WatchdogTimestampMonotonic"]) > 0


def test_S3_01_the_gateway_has_its_secret_and_no_right_beside(seen: dict[str, Any]) -> None:
    gateway = seen["gateway"]
    assert seen["credential"] == KEYS["anthropic"]
    assert (gateway["uid"], gateway["capabilities"], gateway["no_new_privileges"]) == (
        str(appliance.UID), "0" * 16, "1",
    )  # fmt: skip
    assert gateway["credentials"] == ["carrel.service"]
    assert gateway["control"] == ["control.sock", "lock"], "what the launcher is refused is there"
    assert gateway["keys"] == [], "the file that the secret came from is not"


def test_S3_01_the_launcher_has_no_secret_no_network_and_no_way_to_the_gateway(seen: dict[str, Any]) -> None:
    launcher = seen["launcher"]
    assert (launcher["uid"], launcher["capabilities"], launcher["environment"]) == (str(appliance.UID), "0" * 16, [])
    assert launcher["credentials"] == launcher["control"] == launcher["audit"] == launcher["keys"] == []
    assert launcher["interfaces"] == ["lo"]
    assert launcher["network"] != seen["gateway"]["network"]
    assert launcher["group"].startswith("0::/carrel.slice/carrel-launcher@")


def test_S3_04_a_tool_runs_in_a_sandbox_of_that_launcher(seen: dict[str, Any]) -> None:
    lines = seen["chat"].splitlines()
    assert "1000" in lines
    assert "NoNewPrivs:\t1" in lines
    assert "CapEff:\t0000000000000000" in lines
    for path in ("/sys", "/var", "/run/credentials"):
        assert f"ls: cannot access '{path}': No such file or directory" in lines
    assert seen["status"]["sandbox"] == "bwrap"


def test_S10_03_its_limits_are_those_of_the_launchers_cgroup(seen: dict[str, Any]) -> None:
    assert seen["status"]["cgroup"] == "v2, of the launcher's unit, with cpu, io, memory, pids"
    by = {limit["limit"]: limit["by"] for limit in seen["status"]["limits"]}
    assert by["tenant_memory"] == by["cpus"] == "cgroup"


def test_a_new_gateway_takes_over_and_no_answer_is_cut_off(seen: dict[str, Any]) -> None:
    assert seen["old_one_still_answers"]
    whole, problem, text = seen["answer_over_the_restart"]
    assert (whole, problem) == (True, "")
    assert "begun\nended" in text
    assert seen["restart"] == ""
    assert seen["another_process"]
    assert seen["another_launcher"]


def test_who_comes_while_it_drains_waits_and_is_served(seen: dict[str, Any]) -> None:
    whole, problem, text = seen["who_came_meanwhile"]
    assert (whole, problem) == (True, "")
    assert "another" in text
    assert "kept" in seen["workspace_is_kept"]


def test_a_reload_brings_declarations_into_force(seen: dict[str, Any]) -> None:
    assert seen["reload"] == ""
    assert seen["after_reload"] == ["acme", "demo", "newco"]


def test_S3_07_a_kept_sandbox_is_entered_by_that_launcher_too(seen: dict[str, Any]) -> None:
    assert "there\n[exit code 0]" in seen["kept_sandbox"]


def test_a_stop_leaves_nothing(seen: dict[str, Any]) -> None:
    assert seen["stopped"] == {"ActiveState": "inactive", "Result": "success"}
    assert seen["no_launcher"]


def test_a_first_boot_without_backups_begins_anew(seen: dict[str, Any]) -> None:
    assert seen["first_restore"] == {"ActiveState": "active", "SubState": "exited", "Result": "success"}
    assert {line for line in seen["first_log"] if "begins anew" in line} == {
        "acme begins anew: there is no backup of it.", "demo begins anew: there is no backup of it.",
    }  # fmt: skip


def test_the_timer_makes_backups_of_which_those_stay_that_are_to(seen: dict[str, Any]) -> None:
    assert seen["timer"]["ActiveState"] == "active"
    assert seen["timer"]["Persistent"] == "yes"
    assert seen["backup"] == {"ActiveState": "inactive", "Result": "success"}
    assert (seen["backups_before"], seen["backups"]) == (1, 1), "the one before is removed"
    assert seen["backup_verified"] is not None, "and the new one was read back"


def test_what_does_not_read_back_keeps_the_gateway_from_starting(seen: dict[str, Any]) -> None:
    assert seen["damaged_restore"] == {"ActiveState": "failed", "Result": "exit-code"}
    assert seen["damaged_gateway"] == {"ActiveState": "inactive"}
    assert any(line.startswith("carrel: demo: ") for line in seen["damaged_log"]), seen["damaged_log"]


def test_a_machine_that_lost_its_state_has_it_again_before_it_is_reached(seen: dict[str, Any]) -> None:
    assert seen["restored"] == {"ActiveState": "active", "SubState": "exited", "Result": "success"}
    assert seen["restored_before"], "the gateway started when the restore had ended"
    assert any(line.startswith("demo is back: ") for line in seen["restored_log"]), seen["restored_log"]
    assert seen["sessions_after"] == seen["sessions_before"] != []
    assert "kept" in seen["workspace_is_back"], "by the same token"


def test_a_switch_that_listens_elsewhere_closes_the_old_address(seen: dict[str, Any]) -> None:
    assert seen["elsewhere"] == ["", ""]
    assert seen["elsewhere_listens"] == [False, True]
    assert seen["elsewhere_answers"] == 200
    assert seen["by_its_other_name"] == {"Id": "carrel-127.0.0.1-18790.socket", "ActiveState": "active"}
