import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.rate_card import TokenCounts
from carrel.errors import UpstreamError
from carrel.relay.dialects.chat import ChatFields, ChatObserver
from carrel.relay.observe import MAX_EVENT

USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
COUNTS = TokenCounts(input=10, output=4)
CHAT = ChatFields(model="m")


def event(value: Any, end: str = "\n\n") -> bytes:
    return f"data: {value if isinstance(value, str) else json.dumps(value)}{end}".encode()


def delta(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}


def watch(data: bytes, size: int, *, hide: bool) -> tuple[ChatObserver, bytes]:
    observer, out = ChatObserver(hide_usage=hide), b""
    for at in range(0, len(data), size):
        out += observer.feed(data[at : at + size])
    return observer, out + observer.finish() + observer.held


STREAM = (
    event(delta("a")) + b": comment\n\n" + event(delta('say \\"usage\\": {"prompt_tokens": 99} [DONE]'))
    + event(delta("", "stop"))
)  # fmt: skip


@pytest.mark.parametrize("hide", [False, True])
@given(size=st.integers(1, 400), end=st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"]))
def test_a_stream_in_pieces_of_any_size(size: int, end: str, *, hide: bool) -> None:
    last, done = event({"choices": [], "usage": USAGE}), event("[DONE]")
    data = (STREAM + last + done).replace(b"\n\n", end.encode())
    observer, out = watch(data, size, hide=hide)
    assert observer.done
    assert observer.finished
    assert observer.seen.counts == COUNTS
    assert observer.held == done.replace(b"\n\n", end.encode())
    assert out == data if not hide else out == data.replace(last.replace(b"\n\n", end.encode()), b"")


@pytest.mark.parametrize("chunk", [
    delta("", "stop", usage=USAGE), {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]},
    delta("", "stop", x_groq={"usage": USAGE}),
])  # fmt: skip
def test_usage_beside_a_choice_passes(chunk: Any) -> None:
    data = event(chunk) + event("[DONE]")
    observer, out = watch(data, 10_000, hide=True)
    assert out == data
    assert observer.seen.counts == COUNTS


def test_the_last_usage_counts() -> None:
    parts = [event(delta("x", usage={**USAGE, "completion_tokens": n})) for n in range(5)]
    observer, _ = watch(b"".join(parts), 64, hide=True)
    assert observer.seen.counts == COUNTS


def test_nothing_is_passed_on_before_its_event_is_whole() -> None:
    observer = ChatObserver(hide_usage=True)
    assert observer.feed(b'data: {"choices": [], "us') == b""
    assert observer.feed(b'age": {"prompt_tokens": 1}}\n') == b""
    assert observer.feed(b"\ndata: x\n\n") == b"data: x\n\n"


def test_after_the_end_nothing_passes() -> None:
    observer, out = watch(event("[DONE]") + event(delta("more")), 10_000, hide=True)
    assert out == event("[DONE]")
    assert observer.feed(b"data: y\n\n") == b""


def test_a_stream_without_a_last_blank_line() -> None:
    observer, out = watch(event(delta("x")) + event(delta("", "stop"), end="\n"), 10, hide=True)
    assert out.endswith(b"\n")
    assert observer.finished


def test_errors_and_what_is_no_json() -> None:
    observer, out = watch(event({"error": {"message": "x"}}) + event("{broken [DONE]") + event("[1]"), 30, hide=True)
    assert observer.seen.error
    assert out.count(b"data:") == 3
    assert not observer.done


def test_tool_calls_are_counted_once() -> None:
    def call(index: int | None, name: str | None, call_id: str | None) -> bytes:
        one: dict[str, Any] = {"function": {"arguments": "{"} | ({"name": name} if name else {})}
        one |= ({"index": index} if index is not None else {}) | ({"id": call_id} if call_id else {})
        return event({"choices": [{"index": 0, "delta": {"tool_calls": [one]}}]})

    data = call(0, "a", "c1") + call(0, None, None) + call(1, "b", "c2") + call(1, None, None) + call(None, "a", "c3")
    assert watch(data, 50, hide=True)[0].seen.tool_calls == 3


def test_an_event_without_end_is_cut() -> None:
    observer = ChatObserver(hide_usage=True)
    with pytest.raises(UpstreamError):
        observer.feed(b"data: " + b"x" * (MAX_EVENT + 10))


def test_estimates_grow_with_what_passed() -> None:
    assert ChatObserver(hide_usage=True).estimated_output() == 0
    few, _ = watch(b"".join(event(delta("tok")) for _ in range(10)), 999, hide=True)
    assert few.estimated_output() == 10
    long, _ = watch(event(delta("")) + event(delta("x" * 4000)), 20, hide=True)
    assert 900 < long.estimated_output() < 1100


@pytest.mark.parametrize(("body", "counts", "calls", "error"), [
    (json.dumps({"usage": USAGE, "choices": [{"message": {"tool_calls": [{}, {}]}}, {"message": {}}]}),
     COUNTS, 2, False),
    (json.dumps({"error": {"message": "x"}}), None, 0, True), ("[]", None, 0, False), ("not json", None, 0, False),
    (json.dumps({"usage": None, "choices": 7}), None, 0, False), ("[" * 100_000, None, 0, False),
])  # fmt: skip
def test_whole_answers(body: str, counts: TokenCounts | None, calls: int, *, error: bool) -> None:
    seen = CHAT.seen_in(body.encode())
    assert (seen.counts, seen.tool_calls, seen.error) == (counts, calls, error)


def test_the_ends_of_a_long_answer() -> None:
    usage = json.dumps({"usage": USAGE}).encode()
    assert CHAT.seen_in_ends(b'{"choices":[', b"..." + usage[1:]).counts == COUNTS
    assert CHAT.seen_in_ends(b"{" + usage[1:-1] + b',"choices":[', b'...."}').counts == COUNTS
    assert CHAT.seen_in_ends(b'{"usage": {"broken', b'"usage": {').counts is None


def test_half_a_surrogate_pair_hides_no_usage() -> None:
    """A vendor that cuts text between the halves of an emoji writes what strict parsers of JSON refuse."""
    half = {**delta("", "stop"), "text": "HALF", "usage": USAGE}
    text = json.dumps(half).replace("HALF", "\\ud83d")
    assert CHAT.seen_in(text.encode()).counts == COUNTS
    observer, out = watch(event(text) + event("[DONE]"), 10_000, hide=False)
    assert observer.seen.counts == COUNTS
    assert out == event(text) + event("[DONE]")


def test_bytes_that_are_no_text_hide_no_usage_of_a_stream() -> None:
    data = event(delta("CUT", "stop", usage=USAGE)).replace(b"CUT", b"\xf0\x9f") + event("[DONE]")
    observer, out = watch(data, 10_000, hide=False)
    assert observer.seen.counts == COUNTS
    assert out == data


@pytest.mark.parametrize(
    "lines", ["data: {}\ndata: {}\n\n", "event: x\ndata: {}\n\n", "data:{}{}\n\n", "id: 1\ndata: {}{}\n\n"]
)
def test_an_event_of_several_lines_or_without_a_space_is_read_too(lines: str) -> None:
    whole = json.dumps(delta("", "stop", usage=USAGE))
    at = whole.index('"usage"')
    parts = (whole[:at], whole[at:]) if lines.count("{}") == 2 else (whole,)
    data = lines.format(*parts).encode()
    observer, out = watch(data + event("[DONE]"), 10_000, hide=False)
    assert observer.seen.counts == COUNTS
    assert out == data + event("[DONE]")
