import random
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from carrel.tracing import Traces
from tests.fakes.otlp import attributes, receiving


def test_without_an_endpoint_nothing_is_recorded_or_imported() -> None:
    code = (
        "import sys; from carrel.tracing import Traces; t = Traces(); t.follow(None)\n"
        "with t.request('request') as span: span.set(a=1)\n"
        "t.begin('x').end(error='no'); t.close(); assert not t.on\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_spans_go_to_the_endpoint_as_a_tree() -> None:
    traces = Traces()
    with receiving() as receiver:
        traces.follow(receiver.endpoint, version="1.2")
        assert traces.on
        with traces.request("request", route="/rpc") as whole:
            below = traces.begin("model.call", model="demo")
            below.end(error="cut", input_tokens=5)
            whole.set(status=200)
        traces.close()
        spans = {span.name: span for span in receiver.spans()}
    request, call = spans["request"], spans["model.call"]
    assert (call.parent_span_id, call.trace_id) == (request.span_id, request.trace_id)
    assert attributes(request) == {"carrel.route": "/rpc", "carrel.status": 200}
    assert attributes(call) == {"carrel.model": "demo", "carrel.input_tokens": 5}
    assert (call.status.code, call.status.message) == (2, "cut")


def test_none_are_sent_of_a_share_of_nothing_and_another_endpoint_is_followed() -> None:
    traces = Traces()
    with receiving() as first, receiving() as second:
        traces.follow(first.endpoint, sample=0.0)
        with traces.request("request"):
            traces.begin("model.call").end()
        traces.follow(second.endpoint)
        traces.follow(second.endpoint)
        with traces.request("request"):
            pass
        traces.follow(None)
        assert (first.spans(), len(second.spans())) == ([], 1)


def test_a_callers_trace_is_gone_on_with_and_what_is_none_is_let_fall() -> None:
    traces, theirs = Traces(), "0af7651916cd43dd8448eb211c80319c"
    with receiving() as receiver:
        traces.follow(receiver.endpoint)
        known, unknown = f"00-{theirs}-b7ad6b7169203331", f"00-{'0' * 32}-b7ad6b7169203331-01"
        for number, parent in enumerate((f"{known}-00", f"{known}-01", unknown, "no parent at all", "00-\x1b")):
            with traces.request("request", parent=parent, number=number):
                traces.begin("model.call").end()
        traces.close()
        spans = receiver.spans()
    requests = sorted((s for s in spans if s.name == "request"), key=lambda s: attributes(s)["carrel.number"])
    assert [s.trace_id.hex() == theirs for s in requests] == [True, True, False, False, False]
    assert [s.parent_span_id.hex() for s in requests] == ["b7ad6b7169203331"] * 2 + [""] * 3
    assert sum(s.trace_id.hex() == theirs for s in spans) == 4, "what is beneath is of it too"


CHOSEN = (f"00-{'0' * 31}1-b7ad6b7169203331-01", f"00-{'f' * 32}-b7ad6b7169203331-00")
"""Trace ids that a ratio by trace id records always and never: callers choose them."""


@pytest.mark.parametrize(("sample", "recorded"), [(0.0, 0), (1.0, 2)])
def test_who_calls_does_not_say_how_much_is_recorded(sample: float, recorded: int) -> None:
    traces = Traces()
    with receiving() as receiver:
        traces.follow(receiver.endpoint, sample=sample)
        for parent in CHOSEN:
            with traces.request("request", parent=parent):
                traces.begin("model.call").end()
        traces.close()
        assert sorted(span.name for span in receiver.spans()) == ["model.call"] * recorded + ["request"] * recorded


@pytest.mark.parametrize("parent", ["", *CHOSEN])
def test_chance_of_our_own_says_which_requests_are_recorded_each_with_all_beneath(parent: str) -> None:
    seed, same = random.Random(7), random.Random(7)  # noqa: S311 - it decides nothing here
    expected = [number for number in range(40) if same.random() < 0.3]
    traces = Traces(chance=seed.random)
    with receiving() as receiver:
        traces.follow(receiver.endpoint, sample=0.3)
        for number in range(40):
            with traces.request("request", parent=parent, number=number):
                traces.begin("model.call", number=number).end()
        traces.close()
        for name in ("request", "model.call"):
            assert sorted(attributes(s)["carrel.number"] for s in receiver.spans() if s.name == name) == expected
    assert 0 < len(expected) < 40


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    traces = Traces()
    with capture_logs() as lines:
        traces.follow("http://127.0.0.1:9/v1/traces")
    assert "carrel[traces]" in lines[0]["event"]
    assert not traces.on
