"""Skills as they are written."""

import pytest

from carrel.errors import InvalidRequest, TooLarge
from carrel.skills.skill import MAX_BYTES, parse

HEAD = "name: weather\ndescription: Tells the weather.\nrequires:\n  bins: [curl, jq, curl]\nother: x\n"
GOOD = f"---\n{HEAD}---\n\nAsk it.\n"


def test_a_skill_has_a_head_and_a_body() -> None:
    skill = parse(GOOD)
    assert (skill.name, skill.description, skill.bins, skill.body) == (
        "weather", "Tells the weather.", ("curl", "jq"), "Ask it.",
    )  # fmt: skip
    assert skill.version == parse(GOOD).version != parse(GOOD + "x").version
    assert parse("---\nname: a\ndescription: b\n---\nx\n---\ny").body == "x\n---\ny"


@pytest.mark.parametrize(
    "content",
    [
        "", "Ask it.", "---\nname: a\n", "---\nname: a\ndescription: b\n---\n \n",
        "---\nname: A B\ndescription: b\n---\nx",
        "---\nname: a\n---\nx", "---\n[\n---\nx", "---\nname: a\nname: b\ndescription: c\n---\nx",
        "---\nname: a\ndescription: b\nrequires: {bins: [../x]}\n---\nx", "---\n- a\n---\nx",
        "---\nname: a\ndescription: b\nrequires: {bins: curl}\n---\nx",
    ],
)  # fmt: skip
def test_what_is_none_is_refused(content: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(content)


def test_a_skill_is_not_too_long() -> None:
    with pytest.raises(TooLarge):
        parse(GOOD + "x" * MAX_BYTES)
