"""Answers what an account took in: chat by chat in the order of coming, several chats at a time.

Each step is written down before the next, so that a kill loses no message and asks no agent twice. A piece of an answer
that was on its way when the gateway died is sent again: the platform has no way to say whether it came.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import apsw
import structlog

from carrel.channels import book
from carrel.channels.book import Waiting
from carrel.channels.inbound import Chat
from carrel.channels.protocol import ChannelError, Link, Platform
from carrel.clock import Clock
from carrel.declare.channels import Channel
from carrel.errors import CarrelError, QuotaExceeded
from carrel.ids import RequestId, TenantId
from carrel.store.tenants import TenantDatabases
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Snapshot, Tenant

T = TypeVar("T")
AT_A_TIME: Final = 4
"""Chats of one account that are answered at a time."""
LONGEST_WAIT: Final = 300.0
NEW: Final = ("/new", "/reset")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """A message for an agent. ``key`` names the chat's session; ``again``: a gateway that died had asked it."""

    agent: str | None
    key: str
    text: str
    manner: str
    request_id: RequestId
    again: bool


class Speaks(Protocol):
    """The agents, as a channel needs them."""

    async def answer(self, tenant: Tenant, snapshot: Snapshot, question: Question) -> str:
        """The agent's answer; raises CarrelError."""
        ...

    async def reset(self, tenant: Tenant, agent: str | None, key: str) -> None:
        """Begin the session of that key anew."""
        ...


class Counts(Protocol):
    """Metrics."""

    def channel_message(self, tenant: TenantId, *, channel: str, outcome: str, count: int = 1) -> None:
        """Count messages: `taken`, then `answered` or `unsent`."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What every account works with."""

    directory: Directory
    databases: TenantDatabases
    clock: Clock
    tasks: Tasks
    speak: Speaks
    counts: Counts


class Answering:
    """The answers of one account of ``tenant``, which is ``account`` and as a bot ``place``."""

    def __init__(
        self, means: Means, tenant: Tenant, *, account: str, place: str, channel: Channel, link: Link,
        platform: Platform, told: Callable[[str | None], None],
    ) -> None:  # fmt: skip
        self._means = means
        self._tenant = tenant
        self._account = account
        self._place = place
        self._channel = channel
        self.link = link
        self._platform = platform
        self._told = told
        self._chats: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._troubled = False
        self._places = asyncio.Semaphore(AT_A_TIME)

    async def resume(self) -> None:
        """Go on with what waits since before."""
        self.wake(await self._run(lambda c: book.chats(c, self._place)))

    def wake(self, chats: Sequence[str] | frozenset[str]) -> None:
        """Something waits in ``chats``."""
        for chat in chats:
            if chat in self._chats:
                self._again.add(chat)
            else:
                self._chats[chat] = self._means.tasks.start(self._answer_chat(chat), name="chat")

    async def close(self) -> None:
        """Stop at once; what is unfinished is gone on with another time."""
        tasks = list(self._chats.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _answer_chat(self, chat: str) -> None:
        try:
            while True:
                self._again.discard(chat)
                async with self._places:
                    waiting = await self._run(
                        lambda c: book.begin(c, self._place, chat, now=self._means.clock.now())
                    )  # fmt: skip
                    if waiting is not None:
                        await self._answer(waiting)
                if waiting is None and chat not in self._again:
                    return
        except CarrelError as error:
            # Where the store fails nothing can be said of it: what waits is looked for at the next start.
            _log.error("a chat is not answered", tenant=self._tenant.id, account=self._account, reason=error.message)
            self._told(error.message)
        finally:
            del self._chats[chat]

    async def _answer(self, waiting: Waiting) -> None:
        number, answer = waiting.message.number, waiting.answer
        if answer is None:
            answer = await self._asked(waiting)
            kept = answer
            await self._run(lambda c: book.answered(c, self._place, number, kept))
        problem = await self._send_all(waiting, answer)
        now = self._means.clock.now()
        changes: dict[str, Any] = {"last_outbound": now} if problem is None else {"last_error": problem}
        await self._run(lambda c: book.finish(c, self._account, self._place, number, **changes))
        self._means.counts.channel_message(
            self._tenant.id, channel=self._account.partition("/")[0],
            outcome="answered" if problem is None else "unsent",
        )  # fmt: skip
        if problem is not None:
            self._tell(problem)
        elif self._troubled and waiting.answer is None:
            self._troubled = False
            self._told(None)

    def _tell(self, problem: str) -> None:
        self._troubled = True
        self._told(problem)

    async def _send_all(self, waiting: Waiting, answer: str) -> str | None:
        """Send what is not out of ``answer``; why that failed, None where it did not. Its end is noted elsewhere."""
        pieces = self.link.pieces(answer) or ("(The answer is empty.)",)
        for count in range(waiting.sent + 1, len(pieces) + 1):
            problem = await self._send(waiting, pieces[count - 1])
            if problem is not None:
                return problem
            if count < len(pieces):
                await self._run(partial(book.sent, place=self._place, number=waiting.message.number, pieces=count))
        return None

    async def _asked(self, waiting: Waiting) -> str:
        """What the agent answers, or a sentence on why there is no answer."""
        message, snapshot = waiting.message, self._means.directory.current
        word = message.text.strip().partition("@")[0].lower()
        begins = message.text.split(maxsplit=1)[0].partition("@")[0].lower() if message.text.strip() else ""
        key = f"{self._account}/{message.chat.key}"
        typing = self._means.tasks.start(self._type(message.chat), name="typing")
        try:
            tenant = snapshot.tenant(self._tenant.id).as_member(self._channel.member)
            if word in NEW:
                await self._means.speak.reset(tenant, self._channel.agent, key)
                return "A new conversation: I have forgotten what was said before."
            if begins == "/start":
                return "Hello! Write a message, and I answer. /new begins a new conversation."
            return await self._means.speak.answer(tenant, snapshot, self._question(waiting, key))
        except CarrelError as error:
            _log.warning(
                "a message got no answer", tenant=self._tenant.id, account=self._account, code=error.code,
                reason=error.message,
            )  # fmt: skip
            self._tell(f"{error.code}: {error.message}")
            return _sorry(error)
        finally:
            typing.cancel()

    def _question(self, waiting: Waiting, key: str) -> Question:
        message = waiting.message
        group = message.chat.kind == "group"
        text = f"{message.name or message.sender}: {message.text}" if group else message.text
        if message.unread is not None:
            text = f"[This came with a {message.unread.replace('_', ' ')}, which you cannot see.]\n{text}"
        where = "a group, in which each message begins with its sender's name" if group else "a direct chat"
        seed = f"{self._tenant.id}\0{self._place}\0{message.number}"
        return Question(
            agent=self._channel.agent, key=key, again=waiting.again,
            text=text,
            manner=f"You speak with people over {self._platform.label}, in {where}. {self._platform.manner}",
            request_id=RequestId(f"req_{hashlib.sha256(seed.encode()).hexdigest()[:24]}"),
        )  # fmt: skip

    async def _send(self, waiting: Waiting, piece: str) -> str | None:
        """Send ``piece``, again and again while that may help; why it was not sent, None where it was."""
        pause = 1.0
        while True:
            try:
                await self.link.send(waiting.message.chat, piece, answers=waiting.message.message)
            except ChannelError as error:
                if not error.retryable:
                    return error.message
                self._tell(error.message)
                await self._means.clock.sleep(error.retry_after if error.retry_after is not None else pause)
                pause = min(pause * 2, LONGEST_WAIT)
            else:
                return None

    async def _type(self, chat: Chat) -> None:
        while True:
            with contextlib.suppress(ChannelError):
                await self.link.typing(chat)
            await self._means.clock.sleep(self._platform.typing_seconds)

    async def _run(self, work: Callable[[apsw.Connection], T]) -> T:
        return await self._means.databases.run(self._tenant, work)


def _sorry(error: CarrelError) -> str:
    if isinstance(error, QuotaExceeded):
        again = error.reset_at.strftime("%Y-%m-%d %H:%M UTC")
        return f"The limit of use is reached ({error.quota}). I can answer again from {again}."
    if error.retryable:
        return "I cannot answer just now. Please try again in a moment."
    return "Something went wrong, and I have no answer. Whoever runs me can see why."
