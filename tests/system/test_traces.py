"""Traces of a whole gateway, received on a socket: from the edge to the model and into the sandbox."""

from tests.fakes.otlp import attributes, receiving
from tests.fakes.patience import until
from tests.system.conftest import StartGateway


def test_a_request_is_traced_to_the_model_and_into_the_sandbox(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    with receiving() as receiver:
        declared = gateway.tenants_dir / "_gateway.yaml"
        text = declared.read_text(encoding="utf-8")
        declared.write_text(f"{text}\ntraces: {{endpoint: {receiver.endpoint}}}\n", encoding="utf-8")
        gateway.start()
        said = {"model": "agent:main", "messages": [{"role": "user", "content": "run: echo traced"}]}
        answer = gateway.request("POST", "/v1/chat/completions", said, token=gateway.token)
        assert answer.status == 200, answer
        passed = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
        theirs = "0af7651916cd43dd8448eb211c80319c"
        parent = {"traceparent": f"00-{theirs}-b7ad6b7169203331-01"}
        done = gateway.request("POST", "/v1/chat/completions", passed, token=gateway.token, headers=parent)
        assert done.status == 200, done
        gateway.stop()
        spans = receiver.spans()
    assert until(lambda: spans)
    by_id = {span.span_id: span for span in spans}
    beneath = {
        (span.name, attributes(by_id[span.parent_span_id])["carrel.route"])
        for span in spans
        if span.parent_span_id in by_id
    }
    assert {("model.call", "/v1/chat/completions"), ("sandbox.run", "/v1/chat/completions")} <= beneath
    assert {"request", "model.call"} <= {span.name for span in spans if span.trace_id.hex() == theirs}
    told = " ".join(str(attributes(span)) for span in spans)
    for secret in (gateway.token, "echo traced", "hello"):
        assert secret not in told
