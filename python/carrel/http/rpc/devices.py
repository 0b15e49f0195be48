"""`device.*`, `node.*` and `voicewake.*`."""

from datetime import datetime

from carrel.devices.book import Asked, Device, device_of
from carrel.devices.service import Devices
from carrel.devices.voice import Wake
from carrel.errors import Forbidden, InvalidRequest
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.wire import rpc_devices as wire
from carrel.wire.rpc import NoParams


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("device.pair.code", scope="admin", changes=True, secret=True, target="role")(code)
    registry.method("device.pair.list")(list_)
    registry.method("device.pair.approve", scope="admin", changes=True, target="request_id")(approve)
    registry.method("device.pair.reject", scope="admin", changes=True, target="request_id")(reject)
    registry.method("device.token.rotate", scope="admin", changes=True, secret=True, target="device_id")(rotate)
    registry.method("device.token.revoke", scope="admin", changes=True, target="device_id")(revoke)
    registry.method("node.pair.request", changes=True, secret=True, target="name")(ask)
    registry.method("node.pair.list")(list_nodes_pairing)
    registry.method("node.pair.approve", scope="admin", changes=True, target="request_id")(approve_node)
    registry.method("node.pair.reject", scope="admin", changes=True, target="request_id")(reject_node)
    registry.method("node.pair.verify", changes=True, secret=True, target="about")(verify)
    registry.method("node.rename", changes=True, target="node_id")(rename)
    registry.method("node.list")(list_nodes)
    registry.method("node.describe")(describe)
    registry.method("node.invoke", changes=True, target="node_id")(invoke)
    registry.method("node.connect", scope="node", repeated="says anew what the node can do")(connect)
    registry.method("node.result", scope="node", repeated="changes nothing more")(result)
    registry.method("voicewake.get")(get_wake)
    registry.method("voicewake.set", changes=True, target="triggers")(set_wake)


async def code(context: Context, params: wire.PairCodeParams) -> wire.PairCode:
    """Make a short code that pairs one device, once, within ten minutes."""
    made = _devices(context).make_code(context.tenant, role=params.role)
    return wire.PairCode(code=made.text, role=made.role, expires_at=_millis(made.expires))


async def list_(context: Context, params: wire.DevicePage) -> wire.PairList:
    """Devices that wait to be paired, and those that are."""
    return await _pairs(context, params, node=False)


async def approve(context: Context, params: wire.ApproveParams) -> wire.DeviceView:
    """Pair a device that waits; it fetches its token itself."""
    if "admin" in (params.scopes or ()) and "admin" not in context.scopes:
        raise Forbidden("A device cannot be given more than the one who approves it has.")
    return _device(
        await _devices(context).approve(context.tenant, params.request_id, scopes=params.scopes, by=context.actor)
    )


async def reject(context: Context, params: wire.RequestParams) -> wire.PairRejected:
    """Refuse a device that waits."""
    return wire.PairRejected(request_id=_devices(context).reject(context.tenant, params.request_id).id)


async def rotate(context: Context, params: wire.DeviceParams) -> wire.DeviceToken:
    """Replace a device's token by a new one, shown this once; the old one ends with its connections."""
    device, token = await _devices(context).rotate(context.tenant, params.device_id)
    return wire.DeviceToken(
        device_id=device.id, role=device.role, scopes=device.scopes, token=token,
        rotated_at=_millis(device.rotated or context.services.clock.now()),
    )  # fmt: skip


async def revoke(context: Context, params: wire.DeviceParams) -> wire.DeviceView:
    """End a device's token, and its connections with it."""
    return _device(await _devices(context).revoke(context.tenant, params.device_id))


async def ask(context: Context, params: wire.NodeAskParams) -> wire.PairAsked:
    """Ask for a node to be paired, by a program that has a token of the tenant's."""
    asked, secret = _devices(context).ask(
        context.tenant, request_id=context.new_id("pair"), name=params.name, platform=params.platform, role="node",
        member=context.tenant.member,
    )  # fmt: skip
    return wire.PairAsked(request_id=asked.id, secret=secret, expires_at=_millis(asked.expires))


async def list_nodes_pairing(context: Context, params: wire.DevicePage) -> wire.PairList:
    """Nodes that wait to be paired, and those that are."""
    return await _pairs(context, params, node=True)


async def approve_node(context: Context, params: wire.RequestParams) -> wire.DeviceView:
    """Pair a node that waits; it fetches its token itself."""
    devices, tenant = _devices(context), context.tenant
    return _device(await devices.approve(tenant, params.request_id, scopes=None, by=context.actor, role="node"))


async def reject_node(context: Context, params: wire.RequestParams) -> wire.PairRejected:
    """Refuse a node that waits."""
    return wire.PairRejected(request_id=_devices(context).reject(context.tenant, params.request_id, role="node").id)


async def verify(context: Context, params: wire.NodeVerifyParams) -> wire.NodeVerified:
    """How a request to be paired stands, with the token for who holds its secret; or whether a token is a node's."""
    devices = _devices(context)
    match params:
        case wire.NodeVerifyParams(request_id=str(request), secret=str(secret), node_id=None, token=None):
            status, device, token = await devices.claim(request, secret, tenant_id=context.tenant.id)
            device_id = device.id if device is not None else None
            return wire.NodeVerified.model_validate({"status": status, "device_id": device_id, "token": token})
        case wire.NodeVerifyParams(request_id=None, secret=None, node_id=str(node_id), token=str(token)):
            device = await devices.holder(context.tenant, node_id, token)
            if device is None:
                return wire.NodeVerified(status="unknown")
            return wire.NodeVerified(status="approved", device_id=device.id, node=_node(context, device))
        case _:
            raise InvalidRequest("`requestId` and `secret` of a request are wanted, or `nodeId` and `token` of a node.")


async def rename(context: Context, params: wire.NodeRenameParams) -> wire.NodeView:
    """Call a node something else."""
    changed = await _devices(context).rename(context.tenant, params.node_id, params.name, role="node")
    return _node(context, changed)


async def list_nodes(context: Context, params: wire.DevicePage) -> wire.NodeList:
    """The tenant's nodes, and which are connected."""
    found = await _devices(context).list(context.tenant, role="node")
    page, following = paged(found, lambda one: (one.name, one.id), params)
    return wire.NodeList(nodes=tuple(_node(context, one) for one in page), next=following)


async def describe(context: Context, params: wire.NodeParams) -> wire.NodeView:
    """A node, and what it offers."""
    return _node(context, await _devices(context).get(context.tenant, params.node_id, role="node"))


async def invoke(context: Context, params: wire.NodeInvokeParams) -> wire.NodeInvoked:
    """Have a connected node do something, and wait for what it answers."""
    if context.again:
        # Whether a gateway that died had sent it is not known, and twice is worse than not at all.
        raise InvalidRequest("The gateway ended while the node was asked; whether it did it is not known.")
    node = await _devices(context).get(context.tenant, params.node_id, role="node")
    answer = await engines(context).nodes.invoke(
        context.tenant, node.id, params.command, params.params, seconds=params.timeout_ms / 1000
    )
    return wire.NodeInvoked(node_id=node.id, command=params.command, result=answer)


async def connect(context: Context, params: wire.NodeConnectParams) -> wire.NodeWelcome:
    """A node says what it offers; from then on it is asked on this connection."""
    device_id = _own_device(context)
    if context.peer is None:
        raise InvalidRequest("A node connects over the WebSocket, `GET /ws`.")
    device = await _devices(context).get(context.tenant, device_id, role="node")
    rooms = engines(context)
    rooms.nodes.connect(
        context.tenant, device.id, context.peer, platform=params.platform, version=params.version,
        capabilities=params.capabilities, commands=params.commands,
    )  # fmt: skip
    wake = await rooms.voice.get(context.tenant)
    return wire.NodeWelcome(node_id=device.id, name=device.name, triggers=wake.triggers)


async def result(context: Context, params: wire.NodeResultParams) -> wire.Taken:
    """A node answers what it was asked."""
    error = None if params.error is None else (params.error.code, params.error.message)
    engines(context).nodes.answer(
        context.tenant, _own_device(context), params.id, result=params.result, error=error
    )  # fmt: skip
    return wire.Taken(ok=True)


async def get_wake(context: Context, params: NoParams) -> wire.WakeView:
    """The words that wake the tenant's devices."""
    return _wake(await engines(context).voice.get(context.tenant))


async def set_wake(context: Context, params: wire.WakeSetParams) -> wire.WakeView:
    """Set the words that wake the tenant's devices; they are pushed to devices and nodes."""
    return _wake(await engines(context).voice.set(context.tenant, params.triggers))


def claimed(status: str, device: Device | None, token: str | None) -> wire.PairClaimed:
    """How a request stands, as it goes out."""
    return wire.PairClaimed.model_validate(
        {"status": status, "device_id": device.id if device is not None else None, "token": token}
    )


def _devices(context: Context) -> Devices:
    return engines(context).devices


def _own_device(context: Context) -> str:
    device_id = device_of(context.token_name)
    if device_id is None:
        raise Forbidden("This is for a node with a token of its own: pair it first.")
    return device_id


async def _pairs(context: Context, params: wire.DevicePage, *, node: bool) -> wire.PairList:
    found = await _devices(context).list(context.tenant, role="node" if node else None)
    page, following = paged(found, lambda one: (one.name, one.id), params)
    waiting = [one for one in _devices(context).waiting(context.tenant) if not node or one.role == "node"]
    return wire.PairList(
        pending=tuple(map(_request, waiting)), paired=tuple(map(_device, page)), next=following
    )  # fmt: skip


def _request(asked: Asked) -> wire.PairRequest:
    return wire.PairRequest(
        request_id=asked.id, name=asked.name, platform=asked.platform, role=asked.role, member=asked.member,
        asked_at=_millis(asked.asked), expires_at=_millis(asked.expires),
    )  # fmt: skip


def _device(device: Device) -> wire.DeviceView:
    return wire.DeviceView(
        device_id=device.id, name=device.name, platform=device.platform, role=device.role, scopes=device.scopes,
        member=device.member, paired_at=_millis(device.paired), paired_by=device.paired_by,
        rotated_at=None if device.rotated is None else _millis(device.rotated), revoked=device.revoked is not None,
        revoked_at=None if device.revoked is None else _millis(device.revoked),
    )  # fmt: skip


def _node(context: Context, device: Device) -> wire.NodeView:
    live = engines(context).nodes.get(context.tenant, device.id)
    known = {"node_id": device.id, "name": device.name, "member": device.member, "revoked": device.revoked is not None}
    if live is None:
        return wire.NodeView.model_validate({**known, "platform": device.platform, "connected": False})
    return wire.NodeView.model_validate(
        {
            **known, "platform": live.platform or device.platform, "connected": True,
            "connected_at": _millis(live.since), "version": live.version, "capabilities": live.capabilities,
            "commands": live.commands,
        }
    )  # fmt: skip


def _wake(wake: Wake) -> wire.WakeView:
    return wire.WakeView(triggers=wake.triggers, updated_at=None if wake.updated is None else _millis(wake.updated))


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
