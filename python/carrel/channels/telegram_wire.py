"""Shapes of the Telegram Bot API (https://core.telegram.org/bots/api): updates in, pieces of text out. No sockets."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carrel.channels.inbound import Batch, Chat, Inbound
from carrel.channels.protocol import Identity

MOST: Final = 4096
"""The longest message, in UTF-16 code units, as offsets are counted there."""
MEDIA: Final = (
    "photo", "voice", "video", "video_note", "audio", "document", "sticker", "animation", "location", "contact", "poll",
    "venue", "dice", "game", "story", "paid_media",
)  # fmt: skip
_NAME: Final = 64


class _Vendor(BaseModel):
    """What they add later is no error."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)


class User(_Vendor):
    """`User`."""

    id: int
    is_bot: bool = False
    first_name: str = ""
    last_name: str = ""
    username: str = ""


class Place(_Vendor):
    """`Chat`."""

    id: int
    type: str


class Entity(_Vendor):
    """`MessageEntity`; ``offset`` and ``length`` in UTF-16 code units."""

    type: str
    offset: int
    length: int
    user: User | None = None


class Replied(_Vendor):
    """What of the `Message` that is replied to matters."""

    sender: User | None = Field(None, alias="from")


class Message(_Vendor):
    """`Message`."""

    message_id: int
    message_thread_id: int | None = None
    is_topic_message: bool = False
    sender: User | None = Field(None, alias="from")
    chat: Place
    text: str = ""
    entities: tuple[Entity, ...] = ()
    caption: str = ""
    caption_entities: tuple[Entity, ...] = ()
    reply_to_message: Replied | None = None


class Parameters(_Vendor):
    """`ResponseParameters`."""

    retry_after: int | None = None
    migrate_to_chat_id: int | None = None


class Reply(_Vendor):
    """What every method answers."""

    ok: bool
    result: Any = None
    error_code: int | None = None
    description: str = ""
    parameters: Parameters = Parameters()


def batch(updates: Sequence[Any], me: Identity) -> Batch:
    """The messages in ``updates``; what is none is left out, and is behind us all the same."""
    numbers = [u["update_id"] for u in updates if isinstance(u, dict) and isinstance(u.get("update_id"), int)]
    found = (inbound(update, me) for update in updates if isinstance(update, dict))
    messages = tuple(one for one in found if one is not None)
    return Batch(messages=messages, following=max(numbers) + 1 if numbers else None)


def inbound(update: dict[str, Any], me: Identity) -> Inbound | None:
    """The message of a person in ``update``, None where there is none."""
    number, raw = update.get("update_id"), update.get("message")
    if not isinstance(number, int) or not isinstance(raw, dict):
        return None
    try:
        message = Message.model_validate(raw)
    except ValidationError:
        return None
    sender = message.sender
    direct = message.chat.type == "private"
    if sender is None or sender.is_bot or not (direct or message.chat.type in ("group", "supergroup")):
        return None
    text = _whole(message.text or message.caption)
    unread = next((kind for kind in MEDIA if raw.get(kind) is not None), None)
    if not text and unread is None:
        return None  # somebody came, a title was changed: nothing that was said
    thread = str(message.message_thread_id) if message.is_topic_message and message.message_thread_id else None
    return Inbound(
        number=number,
        chat=Chat(id=str(message.chat.id), kind="direct" if direct else "group", thread=thread),
        sender=str(sender.id),
        name=_name(sender),
        text=text,
        message=str(message.message_id),
        addressed=direct or _addressed(message, text, me),
        unread=unread if not message.text else None,
    )


def _addressed(message: Message, text: str, me: Identity) -> bool:
    replied = message.reply_to_message
    if replied is not None and replied.sender is not None and str(replied.sender.id) == me.id:
        return True
    units = text.encode("utf-16-le", "surrogatepass")
    name = f"@{me.name}".lower()
    for entity in (*message.entities, *message.caption_entities):
        said = units[2 * entity.offset : 2 * (entity.offset + entity.length)].decode("utf-16-le", "replace").lower()
        match entity.type:
            case "mention" if said == name:
                return True
            case "bot_command" if said.endswith(name):
                return True
            case "text_mention" if entity.user is not None and str(entity.user.id) == me.id:
                return True
    return False


def _whole(text: str) -> str:
    """``text`` with a mark in place of each half of a surrogate pair, which no file and no model takes."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _name(user: User) -> str:
    """How somebody calls themself, on one line; a name proves nothing."""
    said = " ".join(f"{user.first_name} {user.last_name}".split()) or user.username
    return "".join(letter for letter in said if letter.isprintable())[:_NAME]


def pieces(text: str) -> tuple[str, ...]:
    """``text`` in messages of `MOST` at most, cut between paragraphs, lines or words where that is possible."""
    return tuple(_pieces(text.strip()))


def _pieces(rest: str) -> Iterator[str]:
    while rest:
        fits = _fitting(rest)
        if fits < len(rest):
            cuts = (rest.rfind(border, fits // 2, fits) for border in ("\n\n", "\n", " "))
            fits = next((cut for cut in cuts if cut > 0), fits)
        piece, rest = rest[:fits].rstrip(), rest[fits:].lstrip()
        if piece:
            yield piece


def _fitting(text: str) -> int:
    """How many characters of ``text`` are a message."""
    units = 0
    for index, letter in enumerate(text):
        units += 2 if ord(letter) > 0xFFFF else 1
        if units > MOST:
            return index
    return len(text)
