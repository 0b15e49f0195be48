"""Whether a message is taken in: a pure decision from what is declared and who was paired."""

from typing import Final, Literal

from carrel.channels.inbound import Inbound
from carrel.declare.channels import Channel

Verdict = Literal["admit", "pair", "ignore"]
PAIRED_FOR: Final = "pairing"
"""The only policy under which who was approved may write."""


def verdict(channel: Channel, message: Inbound, *, paired: bool) -> Verdict:
    """``admit`` it, offer the sender a code to be approved by (``pair``), or ``ignore`` it without a word."""
    if message.chat.kind == "group":
        # Anybody can put a bot into a group of their own: only groups that are named are listened to.
        named = message.chat.id in {str(group) for group in channel.groups}
        return "admit" if named and message.addressed else "ignore"
    if channel.dm_policy == "disabled":
        return "ignore"
    known = message.sender in {str(person) for person in channel.allow_from}
    if known or channel.dm_policy == "open" or (paired and channel.dm_policy == PAIRED_FOR):
        return "admit"
    return "pair" if channel.dm_policy == PAIRED_FOR else "ignore"
