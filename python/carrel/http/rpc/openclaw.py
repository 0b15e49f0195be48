"""The names that clients of OpenClaw and of its multi-tenant fork use, beside our own. Pure.

A call may be made in their words or in ours; an answer has both. Where one of their words has no meaning here it is
refused by name, and never passed over. `docs/howto/openclaw-clients.md` has the table.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from carrel.errors import CarrelError, InvalidRequest
from carrel.ids import TenantId
from carrel.imports import json5

Json = dict[str, Any]
MAIN_SESSION: Final = "main"
"""The session that a job with their target ``main`` says its message in, run after run."""
WORKSPACE: Final = "/workspace"


def asked(method: str, given: Mapping[str, Any]) -> Json:
    """The parameters ``given`` to ``method`` in our words; raises InvalidRequest for what cannot be honoured."""
    fields = dict(given)
    translate = _ASKED.get(method)
    if translate is not None:
        translate(fields)
    return fields


def answered(method: str, tenant: TenantId, value: Json) -> Json:
    """The answer ``value`` of ``method``, with their words beside ours. Ours are as they were."""
    translate = _ANSWERED.get(method)
    return value if translate is None else {**translate(tenant, value), **value}


# --- what is asked ---


def _raw(into: str) -> Callable[[Json], None]:
    """`{raw, note?}`: their configuration as JSON5 text."""

    def translate(fields: Json) -> None:
        if "raw" not in fields:
            return
        text = fields.pop("raw")
        fields.pop("note", None)
        if not isinstance(text, str):
            raise InvalidRequest("`raw` is the configuration as JSON or JSON5 text.", param="raw")
        try:
            found = json5.parse(text)
        except (ValueError, CarrelError) as error:
            raise InvalidRequest(f"`raw` is no JSON5: {error}", param="raw") from None
        if not isinstance(found, dict):
            raise InvalidRequest("`raw` is an object: keys that a tenant may set, with their values.", param="raw")
        fields[into] = found

    return translate


def _agent_created(fields: Json) -> None:
    if "workspace" in fields and isinstance(fields.get("name"), str):
        # They, who always say a workspace, take a name for people and make an id of it.
        fields["name"] = "-".join(fields["name"].lower().split())
    _one_workspace(fields)
    _chosen_model(fields)


def _agent_updated(fields: Json) -> None:
    _one_workspace(fields)
    _chosen_model(fields)


def _one_workspace(fields: Json) -> None:
    where = fields.pop("workspace", None)
    if where not in (None, "", WORKSPACE):
        raise InvalidRequest(
            f"`workspace`: agents of a tenant share {WORKSPACE}; leave it out.", param="workspace"
        )  # fmt: skip
    for name in ("emoji", "avatar"):
        if fields.pop(name, None) not in (None, ""):
            raise InvalidRequest(
                f"`{name}` is not kept with an agent: write it into IDENTITY.md with agents.files.set.", param=name
            )


def _chosen_model(fields: Json) -> None:
    model = fields.get("model")
    if isinstance(model, dict):
        if model.get("fallbacks"):
            raise InvalidRequest("`model.fallbacks` is the operator's to set.", param="model.fallbacks")
        fields["model"] = model.get("primary")


def _agent_deleted(fields: Json) -> None:
    if "deleteFiles" in fields:
        goes = fields.pop("deleteFiles")
        if not isinstance(goes, bool):
            raise InvalidRequest("`deleteFiles`: true or false is wanted.", param="deleteFiles")
        fields["keepFiles"] = not goes


def _renamed(**names: str) -> Callable[[Json], None]:
    """Their name -> ours, where ours is not there."""

    def translate(fields: Json) -> None:
        for theirs, ours in names.items():
            if theirs in fields and ours not in fields:
                fields[ours] = fields.pop(theirs)

    return translate


def _job_added(fields: Json) -> None:
    _job_schedule(fields)
    payload = fields.pop("payload", None)
    if payload is not None:
        _job_payload(fields, payload)
    target = fields.pop("sessionTarget", None)
    if target == MAIN_SESSION:
        fields.setdefault("sessionId", MAIN_SESSION)
    elif target not in (None, "isolated"):
        raise InvalidRequest("`sessionTarget` is `main` or `isolated`.", param="sessionTarget")
    if fields.pop("wakeMode", "now") not in ("now", "next-heartbeat"):
        raise InvalidRequest("`wakeMode` is `now` or `next-heartbeat`.", param="wakeMode")
    delivery = fields.pop("delivery", None)
    if delivery is not None and (not isinstance(delivery, dict) or delivery.get("mode", "none") != "none"):
        raise InvalidRequest(
            "`delivery`: what a job answers is kept with its run (cron.runs) and told as an event; it is not sent on.",
            param="delivery",
        )


def _job_payload(fields: Json, payload: Any) -> None:
    if not isinstance(payload, dict) or payload.get("kind") not in ("agentTurn", "systemEvent"):
        raise InvalidRequest("`payload.kind` is `agentTurn` or `systemEvent`.", param="payload.kind")
    for name in ("model", "thinking"):
        if payload.get(name) is not None:
            raise InvalidRequest(
                f"`payload.{name}`: a job runs as its agent does; make an agent for it.", param=f"payload.{name}"
            )
    said = payload.get("message" if payload["kind"] == "agentTurn" else "text")
    if said is not None:
        fields.setdefault("message", said)
    if payload.get("timeoutSeconds") is not None:
        fields.setdefault("timeoutSeconds", payload["timeoutSeconds"])


def _job_schedule(fields: Json) -> None:
    schedule = fields.get("schedule")
    if not isinstance(schedule, dict):
        return
    schedule = dict(schedule)
    if schedule.get("kind") == "at":
        at = schedule.pop("atMs", schedule.get("at"))
        schedule["at"] = _moment(at) if isinstance(at, int) and not isinstance(at, bool) else at
    if "everyMs" in schedule:
        every = schedule.pop("everyMs")
        if not isinstance(every, int) or isinstance(every, bool) or every % 1000:
            raise InvalidRequest("`schedule.everyMs`: whole seconds are wanted.", param="schedule.everyMs")
        schedule["everySeconds"] = every // 1000
    if "anchorMs" in schedule:
        schedule["anchor"] = _moment(schedule.pop("anchorMs"))
    if "cron" in schedule and "expr" not in schedule:
        schedule["expr"] = schedule.pop("cron")
    fields["schedule"] = schedule


def _moment(ms: Any) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        raise InvalidRequest("`schedule`: milliseconds since the epoch are wanted.", param="schedule") from None


def _job_updated(fields: Json) -> None:
    _job(fields)
    patch = fields.pop("patch", None)
    if patch is not None:
        if not isinstance(patch, dict):
            raise InvalidRequest("`patch` is an object with what to change.", param="patch")
        for name, value in patch.items():
            fields.setdefault(name, value)
    _job_added(fields)


_job = _renamed(id="jobId")


def _skill_updated(fields: Json) -> None:
    _renamed(skillKey="name")(fields)
    for name in ("apiKey", "env"):
        if fields.pop(name, None):
            raise InvalidRequest(
                f"`{name}`: what runs in a sandbox holds no credential; `carrel secrets set` keeps it and "
                "`egress.inject` puts it in on the way out.",
                param=name,
            )


def _device_role(fields: Json) -> None:
    """`{deviceId, role, scopes?}`: a device has one token here, with the role that it was paired for."""
    if fields.pop("role", None) not in (None, "operator", "node"):
        raise InvalidRequest("`role` is `operator` or `node`.", param="role")
    if fields.pop("scopes", None):
        raise InvalidRequest("`scopes` stay as they were approved: pair the device anew for others.", param="scopes")


def _node_asked(fields: Json) -> None:
    named = fields.pop("displayName", None) or fields.pop("nodeId", None)
    fields.pop("nodeId", None)
    if named is not None:
        fields.setdefault("name", named)
    # What a node offers it says when it connects.
    for name in ("version", "caps", "commands", "deviceFamily", "modelIdentifier", "silent", "coreVersion",
                 "uiVersion", "permissions", "remoteIp"):  # fmt: skip
        fields.pop(name, None)


_ASKED: Final[Mapping[str, Callable[[Json], None]]] = {
    "config.set": _raw("config"),
    "config.patch": _raw("patch"),
    "agents.create": _agent_created,
    "agents.update": _agent_updated,
    "agents.delete": _agent_deleted,
    "cron.add": _job_added,
    "cron.update": _job_updated,
    "cron.remove": _job,
    "cron.run": _job,
    "cron.runs": _job,
    "skills.update": _skill_updated,
    "device.token.rotate": _device_role,
    "device.token.revoke": _device_role,
    "node.pair.request": _node_asked,
    "node.rename": _renamed(displayName="name"),
}


# --- what is answered ---


def _tenant(tenant: TenantId, value: Json) -> Json:
    return {"stateDir": f"tenants/{tenant}"}


def _usage(tenant: TenantId, value: Json) -> Json:
    return {
        "cacheReadTokens": value["cachedTokens"],
        **({"diskUsageBytes": value["diskBytes"]} if "diskBytes" in value else {}),
    }


def _config(tenant: TenantId, value: Json) -> Json:
    overlay = value.get("overlay", {})
    return {
        "path": "config.yaml", "exists": bool(overlay), "raw": json.dumps(overlay, indent=2, ensure_ascii=False),
        "parsed": overlay, "isTenantOverlay": True, "ok": True,
    }  # fmt: skip


def _agents(tenant: TenantId, value: Json) -> Json:
    for one in value["agents"]:
        one.update({"id": one["agentId"], "workspace": WORKSPACE})
    return {"mainKey": MAIN_SESSION, "scope": "per-sender"}


def _agent(tenant: TenantId, value: Json) -> Json:
    return {"ok": True, "workspace": WORKSPACE}


def _agent_gone(tenant: TenantId, value: Json) -> Json:
    return {"removedBindings": 0}


def _files(tenant: TenantId, value: Json) -> Json:
    for one in value["files"]:
        _file(one)
    return {"workspace": WORKSPACE}


def _one_file(tenant: TenantId, value: Json) -> Json:
    _file(value["file"])
    return {"ok": True, "workspace": WORKSPACE}


def _file(one: Json) -> None:
    one["path"] = one["name"]
    if "updatedAt" in one:
        one["updatedAtMs"] = one["updatedAt"]


def _as_job(one: Json) -> Json:
    schedule = one["schedule"]
    if schedule["kind"] == "every":
        schedule["everyMs"] = schedule["everySeconds"] * 1000
        schedule["anchorMs"] = int(datetime.fromisoformat(schedule["anchor"]).timestamp() * 1000)
    state = {"nextRunAtMs": one["nextRunAt"]} if "nextRunAt" in one else {}
    return {
        "id": one["jobId"], "sessionTarget": MAIN_SESSION if "sessionId" in one else "isolated", "wakeMode": "now",
        "payload": {"kind": "agentTurn", "message": one["message"], "timeoutSeconds": one["timeoutSeconds"]},
        "delivery": {"mode": "none"}, "createdAtMs": one["createdAt"], "updatedAtMs": one["updatedAt"], "state": state,
    }  # fmt: skip


def _new_job(tenant: TenantId, value: Json) -> Json:
    return _as_job(value)


def _jobs(tenant: TenantId, value: Json) -> Json:
    for one in value["jobs"]:
        one.update(_as_job(one))
    return {}


_RUN_STATES: Final = {"ok": "ok", "skipped": "skipped"}


def _runs(tenant: TenantId, value: Json) -> Json:
    return {"entries": [_entry(one) for one in value["runs"] if "endedAt" in one]}


def _entry(one: Json) -> Json:
    status = _RUN_STATES.get(one["status"], "error")
    return {
        "ts": one["endedAt"], "jobId": one["jobId"], "action": "finished", "status": status,
        ("error" if status == "error" else "summary"): one["text"], "runAtMs": one["beganAt"],
        "durationMs": one["endedAt"] - one["beganAt"],
        **({"sessionId": one["sessionId"]} if "sessionId" in one else {}),
    }  # fmt: skip


def _cron_status(tenant: TenantId, value: Json) -> Json:
    return {"nextWakeAtMs": value["nextRunAt"]} if "nextRunAt" in value else {}


def _as_skill(one: Json) -> Json:
    return {
        "skillKey": one["name"], "source": "managed", "bundled": False, "filePath": f"plugins/{one['name']}/SKILL.md",
        "always": False, "disabled": not one["enabled"], "blockedByAllowlist": False,
        "eligible": one["enabled"] and not one["missing"], "requirements": {"bins": one["bins"]}, "install": [],
    }  # fmt: skip


def _skills(tenant: TenantId, value: Json) -> Json:
    for one in value["skills"]:
        one.update({**_as_skill(one), **one})
    return {"workspaceDir": WORKSPACE}


def _skill_done(tenant: TenantId, value: Json) -> Json:
    return {
        **_as_skill(value), "ok": True, "message": f"{value['name']} is installed.", "stdout": "", "stderr": "",
        "code": 0,
    }  # fmt: skip


def _skill(tenant: TenantId, value: Json) -> Json:
    return {**_as_skill(value), "ok": True}


def _as_device(one: Json) -> Json:
    token = {
        "role": one["role"], "scopes": one["scopes"], "createdAtMs": one["pairedAt"],
        **({"rotatedAtMs": one["rotatedAt"]} if "rotatedAt" in one else {}),
        **({"revokedAtMs": one["revokedAt"]} if "revokedAt" in one else {}),
    }  # fmt: skip
    return {
        "displayName": one["name"], "roles": [one["role"]], "tokens": [token], "createdAtMs": one["pairedAt"],
        "approvedAtMs": one["pairedAt"],
    }  # fmt: skip


def _pairs(tenant: TenantId, value: Json) -> Json:
    for one in value["pending"]:
        one.update(
            {"displayName": one["name"], "roles": [one["role"]], "ts": one["askedAt"], "nodeId": one["requestId"]}
        )
    for one in value["paired"]:
        one.update(_as_device(one))
        one["nodeId"] = one["deviceId"]
    return {}


def _device(tenant: TenantId, value: Json) -> Json:
    return {**_as_device(value), "device": {**value, **_as_device(value)}}


def _approved_node(tenant: TenantId, value: Json) -> Json:
    return {**_as_device(value), "node": {**value, **_as_device(value), "nodeId": value["deviceId"]}}


def _asked_node(tenant: TenantId, value: Json) -> Json:
    return {"status": "pending", "created": True, "request": {"requestId": value["requestId"]}}


def _verified(tenant: TenantId, value: Json) -> Json:
    if "node" in value:
        value["node"].update(_as_node(value["node"]))
    return {"ok": value["status"] == "approved"}


def _as_node(one: Json) -> Json:
    return {
        "displayName": one["name"], "caps": one["capabilities"], "permissions": {}, "paired": not one["revoked"],
        **({"connectedAtMs": one["connectedAt"]} if "connectedAt" in one else {}),
    }  # fmt: skip


def _nodes(tenant: TenantId, value: Json) -> Json:
    for one in value["nodes"]:
        one.update(_as_node(one))
    return {}


def _node(tenant: TenantId, value: Json) -> Json:
    return _as_node(value)


def _rotated(tenant: TenantId, value: Json) -> Json:
    return {"rotatedAtMs": value["rotatedAt"]}


def _invoked(tenant: TenantId, value: Json) -> Json:
    payload = value.get("result")
    return {"ok": True, "payload": payload, "payloadJSON": json.dumps(payload, ensure_ascii=False)}


_ANSWERED: Final[Mapping[str, Callable[[TenantId, Json], Json]]] = {
    "tenants.get": _tenant,
    "tenants.usage": _usage,
    "config.get": _config,
    "config.set": _config,
    "config.patch": _config,
    "agents.list": _agents,
    "agents.create": _agent,
    "agents.update": _agent,
    "agents.delete": _agent_gone,
    "agents.files.list": _files,
    "agents.files.get": _one_file,
    "agents.files.set": _one_file,
    "cron.list": _jobs,
    "cron.add": _new_job,
    "cron.update": _new_job,
    "cron.runs": _runs,
    "cron.status": _cron_status,
    "skills.status": _skills,
    "skills.install": _skill_done,
    "skills.update": _skill,
    "device.pair.list": _pairs,
    "device.pair.approve": _device,
    "device.token.rotate": _rotated,
    "device.token.revoke": _device,
    "node.pair.list": _pairs,
    "node.pair.approve": _approved_node,
    "node.pair.request": _asked_node,
    "node.pair.verify": _verified,
    "node.list": _nodes,
    "node.describe": _node,
    "node.rename": _node,
    "node.invoke": _invoked,
}
