"""The models of `terminal.*`; see `wire.rpc`. Positions are in bytes since a terminal began."""

from typing import Annotated, Literal

from pydantic import Field

from carrel.wire.rpc import AgentName, Page, Params, Result, SessionIdText

TerminalId = Annotated[str, Field(pattern=r"^term_[0-9a-f]{24}$")]
Columns = Annotated[int, Field(ge=2, le=1000)]
Rows = Annotated[int, Field(ge=1, le=1000)]
Position = Annotated[int, Field(ge=0, le=1 << 62)]
Encoding = Literal["utf8", "base64"]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
EnvValue = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
MOST_DATA = 1 << 20


class TerminalParams(Params):
    """The terminal."""

    terminal_id: TerminalId


class TerminalSpawnParams(Params):
    """Parameters of `terminal.spawn`."""

    cols: Columns = 80
    rows: Rows = 24
    shell: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")] | None = Field(
        None,
        description="A program of the environment in place of the shell. Default: bash where it is there, else sh.",
    )
    env: Annotated[dict[EnvName, EnvValue], Field(max_length=64)] = Field(
        default_factory=dict, description="Variables beside those that a sandbox has."
    )
    agent_id: AgentName | None = Field(None, description="Whose ways out of the sandbox it has. Default: the first.")
    session_id: SessionIdText | None = Field(
        None, description="The session whose workspace it is in, where sessions have their own."
    )
    record: bool = Field(False, description="Record what it shows, as an asciicast.")
    attach: bool = Field(True, description="On `/ws`: show it to this connection.")
    encoding: Encoding = Field("utf8", description="How what it shows comes to this connection.")


class TerminalSpawned(Result):
    """It runs. ``pid`` is the shell's in its sandbox."""

    terminal_id: str
    pid: int | None = None
    cols: int
    rows: int
    recorded: bool


class TerminalAttachParams(TerminalParams):
    """Parameters of `terminal.attach`."""

    after: Position | None = Field(None, description="Show what came from this position on. Default: all that is kept.")
    cols: Columns | None = None
    rows: Rows | None = None
    encoding: Encoding = Field("utf8", description="How what it shows comes.")


class TerminalAttached(Result):
    """From ``at`` on it is shown; what was before is not kept any more."""

    terminal_id: str
    at: int
    cols: int
    rows: int


class TerminalSeenParams(TerminalParams):
    """Parameters of `terminal.ack`."""

    at: Position = Field(description="The `next` of the last `terminal.output` that was shown.")


class TerminalWriteParams(TerminalParams):
    """Parameters of `terminal.write`."""

    data: Annotated[str, Field(max_length=MOST_DATA)]
    encoding: Encoding = "utf8"


class TerminalWritten(Result):
    """``pending`` bytes wait for the command to read them."""

    ok: bool
    pending: int


class TerminalResizeParams(TerminalParams):
    """Parameters of `terminal.resize`."""

    cols: Columns
    rows: Rows


class TerminalReadParams(TerminalParams):
    """Parameters of `terminal.read`."""

    after: Position = 0
    limit: Annotated[int, Field(ge=1, le=1 << 20)] = Field(64 << 10, description="Bytes at most.")
    wait_seconds: Annotated[float, Field(ge=0, le=30)] = Field(0.0, description="How long to wait for something.")
    encoding: Encoding = "utf8"


class TerminalText(Result):
    """What it showed from ``at`` on; go on after ``next``. Once it has ended there is a ``reason``, and how."""

    terminal_id: str
    at: int
    next: int
    data: str
    running: bool
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None


class TerminalView(Result):
    """One that runs. Times are in milliseconds."""

    terminal_id: str
    tenant_id: str
    member: str | None = None
    pid: int | None = None
    cols: int
    rows: int
    created_at: int
    last_activity_at: int
    viewers: int
    recorded: bool


class TerminalList(Result):
    """Those that run, the oldest first."""

    sessions: tuple[TerminalView, ...]
    next: str | None = None


class TerminalDone(Result):
    """It is done."""

    ok: bool
    terminal_id: str


class TerminalRecordingsParams(Page):
    """Parameters of `terminal.recordings`."""


class TerminalRecordingView(Result):
    """A recording that is kept."""

    terminal_id: str
    bytes: int
    changed_at: int


class TerminalRecordings(Result):
    """Recordings, by their terminals' ids."""

    recordings: tuple[TerminalRecordingView, ...]
    next: str | None = None


class TerminalRecordingParams(TerminalParams):
    """Parameters of `terminal.recording`."""

    offset: Position = 0
    limit: Annotated[int, Field(ge=1, le=4 << 20)] = Field(1 << 20, description="Bytes at most.")


class TerminalRecordingText(Result):
    """A piece of an asciicast, version 2, of ``size`` bytes in all."""

    terminal_id: str
    offset: int
    size: int
    data: str
