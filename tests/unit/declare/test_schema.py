import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from carrel.declare.schema import KINDS, reference_page, schema_documents, schema_text, undocumented

REPOSITORY = Path(__file__).resolve().parents[3]
REFERENCE = REPOSITORY / "docs" / "reference"


@pytest.mark.parametrize("kind", KINDS)
def test_the_checked_in_schema_is_the_models(kind: str) -> None:
    assert (REFERENCE / "schema" / f"{kind}.json").read_text() == schema_text(kind)


def test_the_checked_in_reference_is_the_models() -> None:
    assert (REFERENCE / "tenants.d.md").read_text() == reference_page()


def test_every_key_is_described() -> None:
    assert undocumented() == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_are_schemas(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_documents()[kind])


def test_the_samples_satisfy_them_and_a_slip_does_not() -> None:
    documents = schema_documents()
    for kind, (file, _) in KINDS.items():
        for path in [REPOSITORY / "tenants.d" / (file if file.startswith("_") else "acme.yaml")]:
            value: Any = json.loads(json.dumps(yaml.safe_load(path.read_text())))
            validator = jsonschema.Draft202012Validator(documents[kind])
            assert list(validator.iter_errors(value)) == []
            assert list(validator.iter_errors({**value, "nope": 1}))
