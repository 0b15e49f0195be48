from carrel.plan.changes import changes, show


def lines(old: dict[str, object], new: dict[str, object]) -> list[str]:
    return [str(change) for change in changes(old, new)]


def test_what_is_equal_is_no_change() -> None:
    assert lines({"a": {"b": [1]}}, {"a": {"b": [1]}}) == []


def test_keys_differ_one_by_one() -> None:
    assert lines({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": [1, 2]}) == [
        "a.b: 1 -> 3",
        "a.c: 2 -> (default)",
        "d: (default) -> [1, 2]",
    ]


def test_a_mapping_over_a_number_is_one_change() -> None:
    assert lines({"q": 5}, {"q": {"hard": 5}}) == ["q: 5 -> {hard: 5}"]


def test_an_empty_mapping_that_appears_is_said() -> None:
    assert lines({}, {"agents": {"main": {}}}) == ["agents.main: (default) -> {}"]


def test_nothing_secret_and_nothing_long_is_shown() -> None:
    assert show("tk_acme_" + "0f" * 16) == "***"
    assert show("x" * 500).endswith("(500 characters)")
    assert show("a\x1b[2J\nb") == "a\\x1b[2J\\x0ab"
    assert show(list(range(30))).endswith("and 10 more]")
