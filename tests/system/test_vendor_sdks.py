"""Both vendors' SDKs against the whole gateway, which passes their calls on to a vendor: metered, held, apart."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import PATIENCE
from tests.system.test_money import report
from tests.system.test_vendor import SECRET
from tests.system.test_vendor import vendor as vendor_fixture

vendor = vendor_fixture
OPENAI = ("fake-ok", "fake-tools", "fake-cached", "fake-cut", "fake-flaky", "fake-refused")
ANTHROPIC = ("claude-ok", "claude-cut", "claude-down")
UPSTREAM = {"claude-ok": "fake-thinking", "claude-cut": "fake-cut", "claude-down": "fake-down"}


def declare(gateway: GatewayProcess, vendor: str) -> None:
    """Name the vendor as two providers, of both dialects, with prices for its models."""
    size: dict[str, Any] = {"context_window": 32768, "max_output": 4096}
    limits: dict[str, Any] = {"api_key": {"secret": "FAKE"}, "max_retries": 1}
    operator = {
        "providers": {"demo": {"kind": "demo"}, "gpt": {"kind": "openai", "base_url": f"{vendor}/v1", **limits},
                      "claude": {"kind": "anthropic", "base_url": vendor, **limits}},
        "models": {"demo": {"provider": "demo", **size}, **{name: {"provider": "gpt", **size} for name in OPENAI},
                   **{n: {"provider": "claude", "upstream": UPSTREAM[n], **size} for n in ANTHROPIC}},
        "default_model": "demo",
    }  # fmt: skip
    rates = {name: {"input": "1.00", "output": "2.00"} for name in ("demo", *OPENAI, *ANTHROPIC)}
    (gateway.tenants_dir / "_gateway.yaml").write_text(json.dumps(operator))
    card = {"currency": "USD", "markup": "1.0", "models": rates}
    (gateway.tenants_dir / "_rate-card.yaml").write_text(json.dumps(card))
    gateway.env["CARREL_SECRET_FAKE"] = SECRET


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, vendor: str) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(home=tmp_path_factory.mktemp("sdks") / "home").prepare()
    declare(gateway, vendor)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.text
    assert SECRET not in gateway.text


@pytest.fixture
def gpt(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def claude(served: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key=served.token, max_retries=0, timeout=PATIENCE) as client:
        yield client


ASK: Any = [{"role": "user", "content": "hello"}]
SHELL: Any = {"name": "shell", "input_schema": {"type": "object"}}


@dataclass(frozen=True)
class Used:
    """Tokens in, out and of reasoning, and what they cost."""

    tokens_in: int
    tokens_out: int
    reasoning: int
    cost: Decimal

    def __sub__(self, before: "Used") -> "Used":
        return Used(
            self.tokens_in - before.tokens_in, self.tokens_out - before.tokens_out, self.reasoning - before.reasoning,
            self.cost - before.cost,
        )  # fmt: skip


def used(gateway: GatewayProcess, model: str) -> Used:
    """What the ledger has of ``model`` so far."""
    rows = [row for row in report(gateway) if row["model"] == model]
    tokens = [sum(int(row[name]) for row in rows) for name in ("tokens_in", "tokens_out", "reasoning_tokens")]
    return Used(tokens[0], tokens[1], tokens[2], sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0)))


def test_messages_whole_and_streaming_are_metered_by_what_the_vendor_says(
    served: GatewayProcess, claude: anthropic.Anthropic
) -> None:
    before = used(served, "claude-ok")
    answer = claude.messages.create(model="claude-ok", max_tokens=100, messages=ASK)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.usage.input_tokens == 100
    with claude.messages.stream(model="claude-ok", max_tokens=100, messages=ASK, tools=[SHELL]) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "Hello from the fake vendor."
    assert final.usage.output_tokens == 20
    assert used(served, "claude-ok") - before == Used(200, 26, 14, Decimal("0.00028"))


def test_counting_tokens_is_not_billed(served: GatewayProcess, claude: anthropic.Anthropic) -> None:
    before = used(served, "claude-ok")
    assert claude.messages.count_tokens(model="claude-ok", messages=ASK).input_tokens > 5
    assert used(served, "claude-ok") == before


def test_responses_whole_and_streaming_are_metered_by_what_the_vendor_says(
    served: GatewayProcess, gpt: openai.OpenAI
) -> None:
    before = used(served, "fake-ok")
    answer = gpt.responses.create(model="fake-ok", input="hello", store=True)
    assert answer.output_text == "Hello from the fake vendor."
    assert answer.usage is not None
    assert answer.usage.input_tokens == 100
    with gpt.responses.stream(model="fake-ok", input="hello") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == "Hello from the fake vendor."
    assert used(served, "fake-ok") - before == Used(200, 40, 0, Decimal("0.00028"))
    called = gpt.responses.create(model="fake-tools", input="run it")
    assert [item.type for item in called.output] == ["function_call"]


def test_embeddings_are_of_input_tokens_alone(served: GatewayProcess, gpt: openai.OpenAI) -> None:
    before = used(served, "fake-cached")
    answer = gpt.embeddings.create(model="fake-cached", input=["a", "b"])
    assert answer.data[1].embedding == [0.25, -0.5, 1.0]
    assert used(served, "fake-cached") - before == Used(200, 0, 0, Decimal("0.0002"))


def test_with_the_operators_key_no_id_reaches_what_the_vendor_stored(
    served: GatewayProcess, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    mine = gpt.responses.create(model="fake-ok", input="hello")
    assert gpt.responses.create(model="fake-ok", input="more", previous_response_id=mine.id).output_text
    assert gpt.responses.retrieve(mine.id).output_text == "Hello from the fake vendor."
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.responses.create(model="fake-ok", input="more", previous_response_id="resp_of_somebody")
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.responses.create(model="fake-ok", input="more", conversation="conv_of_somebody")
    assert refused.value.param == "conversation"
    with pytest.raises(openai.NotFoundError):
        gpt.files.list()
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.batches.list()
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.responses.create(model="fake-ok", input="run", tools=[{"type": "image_generation"}])
    assert "operator's key" in refused.value.message
    again: Any = [{"role": "user", "content": "hello"}, *[item.to_dict() for item in mine.output], ASK[0]]
    assert gpt.responses.create(model="fake-ok", input=again).output_text


def test_models_are_listed_as_each_vendor_does(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert {"agent:main", "fake-ok", "claude-ok"} <= {model.id for model in gpt.models.list()}
    assert {"agent:main", "fake-ok", *ANTHROPIC} <= {model.id for model in claude.models.list()}
    assert claude.models.retrieve("claude-ok").type == "model"


def test_errors_have_each_sdks_own_types(
    served: GatewayProcess, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="tk_demo_" + "0" * 32).messages.create(
            model="claude-ok", max_tokens=9, messages=ASK
        )
    extra: Any = {"top_k": 3}
    with pytest.raises(anthropic.BadRequestError, match="top_k"):
        claude.messages.create(model="fake-ok", max_tokens=9, messages=ASK, extra_body=extra)
    with pytest.raises(openai.BadRequestError) as other:
        gpt.responses.create(model="claude-ok", input="hello", top_logprobs=3)
    assert other.value.param == "top_logprobs"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="nope", max_tokens=9, messages=ASK)
    with pytest.raises(anthropic.APIStatusError) as down:
        claude.messages.create(model="claude-down", max_tokens=9, messages=ASK)
    assert down.value.status_code == 502


def test_a_stream_that_breaks_off_is_cut_and_estimated(
    served: GatewayProcess, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    with (
        pytest.raises(anthropic.APIError),
        claude.messages.stream(model="claude-cut", max_tokens=9, messages=ASK) as stream,
    ):
        stream.until_done()
    assert used(served, "claude-cut").tokens_in == 100
    with pytest.raises(openai.APIError):
        list(gpt.responses.create(model="fake-cut", input="hello", stream=True))
    assert used(served, "fake-cut").tokens_in > 0


def test_a_failure_before_the_first_byte_is_tried_again(gpt: openai.OpenAI) -> None:
    assert gpt.responses.create(model="fake-flaky", input="hello").output_text
    with pytest.raises(openai.APIStatusError) as refused:
        gpt.responses.create(model="fake-refused", input="hello")
    assert (refused.value.status_code, refused.value.code) == (502, "upstream_auth")


def test_translated_calls_are_in_the_ledger_as_others_are(
    served: GatewayProcess, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    before = used(served, "fake-ok")
    message = claude.messages.create(model="fake-ok", max_tokens=100, messages=ASK)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (100, 20)
    assert used(served, "fake-ok") - before == Used(100, 20, 0, Decimal("0.00014"))
    before = used(served, "claude-ok")
    with gpt.responses.stream(model="claude-ok", input="hello") as stream:
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert used(served, "claude-ok") - before == Used(100, 13, 7, Decimal("0.00014"))


def test_an_agent_answers_in_each_dialect(
    served: GatewayProcess, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    order: Any = [{"role": "user", "content": "write: made.txt\nby messages"}]
    with claude.messages.stream(model="agent:main", max_tokens=1000, messages=order) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["text"]
    answer = gpt.responses.create(model="agent:main", input="read: made.txt", store=False)
    assert "by messages" in answer.output_text
    assert [item.type for item in answer.output] == ["message"]


def test_memory_is_searched_by_meaning_through_the_vendor(served: GatewayProcess) -> None:
    served.rpc("config.patch", {"patch": {"memory": {"embedding_model": "fake-cached"}}})
    note = served.rpc("memory.add", {"text": "Mimi is the cat."})["id"]
    hits = served.rpc("memory.search", {"query": "anything about pets"})
    assert hits.get("note") in (None, ""), hits
    assert [(hit["id"], hit["by"]) for hit in hits["hits"]] == [(note, ["meaning"])]
    served.rpc("memory.forget", {"id": note})
