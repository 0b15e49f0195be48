"""Places in a request."""

from carrel.wire.places import place_of


def test_a_place_is_written_as_its_caller_would() -> None:
    assert place_of(("messages", 0, "content", "tuple[_Part, ...]", 1, "text")) == "messages[0].content[1].text"
    assert place_of(("stop", "str")) == "stop"
    assert place_of(()) is None
