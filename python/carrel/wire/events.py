"""The kinds of events that are told to those who listen to a tenant."""

from typing import Final

KINDS: Final = (
    "session.started", "session.text", "session.thinking", "session.notice", "session.tool.started",
    "session.tool.output", "session.tool.finished", "session.finished", "session.failed", "session.cancelled",
    "session.created", "session.reset", "session.deleted", "session.compacted",
    "channels.changed", "channels.pairing",
    "cron.added", "cron.updated", "cron.removed", "cron.started", "cron.finished",
    "memory.added", "memory.forgotten",
    "device.pair.requested", "device.pair.rejected", "device.paired", "device.renamed", "device.rotated",
    "device.revoked",
    "node.connected", "node.disconnected", "voicewake.changed", "connections.changed",
    "skill.installed", "skill.updated", "skill.removed", "config.changed",
    "agent.created", "agent.updated", "agent.deleted", "agent.file",
    "terminal.started", "terminal.ended",
    "quota.warning", "quota.asked", "quota.decided",
)  # fmt: skip
