"""The bytes of an answer, to a caller that is a list."""

import asyncio
import re

import pytest

from carrel.ids import RequestId
from carrel.relay.answer import Answer, CallerGone


class Listener:
    """A caller that keeps what it is given. ``slow``: it never takes it."""

    def __init__(self, *, modern: bool = True, keeps: bool = True, slow: bool = False) -> None:
        self.modern = modern
        self.keeps = keeps
        self.paused = slow
        self.gone = False
        self.heard: list[bytes] = []

    def lines(self) -> str:
        return "X-Edge: e\r\n"

    def put(self, data: bytes) -> None:
        if self.gone:
            raise CallerGone
        self.heard.append(data)

    async def drained(self) -> None:
        await asyncio.get_running_loop().create_future()

    def abort(self) -> None:
        self.gone = True


def answer_to(listener: Listener, *, stall_seconds: float = 60.0) -> Answer:
    return Answer(
        listener, status=200, content_type="text/plain", request_id=RequestId("req_1"), provider_request_id="p1",
        stall_seconds=stall_seconds,
    )  # fmt: skip


def undated(data: bytes) -> bytes:
    return re.sub(rb"Date: [^\r]+\r\n", b"Date: D\r\n", data)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Request-Id: req_1\r\nX-Provider-Request-Id: p1\r\n"
END = b"Date: D\r\nX-Edge: e\r\n\r\n"


async def test_head_and_body_go_in_one_write() -> None:
    listener = Listener()
    answer = answer_to(listener)
    answer.begin(length=5)
    before = answer.started
    answer.finish(b"hello")
    assert (before, answer.started) == (False, True)
    assert [undated(data) for data in listener.heard] == [HEAD + b"Content-Length: 5\r\n" + END + b"hello"]
    assert listener.keeps


async def test_chunks_where_the_length_is_not_known() -> None:
    listener = Listener()
    answer = answer_to(listener)
    answer.begin(more="Cache-Control: no-cache\r\n")
    await answer.send(b"")
    assert not answer.started
    await answer.send(b"hel")
    answer.finish(b"lo")
    assert [undated(data) for data in listener.heard] == [
        HEAD + b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n" + END + b"3\r\nhel\r\n",
        b"2\r\nlo\r\n0\r\n\r\n",
    ]
    assert listener.keeps


async def test_the_connections_end_is_the_answers_where_nothing_else_can_be() -> None:
    old = Listener(modern=False)
    answer = answer_to(old)
    answer.begin()
    await answer.send(b"hel")
    answer.finish(b"lo")
    assert b"".join(old.heard).endswith(b"\r\n\r\nhello")
    assert b"Connection: close\r\n" in old.heard[0]
    assert not old.keeps
    asked, last = Listener(modern=False), Listener(keeps=False)
    for listener, said in ((asked, b"Connection: keep-alive\r\n"), (last, b"Connection: close\r\n")):
        answer = answer_to(listener)
        answer.begin(length=0)
        answer.finish()
        assert said in listener.heard[0]
    assert (asked.keeps, last.keeps) == (True, False)


async def test_a_cut_answer_has_no_end() -> None:
    listener = Listener()
    answer = answer_to(listener)
    answer.begin()
    await answer.send(b"part")
    answer.cut(b"why")
    assert listener.heard[-1] == b"3\r\nwhy\r\n"
    assert not listener.keeps


async def test_a_caller_that_is_gone() -> None:
    listener = Listener()
    answer = answer_to(listener)
    answer.begin()
    listener.gone = True
    with pytest.raises(CallerGone):
        await answer.send(b"x")


async def test_a_caller_that_takes_nothing_is_cut_off() -> None:
    listener = Listener(slow=True)
    answer = answer_to(listener, stall_seconds=0.01)
    answer.begin()
    with pytest.raises(CallerGone):
        await answer.send(b"x")
    assert listener.gone
