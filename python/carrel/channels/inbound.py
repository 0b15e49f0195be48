"""What comes in from a platform, in no platform's own shape: kept as it is until it is answered."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Chat(_Kept):
    """Where something was said. ``thread`` is a topic within a group."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    kind: Literal["direct", "group"]
    thread: Annotated[str, Field(max_length=64)] | None = None

    @property
    def key(self) -> str:
        """What tells it from every other chat of the same account."""
        thread = f"/{self.thread}" if self.thread is not None else ""
        return f"{'dm' if self.kind == 'direct' else 'group'}/{self.id}{thread}"


class Inbound(_Kept):
    """One message. ``number`` tells it from all others that the bot gets, and grows.

    ``addressed``: it is meant for the bot, as everything in a direct chat is. ``unread`` names what it holds that is no
    text, where it holds no text.
    """

    number: int
    chat: Chat
    sender: Annotated[str, Field(min_length=1, max_length=64)]
    name: str = ""
    text: str = ""
    message: str = ""
    addressed: bool = True
    unread: str | None = None


class Batch(_Kept):
    """What came at one time. ``following`` is the number to go on from, None where nothing came."""

    messages: tuple[Inbound, ...] = ()
    following: int | None = None
