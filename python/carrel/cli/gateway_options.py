"""What `carrel gateway` was told, in a form that a process can hand on; it knows nothing of a command line."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

DRAIN_SECONDS: Final = 2.0
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Everything that ``carrel gateway`` was told. ``trial`` allows what production settings refuse.

    ``git`` is the file of git settings where what is declared is pushed or pulled; ``tenants_dir`` is in the state
    then.
    ``state_named``: the state directory was named, so a command that means this gateway must name it too.
    ``drain_seconds``: how long requests that run may go on at a stop. ``launcher``: the socket of the launcher's own
    unit. ``audit_mark``: where the end of the audit log is kept besides.
    ``names``: host names it answers for beyond loopback's. ``placement``: JSON of a `declare.host.Placement`.
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
    drain_seconds: float = DRAIN_SECONDS
    launcher: Path | None = None
    names: tuple[str, ...] = ()
    placement: str | None = None
    git: Path | None = None
    audit_mark: Path | None = None

    def text(self) -> str:
        """As `from_text` takes it."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_text(cls, text: str) -> "GatewayOptions":
        """What `text` gave, for a program of the same version."""
        told: dict[str, Any] = json.loads(text)
        places = {name: Path(told[name]) for name in ("tenants_dir", "state_dir")}
        named = ("secrets_dir", "launcher", "git", "audit_mark")
        maybe = {name: None if told[name] is None else Path(told[name]) for name in named}
        return cls(**{**told, **places, **maybe, "names": tuple(told["names"])})
