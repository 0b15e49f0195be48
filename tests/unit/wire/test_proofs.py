"""A vendor's proof of reasoning on its way through another's dialect."""

import json

import pytest
from hypothesis import given

from carrel.errors import InvalidRequest
from carrel.wire.conversation import Thinking
from carrel.wire.proofs import FIELD_MARK, from_details, is_proof, proof_details, seal, unseal
from tests.unit.wire.rounds import PROVEN


@given(PROVEN)
def test_it_comes_back_as_it_went(thinking: Thinking) -> None:
    assert is_proof(thinking)
    assert from_details(json.loads(json.dumps(proof_details([thinking]))), "x") == [thinking]
    assert unseal(thinking.text, seal(thinking)) == thinking


def test_what_is_no_proof() -> None:
    assert not is_proof(Thinking("a", FIELD_MARK + "reasoning"))
    assert seal(Thinking("a")) is None
    for content in (None, 7, "another vendor's", "carrel1.%%%", "carrel1.bnVsbA=="):
        assert unseal("a", content) == Thinking("a")
    for details in (7, [{"type": "odd"}], [{"type": "reasoning.text", "text": 7}]):
        with pytest.raises(InvalidRequest):
            from_details(details, "x")
