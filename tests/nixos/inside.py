"""Run as root beside the units, by the machine that `tests.fakes.appliance` boots: tries them, and prints what it saw.

Standard library only: it is no part of the package.
"""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

URL = "http://127.0.0.1:18789"
LOG = Path("/run/carrel.log")
SECONDS = 300.0


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=SECONDS, check=False)
    return (done.stdout + done.stderr).strip()


def shown(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit as systemd has them."""
    lines = systemctl("show", unit, *(f"--property={name}" for name in names)).splitlines()
    return dict(line.split("=", 1) for line in lines)


class Control(http.client.HTTPConnection):
    """The control socket, which root may use."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect("/var/lib/carrel/run/control.sock")


def ask(method: str, path: str, body: object = None) -> Any:
    """What the control plane answers."""
    connection = Control("localhost")
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def until(what: Callable[[], Any]) -> Any:
    """What ``what`` gives as soon as it is true."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.2)
    raise TimeoutError(what)


def launcher() -> str:
    """The launcher's unit, and that there is one."""
    names = re.findall(r"carrel-launcher@\S+\.service", systemctl("list-units", "--no-legend", "--plain"))
    return names[0] if names else ""


def view(pid: int) -> dict[str, Any]:
    """What a process has of the machine."""
    root = Path(f"/proc/{pid}/root")
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )

    def listed(path: str) -> list[str]:
        try:
            return sorted(os.listdir(root / path))
        except OSError as error:
            return [type(error).__name__]

    interfaces = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return {
        "uid": status["Uid"].split()[0],
        "capabilities": status["CapBnd"].strip(),
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "seccomp": status["Seccomp"].strip(),
        "credentials": listed("run/credentials"),
        "audit": listed("var/lib/carrel/audit"),
        "control": listed("var/lib/carrel/run"),
        "keys": listed("run/keys"),
        "interfaces": [line.split(":")[0].strip() for line in interfaces],
        "network": str(Path(f"/proc/{pid}/ns/net").readlink()),
        "environment": sorted(
            word.split(b"=")[0].decode() for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if word
        ),
        "group": Path(f"/proc/{pid}/cgroup").read_text().strip(),
    }


class Stream(threading.Thread):
    """An answer that is read as it comes: events seen so far, and whether it came to its end."""

    def __init__(self, token: str, command: str) -> None:
        super().__init__()
        body = {"model": "agent:main", "stream": True, "messages": [{"role": "user", "content": f"run: {command}"}]}
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._request = urllib.request.Request(URL + "/v1/chat/completions", json.dumps(body).encode(), headers)
        self.text = self.events = ""
        self.problem = ""
        self.opened = threading.Event()

    def run(self) -> None:
        try:
            with urllib.request.urlopen(self._request, timeout=SECONDS) as reply:
                self.opened.set()
                for line in reply:
                    self.events += line.decode()
                    if line.startswith(b"data: {"):
                        self.text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
        except OSError as error:
            self.problem = repr(error)
            self.opened.set()

    @property
    def whole(self) -> bool:
        return not self.problem and "[DONE]" in self.events


def stream(token: str, command: str) -> Stream:
    made = Stream(token, command)
    made.start()
    return made


def healthy() -> bool:
    with urllib.request.urlopen(URL + "/healthz", timeout=SECONDS) as reply:
        return bool(reply.status == 200)


def answer(token: str, command: str) -> str:
    """The whole answer to a message that runs ``command``."""
    made = stream(token, command)
    made.join(SECONDS)
    return made.text if made.whole else f"{made.problem} {made.events}"


BACKUPS = """
backup:
  to: s3://backups/carrel
  endpoint: http://127.0.0.1:9000
  access_key: {secret: s3-access}
  secret_key: {secret: s3-secret}
  conditional_writes: false
"""


def serve_s3() -> subprocess.Popen[bytes]:
    """A store of objects on this machine, whose pieces are files beneath /run/store."""
    Path("/run/store/backups").mkdir(parents=True)
    with Path("/var/lib/declared/_gateway.yaml").open("a") as file:
        file.write(BACKUPS)
    access, secret = (Path("/run/keys", name).read_text().strip() for name in ("s3-access", "s3-secret"))
    process = subprocess.Popen(
        ["/run/package/tools/rclone", "serve", "s3", "--addr", "127.0.0.1:9000", "--auth-key", f"{access},{secret}",
         "--config", "/run/no.conf", "/run/store"],
        env={"HOME": "/run", "GOMAXPROCS": "1"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    until(lambda: listens(9000))
    return process


def logged(since: int) -> list[str]:
    """What the units have written after the first ``since`` bytes."""
    return LOG.read_text()[since:].splitlines()


def rpc(method: str) -> Any:
    return ask("POST", "/v1/tenants/demo/rpc", {"jsonrpc": "2.0", "id": 1, "method": method})["result"]


def back_up(seen: dict[str, Any]) -> None:
    """One is made beforehand, and then the timer makes one of everybody."""
    ask("POST", "/v1/tenants/demo/backups", {})
    seen["backups_before"] = len(ask("GET", "/v1/tenants/demo/backups")["backups"])
    size = LOG.stat().st_size
    systemctl("start", "carrel-backup.timer")
    # Here the timer is faster than the unit, which is hardly ever seen at rest.
    until(lambda: any("are backed up" in line for line in logged(size)))
    seen["timer"] = shown("carrel-backup.timer", "ActiveState", "Persistent")
    systemctl("stop", "carrel-backup.timer")
    until(lambda: shown("carrel-backup", "ActiveState")["ActiveState"] in ("inactive", "failed"))
    seen["backup"] = shown("carrel-backup", "ActiveState", "Result")
    found = ask("GET", "/v1/tenants/demo/backups")
    seen["backups"], seen["backup_verified"] = len(found["backups"]), found["verified"]


def start_again() -> int:
    """As a boot does it; how long the log was before."""
    size = LOG.stat().st_size
    systemctl("stop", "carrel-restore.service")
    systemctl("reset-failed")
    systemctl("start", "carrel.socket", "carrel-launcher.socket")
    systemctl("start", "carrel.service")
    return size


def lose_and_restore(seen: dict[str, Any], token: str) -> None:
    """All state is lost. A damaged store starts no gateway; one with one whole copy of a key brings everybody back."""
    for path in Path("/var/lib/carrel").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    stored = [path for path in Path("/run/store/backups/carrel/demo").rglob("*") if path.is_file()]
    piece = max(stored, key=lambda path: path.stat().st_size)
    whole = piece.read_bytes()
    piece.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    size = start_again()
    seen["damaged_restore"] = shown("carrel-restore", "ActiveState", "Result")
    seen["damaged_gateway"] = shown("carrel", "ActiveState")
    seen["damaged_log"] = logged(size)
    piece.write_bytes(whole)
    key = Path("/run/store/backups/carrel/demo/repository.json")
    key.write_bytes(key.read_bytes()[::-1])
    size = start_again()
    seen["restored"] = shown("carrel-restore", "ActiveState", "SubState", "Result")
    ended = shown("carrel-restore", "ExecMainExitTimestampMonotonic")["ExecMainExitTimestampMonotonic"]
    begun = shown("carrel", "ExecMainStartTimestampMonotonic")["ExecMainStartTimestampMonotonic"]
    seen["restored_before"] = 0 < int(ended) <= int(begun)
    seen["restored_log"] = logged(size)
    seen["sessions_after"] = rpc("sessions.list")["sessions"]
    seen["workspace_is_back"] = answer(token, "cat note")


def listens(port: int) -> bool:
    with socket.socket() as there:
        return there.connect_ex(("127.0.0.1", port)) == 0


def listen_elsewhere(seen: dict[str, Any]) -> None:
    """As a switch does it: what is gone is stopped, all is read anew, what is new started, what changed restarted."""
    units, old, new = Path("/run/units"), "carrel-127.0.0.1-18789.socket", "carrel-127.0.0.1-18790.socket"
    systemctl("stop", old)
    (units / new).write_text((units / old).read_text().replace("18789", "18790"))
    (units / old).unlink()
    (units / "carrel.socket").unlink()
    (units / "carrel.socket").symlink_to(new)
    for path, was, now in ((units / "carrel.service", old, new), (Path("/run/host.json"), "18789", "18790")):
        path.write_text(path.read_text().replace(was, now))
    systemctl("daemon-reload")
    seen["elsewhere"] = [systemctl("start", new), systemctl("restart", "carrel.service")]
    seen["elsewhere_listens"] = [listens(18789), listens(18790)]
    with urllib.request.urlopen("http://127.0.0.1:18790/healthz", timeout=SECONDS) as reply:
        seen["elsewhere_answers"] = reply.status
    seen["by_its_other_name"] = shown("carrel.socket", "Id", "ActiveState")


def observe(seen: dict[str, Any]) -> None:
    """Start it, look at it, use it, let a new one take its place while it answers, and lose all that it has."""
    systemctl("start", "carrel.socket", "carrel-launcher.socket")
    seen["start"] = systemctl("start", "carrel.service")
    seen["service"] = shown("carrel", "ActiveState", "SubState", "StatusText", "WatchdogTimestampMonotonic")
    seen["first_restore"] = shown("carrel-restore", "ActiveState", "SubState", "Result")
    seen["first_log"] = logged(0)
    if seen["service"]["ActiveState"] != "active":
        return
    token = ask("POST", "/v1/tenants/demo/tokens", {"name": "test"})["token"]
    look = "id -u; cat /proc/self/cgroup; cat /proc/self/status; ls /sys /var /run/credentials 2>&1; echo kept > note"
    seen["chat"] = answer(token, look)
    seen["status"] = ask("GET", "/v1/status")
    gateway = int(shown("carrel", "MainPID")["MainPID"])
    unit = until(launcher)
    seen["gateway"] = view(gateway)
    seen["launcher"] = view(int(shown(unit, "MainPID")["MainPID"]))
    seen["credential"] = Path(f"/proc/{gateway}/root/run/credentials/carrel.service/anthropic").read_text().strip()
    hand_over(seen, token, gateway, unit)
    seen["workspace_is_kept"] = answer(token, "cat note")
    Path("/var/lib/declared/newco.yaml").write_text("display_name: New Co\nsandbox: {keep: true}\n")
    seen["reload"] = systemctl("reload", "carrel.service")
    seen["after_reload"] = sorted(one["id"] for one in ask("GET", "/v1/tenants")["tenants"])
    kept = ask("POST", "/v1/tenants/newco/tokens", {"name": "test"})["token"]
    answer(kept, "echo there > /tmp/left")
    seen["kept_sandbox"] = answer(kept, "cat /tmp/left")
    seen["sessions_before"] = rpc("sessions.list")["sessions"]
    back_up(seen)
    seen["stop"] = systemctl("stop", "carrel.service")
    seen["stopped"] = shown("carrel", "ActiveState", "Result")
    seen["no_launcher"] = until(lambda: launcher() == "")
    lose_and_restore(seen, token)
    listen_elsewhere(seen)


def hand_over(seen: dict[str, Any], token: str, gateway: int, unit: str) -> None:
    """A restart, as a switch does it, while one answer is being given and another is asked for."""
    answering = stream(token, "echo begun; until [ -e go ]; do sleep 0.1; done; echo ended")
    answering.opened.wait(SECONDS)
    restarting = threading.Thread(target=lambda: seen.update(restart=systemctl("restart", "carrel.service")))
    restarting.start()
    until(lambda: shown("carrel", "ActiveState")["ActiveState"] == "deactivating")
    waiting = stream(token, "echo another")
    seen["old_one_still_answers"] = answering.is_alive() and not answering.problem
    for note in list(Path("/var/lib/carrel/tenants/demo").rglob("note")):
        note.with_name("go").touch()
    for one in (answering, waiting, restarting):
        one.join(SECONDS)
    seen["answer_over_the_restart"] = [answering.whole, answering.problem, answering.text]
    seen["who_came_meanwhile"] = [waiting.whole, waiting.problem, waiting.text]
    seen["another_process"] = int(shown("carrel", "MainPID")["MainPID"]) not in (0, gateway)
    seen["another_launcher"] = until(lambda: launcher() not in ("", unit))


if __name__ == "__main__":
    result: dict[str, Any] = {}
    begun = time.monotonic()
    store = serve_s3()
    try:
        observe(result)
    except BaseException:  # noqa: BLE001 - whatever it is, the outside must see it
        result["failed"] = traceback.format_exc()
    store.kill()
    store.wait()
    result["log"] = LOG.read_text()[-6000:] if LOG.exists() else ""
    result["unit"] = systemctl("status", "carrel.service", "--no-pager", "-l")
    result["seconds"] = round(time.monotonic() - begun, 1)
    sys.stdout.write("\n" + json.dumps(result) + "\n")
