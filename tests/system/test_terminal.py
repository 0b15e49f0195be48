"""Terminals behind a whole gateway: a shell in the sandbox, what ends it, and what the record says of it."""

import json
from typing import Any

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.launcher import running
from tests.fakes.patience import until
from tests.system.conftest import StartGateway


class Shell:
    """A terminal of the demo tenant's, by polling."""

    def __init__(self, gateway: GatewayProcess, **params: Any) -> None:
        self._gateway = gateway
        made = gateway.rpc("terminal.spawn", params)
        self.id = str(made["terminalId"]) if "terminalId" in made else str(made)
        assert self.id.startswith("term_"), made
        self.text = ""
        self.told: dict[str, Any] = {"running": True, "next": 0}

    def types(self, text: str) -> None:
        assert self._gateway.rpc("terminal.write", {"terminalId": self.id, "data": text})["ok"] is True

    def shows(self, text: str) -> None:
        assert until(lambda: self._read() and text in self.text), self.text

    def ended(self) -> str:
        assert until(lambda: self._read() and not self.told["running"]), self.text
        return str(self.told["reason"])

    def _read(self) -> bool:
        asked = {"terminalId": self.id, "after": self.told["next"], "waitSeconds": 5}
        self.told = self._gateway.rpc("terminal.read", asked)
        self.text += self.told["data"]
        return True


def lines(gateway: GatewayProcess, action: str) -> list[dict[str, Any]]:
    done = gateway.cli("audit", "tail", "--json", "-n", "100")
    assert done.returncode == 0, done.stderr
    return [line for line in map(json.loads, done.stdout.splitlines()) if line["action"] == action]


def test_a_shell_in_the_sandbox_and_its_lines_in_the_record(gateway: GatewayProcess) -> None:
    shell = Shell(gateway, cols=91, rows=17, record=True)
    shell.types("stty size; hostname; id -u; pwd; echo from-a-terminal > made; : > /usr/x; grep -c . /proc/net/route\n")
    shell.shows("17 91")
    shell.shows("sandbox")
    shell.shows("Read-only file system")
    answer = gateway.rpc("sessions.send", {"message": "read: made"})
    assert "from-a-terminal" in json.dumps(answer)
    shell.types("exit 6\n")
    assert shell.ended() == "exit"
    assert shell.told["exitCode"] == 6
    assert until(lambda: shell.id in {line["target"] for line in lines(gateway, "terminal.end")})
    (start,) = [line for line in lines(gateway, "terminal.start") if line["target"] == shell.id]
    (end,) = [line for line in lines(gateway, "terminal.end") if line["target"] == shell.id]
    assert (start["tenant"], start["actor"]) == ("demo", end["actor"])
    assert (end["outcome"], end["after"]["exit_code"]) == ("exit", 6)
    cast = (gateway.state_dir / "tenants" / "demo" / "terminals" / f"{shell.id}.cast").read_text().splitlines()
    assert json.loads(cast[0])["width"] == 91
    assert "from-a-terminal" in "".join(json.loads(line)[2] for line in cast[1:])
    assert "from-a-terminal" not in gateway.text


def test_S1_03_what_ends_it_and_a_gateway_that_is_killed_leaves_no_shell(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    Shell(gateway).types("sleep 8210\n")
    assert until(lambda: running("8210"))
    assert gateway.cli("tenants", "suspend", "demo").returncode == 0
    assert until(lambda: not running("8210"))
    assert gateway.cli("tenants", "resume", "demo").returncode == 0
    Shell(gateway).types("sleep 8211\n")
    assert until(lambda: running("8211"))
    issued = gateway.rpc("tenants.rotate")
    assert until(lambda: not running("8211"))
    assert until(lambda: outcomes(gateway) == ["suspended", "revoked"])

    gateway.output[:] = [issued["token"] + "\n"]
    Shell(gateway).types("setsid sleep 8221 &\n")
    assert until(lambda: running("8221"))
    gateway.kill()
    assert until(lambda: not running("8221"))
    gateway.start()
    assert outcomes(gateway) == ["suspended", "revoked", "gateway_lost"]


def outcomes(gateway: GatewayProcess) -> list[str]:
    return [str(line["outcome"]) for line in lines(gateway, "terminal.end")]
