"""The models of `device.*`, `node.*` and `voicewake.*`, and of the pairing of a device; see `wire.rpc`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from carrel.declare.base import Scope
from carrel.wire.rpc import Page, Params, Result

RequestId = Annotated[str, Field(min_length=1, max_length=64)]
DeviceId = Annotated[str, Field(min_length=1, max_length=64)]
Named = Annotated[str, Field(min_length=1, max_length=200)]
Platform = Annotated[str, Field(max_length=200)]
Role = Literal["operator", "node"]
Word = Annotated[str, Field(min_length=1, max_length=100)]
Words = Annotated[tuple[Word, ...], Field(max_length=200, strict=False)]


class PairOrder(Params):
    """A device asks to be paired, by a code that a person of the tenant gave it."""

    code: Annotated[str, Field(min_length=1, max_length=32)]
    name: Named = "device"
    platform: Platform = ""


class ClaimOrder(Params):
    """A device asks how its request stands, and fetches its token."""

    request_id: RequestId
    secret: Annotated[str, Field(min_length=1, max_length=128)]


class PairAsked(Result):
    """A request to be paired. Only who has ``secret`` gets the token."""

    request_id: str
    secret: str
    expires_at: int


class PairClaimed(Result):
    """`waiting`, `rejected` or `approved`; then with the device and its token, which is shown once."""

    status: Literal["waiting", "rejected", "approved"]
    device_id: str | None = None
    token: str | None = None


class PairCodeParams(Params):
    """Parameters of `device.pair.code`."""

    role: Role = "operator"


class PairCode(Result):
    """A code that pairs one device, once, within ten minutes."""

    code: str
    role: str
    expires_at: int


class RequestParams(Params):
    """A request to be paired."""

    request_id: RequestId


class ApproveParams(RequestParams):
    """Parameters of `device.pair.approve`."""

    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=4, strict=False)] | None = Field(
        None, description="What the device's token may do. Default: `chat` and `rpc`; a node has `node`."
    )


class PairRequest(Result):
    """A device that waits for a decision."""

    request_id: str
    name: str
    platform: str
    role: str
    member: str | None = None
    asked_at: int
    expires_at: int


class DeviceView(Result):
    """A paired device."""

    device_id: str
    name: str
    platform: str
    role: str
    scopes: tuple[str, ...]
    member: str | None = None
    paired_at: int
    paired_by: str
    rotated_at: int | None = None
    revoked: bool
    revoked_at: int | None = None


class DevicePage(Page):
    """Parameters of what lists devices."""


class PairList(Result):
    """Devices that wait, and a page of those that are paired, by name."""

    pending: tuple[PairRequest, ...]
    paired: tuple[DeviceView, ...]
    next: str | None = None


class PairRejected(Result):
    """The request that was refused."""

    request_id: str


class DeviceParams(Params):
    """A device."""

    device_id: DeviceId


class DeviceToken(Result):
    """The device's new token, shown this once."""

    device_id: str
    role: str
    scopes: tuple[str, ...]
    token: str
    rotated_at: int


class NodeAskParams(Params):
    """Parameters of `node.pair.request`."""

    name: Named
    platform: Platform = ""


class NodeVerifyParams(Params):
    """Parameters of `node.pair.verify`: of a request to be paired, or of a node that is paired."""

    request_id: RequestId | None = None
    secret: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None, description="The request's, which alone fetches the token."
    )
    node_id: DeviceId | None = None
    token: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="Is it this node's? It is looked at, and stays as it is."
    )

    @property
    def about(self) -> str | None:
        """The request, or the node."""
        return self.request_id or self.node_id


class NodeParams(Params):
    """A node: a device that is paired with the role `node`."""

    node_id: DeviceId


class NodeRenameParams(NodeParams):
    """Parameters of `node.rename`."""

    name: Named


class NodeView(Result):
    """A node; what it offers is known while it is connected."""

    node_id: str
    name: str
    platform: str
    member: str | None = None
    revoked: bool
    connected: bool
    connected_at: int | None = None
    version: str | None = None
    capabilities: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


class NodeVerified(Result):
    """How a request stands: `waiting`, `rejected` or `approved`, then with the node's token, shown once.

    Of a node and a token: `approved` with the node where the token is the node's and good, else `unknown`.
    """

    status: Literal["waiting", "rejected", "approved", "unknown"]
    device_id: str | None = None
    token: str | None = None
    node: NodeView | None = None


class NodeList(Result):
    """Nodes by name."""

    nodes: tuple[NodeView, ...]
    next: str | None = None


class NodeInvokeParams(NodeParams):
    """Parameters of `node.invoke`."""

    command: Word
    params: dict[str, Any] = Field(default_factory=dict)
    timeout_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 60_000


class NodeInvoked(Result):
    """What the node answered."""

    node_id: str
    command: str
    result: Any = None


class NodeConnectParams(Params):
    """What a node says of itself when it connects."""

    platform: Platform = ""
    version: Annotated[str, Field(max_length=64)] = ""
    capabilities: Words = ()
    commands: Words = ()


class NodeWelcome(Result):
    """What a node should know."""

    node_id: str
    name: str
    triggers: tuple[str, ...]


class NodeError(Params):
    """Why a node did not do it."""

    code: Word = "failed"
    message: Annotated[str, Field(max_length=4000)]


class NodeResultParams(Params):
    """A node's answer to an invocation."""

    id: RequestId
    result: Any = None
    error: NodeError | None = None


class Taken(Result):
    """It was taken."""

    ok: bool


class WakeSetParams(Params):
    """Parameters of `voicewake.set`; no word at all is the default ones."""

    triggers: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=100, strict=False)]


class WakeView(Result):
    """The words that wake devices."""

    triggers: tuple[str, ...]
    updated_at: int | None = None
