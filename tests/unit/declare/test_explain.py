import pytest
from pydantic import ValidationError

from carrel.declare.document import read
from carrel.declare.explain import findings_of, keys_at
from carrel.declare.gateway import Gateway
from carrel.declare.tenant import Tenant


def said(text: str) -> list[str]:
    document = read(text, places=True)
    with pytest.raises(ValidationError) as caught:
        Tenant.model_validate(document.values)
    return [str(document.place("acme.yaml", f)) for f in findings_of(caught.value, Tenant, document.values)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quotas:\n  tokens_per_dya: 5",
         "acme.yaml:2:3: quotas.tokens_per_dya: unknown key; did you mean tokens_per_day?"),
        ("display_name: true", "acme.yaml:1:15: display_name: text is wanted: put it in quotes, found true"),
        ("display_name: 12", "acme.yaml:1:15: display_name: text is wanted: put it in quotes, found the number 12"),
        ("display_name: [a]", "acme.yaml:1:15: display_name: text is wanted, found a list"),
        ("suspended: yes",
         "acme.yaml:1:12: suspended: write `true` or `false` (yes, no, on and off are text), found 'yes'"),
        ("suspended: 1", "acme.yaml:1:12: suspended: `true` or `false` is wanted, found the number 1"),
        ("agents: 7", "acme.yaml:1:9: agents: a mapping of names is wanted, found the number 7"),
        ("agents: {a: 7}", "acme.yaml:1:13: agents.a: a mapping is wanted, found the number 7"),
        ("packages: bash",
         "acme.yaml:1:11: packages: a list is wanted (`[a, b]`, or one `- item` a line), found 'bash'"),
        ("quotas: {tokens_per_day: 1_000}",
         "acme.yaml:1:26: quotas.tokens_per_day: a whole number is wanted, "
         "without quotes, signs, `_` or leading zeros, found '1_000'"),
        ("quotas: {tokens_per_day: {hrd: 4}}",
         "acme.yaml:1:27: quotas.tokens_per_day.hrd: unknown key; did you mean hard?"),
        ("quotas: {cost_per_day_usd: x}", "acme.yaml:1:28: quotas.cost_per_day_usd: a number is wanted, found 'x'"),
        ("agents: {a: {tools: [shel]}}",
         "acme.yaml:1:22: agents.a.tools[0]: not one of what is allowed, found 'shel'; did you mean shell?"),
        ("agents: {A!: {}}",
         "acme.yaml:1:10: agents.A!: wanted 1 to 64 of a-z, 0-9, `_` and `-`, "
         "not starting with `_` or `-`, found 'A!'"),
        ("members: [{role: owner}]", "acme.yaml:1:11: members[0].name: the key is required and missing"),
        ("providers: {a: {api_key: hello}}",
         "acme.yaml:1:26: providers.a.api_key: name the secret as `{secret: NAME}`: its value is never written here"),
        ("sandbox: {pids: 1}",
         "acme.yaml:1:17: sandbox.pids: must be greater than or equal to 2, found the number 1"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_in_one_line(text: str, message: str) -> None:
    assert said(text) == [message]


def test_all_mistakes_are_told() -> None:
    assert len(said("plan: 1\nsuspended: maybe\nnope: 1\n")) == 3


def test_a_value_that_looks_like_a_secret_is_not_shown() -> None:
    (line,) = said("suspended: sk-ant-api03-0123456789abcdef")
    assert "0123456789" not in line
    assert "a value that looks like a secret" in line


def test_the_allowed_keys_of_any_place() -> None:
    assert keys_at(Tenant, ("quotas", "tokens_per_day")) == ["hard", "soft"]
    assert keys_at(Tenant, ("members", 0)) == ["display_name", "name", "role"]
    assert "base_url" in keys_at(Gateway, ("providers", "x"))
    assert keys_at(Tenant, ("nope", "x")) == []
