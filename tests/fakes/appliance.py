"""The module's units under a real systemd: written as NixOS writes them, started by pid 1 of a kernel of its own.

The gateway, its launcher, bubblewrap, sockets and credentials are the real ones. What is laid out for them is what
NixOS would have: a user, secrets, declarations, and the package at a place that every unit can read.
"""

import json
import re
import shlex
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fakes import kernel

ROOT: Final = Path(__file__).parents[2]
UID: Final = 987
PACKAGE: Final = "/run/package"
"""Where the package is in there."""
SETTINGS: Final = "/run/host.json"
LOG: Final = "/run/carrel.log"
_ALIAS: Final = "alias of "
_TARGETS: Final = (
    "sysinit", "basic", "sockets", "timers", "paths", "slices", "shutdown", "umount", "final", "network-online",
    "multi-user", "default",
)  # fmt: skip
_PROGRAMS: Final = {"carrel": "carrel.main.console", "carrel-launcher": "carrel.main.launcher_unit"}
_PROGRAM: Final = """#!/bin/sh
export PYTHONPATH={package}/source:{package}/libraries LD_LIBRARY_PATH={package}/python/lib PYTHONDONTWRITEBYTECODE=1
exec {package}/python/bin/{python} -c 'from {module} import run; run()' "$@"
"""
_LAYOUT: Final = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p {package}/bin {package}/python {package}/libraries {package}/source {package}/tools
mkdir -p /run/keys /run/systemd /run/units
mount --bind {prefix} {package}/python; mount --bind {code} {package}/source
mount --bind {libraries} {package}/libraries; mount --bind {tools} {package}/tools
cp {home}/bin/* {package}/bin/
mount -t tmpfs -o mode=755 none /var/lib
mkdir /var/lib/declared && cp {home}/tenants.d/* /var/lib/declared/
cp -P {home}/units/* /run/units/; cp {home}/host.json {settings}
cp /etc/passwd /etc/group /run/; echo carrel:x:{uid}:{uid}::/var/lib/carrel:/bin/false >> /run/passwd
echo carrel:x:{uid}: >> /run/group; mount --bind /run/passwd /etc/passwd; mount --bind /run/group /etc/group
(umask 077; {keys})
chmod 711 /run /run/keys
cp {home}/driver.py /run/driver.py
mount -t tmpfs -o mode=1777 none /tmp; mount -t tmpfs -o mode=1777 none /var/tmp
export SYSTEMD_UNIT_PATH=/run/units SYSTEMD_LOG_LEVEL=warning SYSTEMD_LOG_TARGET=console SYSTEMD_SHOW_STATUS=no
mount --make-rshared /
exec /lib/systemd/systemd
"""


def render(kind: str, unit: Mapping[str, Any]) -> str:
    """The text of a unit (``service``, ``socket``, ``slice``, ``timer``) as NixOS's library makes it of its options."""
    head = {**unit.get("unitConfig", {})}
    for name in ("requires", "requisite", "wants", "after", "before", "bindsTo", "partOf", "conflicts"):
        if unit.get(name):
            head[name[0].upper() + name[1:]] = " ".join(unit[name])
    body: dict[str, Any] = {**unit.get(f"{kind}Config", {})}
    if kind == "service":
        # There is no journal in there.
        body |= {"StandardOutput": f"append:{LOG}", "StandardError": f"append:{LOG}"}
        body["Environment"] = [f'"{name}={value}"' for name, value in unit.get("environment", {}).items()]
    if kind == "socket":
        body["ListenStream"] = unit.get("listenStreams", [])
    return "".join(_section(name, of) for name, of in (("Unit", head), (kind.capitalize(), body)))


def _section(name: str, settings: Mapping[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{line}\n" for line in _lines(settings)) + "\n"


def _lines(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                yield f"{name}={str(one).lower() if isinstance(one, bool) else one}"


def units_of(systemd: Mapping[str, Any], package: str, settings: str) -> dict[str, str]:
    """All units of an evaluated host by their file names, with package and settings where they are in there."""
    made = {}
    services = {name: {**unit} for name, unit in systemd.get("services", {}).items()}
    for name, unit in services.items():
        for other in unit.get("requiredBy", []):
            wanting = services[other.removesuffix(".service")]
            wanting["requires"] = [*wanting.get("requires", []), f"{name}.service"]
    systemd = {**systemd, "services": services}
    for plural, kind in (("services", "service"), ("sockets", "socket"), ("slices", "slice"), ("timers", "timer")):
        for name, unit in systemd.get(plural, {}).items():
            made[f"{name}.{kind}"] = render(kind, unit).replace(package, PACKAGE).replace(settings, SETTINGS)
            made |= dict.fromkeys(unit.get("aliases", []), f"{_ALIAS}{name}.{kind}")
    return made


def boot(
    units: Mapping[str, str],
    settings: Mapping[str, Any],
    driver: Path,
    keys: Mapping[str, str],
    *,
    memory: str = "768M",
) -> dict[str, Any]:
    """Start systemd with ``units`` and run ``driver`` in there as root; the JSON that it prints last.

    ``keys`` are laid out in /run/keys.
    """
    if not Path("/lib/systemd/systemd").exists():
        pytest.skip("there is no systemd here: install the package systemd")
    with tempfile.TemporaryDirectory(prefix="carrel-appliance-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        _lay_out(home, units, settings, driver)
        text = kernel.boot(
            _LAYOUT.format(
                package=PACKAGE, prefix=sys.base_prefix, libraries=site.getsitepackages()[0], code=ROOT / "python",
                home=home, settings=SETTINGS, uid=UID,
                tools=Path(sys.executable).parent,
                keys="; ".join(f"echo {shlex.quote(key)} > /run/keys/{name}" for name, key in keys.items()),
            ),
            memory=memory,
        )  # fmt: skip
    lines = [line for line in text.splitlines() if line.startswith("{")]
    assert lines, text[-6000:]
    told: dict[str, Any] = json.loads(lines[-1])
    return told


def _lay_out(home: Path, units: Mapping[str, str], settings: Mapping[str, Any], driver: Path) -> None:
    (home / "units").mkdir()
    for name, text in units.items():
        if text.startswith(_ALIAS):
            (home / "units" / name).symlink_to(text.removeprefix(_ALIAS))
        else:
            (home / "units" / name).write_text(text)
    for name in _TARGETS:
        wants = "Requires=driver.service\n" if name == "default" else ""
        (home / "units" / f"{name}.target").write_text(f"[Unit]\nDefaultDependencies=no\n{wants}")
    (home / "units" / "driver.service").write_text(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
        f"Environment=LD_LIBRARY_PATH={PACKAGE}/python/lib PYTHONDONTWRITEBYTECODE=1\n"
        "StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n"
        f"ExecStart={PACKAGE}/python/bin/{Path(sys.executable).resolve().name} /run/driver.py\n"
        f'ExecStopPost=+/bin/sh -c \'echo "{kernel.MARK} $$EXIT_STATUS" > /dev/console; '
        "echo o > /proc/sysrq-trigger'\n"
    )
    (home / "bin").mkdir()
    for name, module in _PROGRAMS.items():
        program = home / "bin" / name
        program.write_text(_PROGRAM.format(package=PACKAGE, python=Path(sys.executable).resolve().name, module=module))
        program.chmod(0o755)
    shutil.copyfile(driver, home / "driver.py")
    (home / "host.json").write_text(json.dumps(settings))
    shutil.copytree(ROOT / "tenants.d", home / "tenants.d")


def exposure(units: Mapping[str, str], name: str) -> tuple[float, list[str]]:
    """What `systemd-analyze security` gives one of ``units``: from 0 to 10, and what costs something."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here: install the package systemd")
    with tempfile.TemporaryDirectory(prefix="carrel-units-") as directory:
        for other, text in ((name, text) for name, text in units.items() if not text.startswith(_ALIAS)):
            # An instance stands for what a template makes.
            Path(directory, other.replace("@.", "@1.")).write_text(text.replace(PACKAGE, "/usr"))
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager",
             str(Path(directory, name.replace("@.", "@1.")))],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    # What costs something is marked so, and is named first on its line.
    return float(found[1]), re.findall(r"^✗ (\S+)", done.stdout, re.MULTILINE)
