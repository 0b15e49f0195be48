"""The YAML in docs/howto/providers.md is what the gateway takes."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from carrel.declare.gateway import Gateway
from carrel.declare.tenant import Tenant

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "providers.md"
BLOCKS = re.findall(r"```yaml( tenant)?\n(.*?)```", PAGE.read_text(), re.DOTALL)


def listed(value: object) -> object:
    """Lists as the tuples that the strict models hold, as the loader gives them."""
    if isinstance(value, dict):
        return {key: listed(inner) for key, inner in value.items()}
    return tuple(map(listed, value)) if isinstance(value, list) else value


@pytest.mark.parametrize(("tenant", "text"), BLOCKS)
def test_examples_are_valid(tenant: str, text: str) -> None:
    model: type[BaseModel] = Tenant if tenant else Gateway
    declared = model.model_validate(listed(yaml.safe_load(text)))
    if isinstance(declared, Gateway):
        assert all(m.provider in declared.providers for m in declared.models.values())


def test_every_kind_of_server_is_shown() -> None:
    names = {name for tenant, text in BLOCKS if not tenant for name in yaml.safe_load(text)["providers"]}
    assert names >= {"anthropic", "openai", "ollama", "vllm", "mistral", "kimi", "llama"}
