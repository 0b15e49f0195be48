"""`carrel chat`: a conversation with one of a tenant's agents."""

import asyncio
import contextlib
import json
import sys
from contextlib import aclosing
from typing import Annotated, Any

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import Client, understand
from carrel.cli.failures import DONE, INTERRUPTED, NotUnderstood, Refused, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order, tenant_path
from carrel.cli.talk import TurnView
from carrel.cli.tenants import TenantArgument
from carrel.wire.control import ChatEvent, ChatOrder


def chat(
    tenant: TenantArgument,
    message: Annotated[
        str | None,
        Parameter(
            name="MESSAGE",
            help="What to say; `-` reads it from standard input. Without it, and on a terminal, a conversation.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    /,
    *,
    session: Annotated[str | None, Parameter(help="The session to go on with; else a new one.")] = None,
    agent: Annotated[str | None, Parameter(help="The agent to talk to; else the tenant's `main`.")] = None,
    member: Annotated[str | None, Parameter(help="The person of the tenant's `members` to speak as.")] = None,
    target: Target = HERE,
) -> int:
    """Talk to an agent of a tenant. The answer and its tool calls are shown as they come; Ctrl-C stops the agent."""
    conversation = Conversation(target, tenant, session=session, agent=agent, member=member)
    if message is None and sys.stdin.isatty():
        return conversation.hold()
    text = sys.stdin.read() if message in (None, "-") else message
    if not text or not text.strip():
        raise WrongUsage("There is nothing to say: give a message, or write it to standard input.")
    return conversation.turn(text)


class Conversation:
    """Turns of one session, shown as they happen."""

    def __init__(
        self, target: Target, tenant: str, *, session: str | None, agent: str | None, member: str | None = None
    ) -> None:
        self._target = target
        self._path = tenant_path(tenant, "chat")
        self._tenant = tenant
        self._agent = agent
        self._member = member
        self.session = session

    def hold(self) -> int:
        """Take messages and have them answered until the end of input, or an interrupt while nothing runs."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401, PLC0415 - its import alone gives `input` arrows and a history
        screen.note(f"Talking to {self._tenant}. Ctrl-C stops an answer, Ctrl-D ends.")
        while True:
            try:
                text = input("> ")
            except (EOFError, KeyboardInterrupt):
                screen.say()
                return DONE
            if text.strip():
                self._try(text)

    def _try(self, text: str) -> None:
        try:
            self.turn(text)
        except Refused as error:
            screen.complain(error.message)

    def turn(self, text: str) -> int:
        """Say ``text``, show the answer, and give the exit code."""
        try:
            return asyncio.run(self._turn(text))
        except KeyboardInterrupt:
            screen.complain("stopped")
            return INTERRUPTED

    async def _turn(self, text: str) -> int:
        given = {"message": text, "session": self.session, "agent": self._agent, "member": self._member}
        wanted = order(ChatOrder, {key: value for key, value in given.items() if value is not None})
        view = TurnView()
        last: ChatEvent | None = None
        async with Client(self._target) as client, aclosing(client.events(self._path, wanted)) as events:
            try:
                async for sent in events:
                    document = _document(sent.data)
                    last = understand(ChatEvent, document)
                    self.session = last.session or self.session
                    if self._target.json:
                        screen.show_json(document, indent=None)
                    else:
                        view.show(last)
            finally:
                if not self._target.json:
                    view.close()
        if last is not None and last.kind == "error":
            raise Refused(last.text or "The turn failed.", code=last.code or "refused")
        if last is None or last.kind != "finished":
            raise Refused("The answer was cut off before its end.", code="connection_lost")
        return DONE


def _document(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise NotUnderstood("The gateway sent an event that is not JSON.") from error
