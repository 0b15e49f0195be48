"""What `carrel gateway` was told, in a form that a process can hand on; it knows nothing of a command line."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Everything that ``carrel gateway`` was told. ``trial`` allows what production settings refuse.

    ``state_named``: the state directory was named, so a command that means this gateway must name it too.
    """

    host: str
    port: int
    tenants_dir: Path
    state_dir: Path
    secrets_dir: Path | None
    log_level: LogLevel
    log_json: bool
    trial: bool = True
    state_named: bool = False

    def text(self) -> str:
        """As `from_text` takes it."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_text(cls, text: str) -> "GatewayOptions":
        """What `text` gave, for a program of the same version."""
        told: dict[str, Any] = json.loads(text)
        places = {name: Path(told[name]) for name in ("tenants_dir", "state_dir")}
        secrets = told["secrets_dir"]
        return cls(**{**told, **places, "secrets_dir": None if secrets is None else Path(secrets)})
