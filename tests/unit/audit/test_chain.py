import json
from typing import Any

import pytest

from carrel.audit.chain import Head, follow, safe, sealed


def lines(count: int) -> tuple[list[bytes], Head]:
    head, made = Head(), []
    for number in range(count):
        line, head = sealed(head, {"action": "tenants.create", "target": f"t{number}"})
        made.append(line)
    return made, head


def test_an_untouched_chain_has_no_findings() -> None:
    made, head = lines(5)
    assert follow("day", made, Head()) == ([], head)


def test_an_edited_line_is_named() -> None:
    made, _ = lines(5)
    made[2] = made[2].replace(b"t2", b"t9")
    findings, _ = follow("day", made, Head())
    assert [str(f) for f in findings] == ["day:3: the line was edited: it does not match its own hash"]


def test_a_removed_line_is_named() -> None:
    made, _ = lines(5)
    del made[1]
    findings, _ = follow("day", made, Head())
    assert [str(f) for f in findings] == ["day:2: line 2 was removed before it"]


def test_moved_lines_are_named() -> None:
    made, _ = lines(5)
    made[1], made[2] = made[2], made[1]
    findings, _ = follow("day", made, Head())
    assert findings[0].line == 2
    assert any("out of order" in f.what for f in findings)


def test_a_line_rewritten_with_its_hash_breaks_the_next() -> None:
    made, _ = lines(3)
    forged, _ = sealed(Head(json.loads(made[0])["hash"], 1), {"action": "tenants.create", "target": "forged"})
    findings, _ = follow("day", [made[0], forged, made[2]], Head())
    assert [f.line for f in findings] == [3]


def test_white_space_and_second_keys_are_edits() -> None:
    made, _ = lines(3)
    for edited in (
        made[1].replace(b'"n":2', b'"n": 2'), made[1].replace(b'"n":2', b'"n":9,"n":2'),
        made[1].replace(b'"t1"', b'"t\\u0031"'),
    ):  # fmt: skip
        assert edited != made[1]
        findings, _ = follow("day", [made[0], edited, made[2]], Head())
        assert [f.line for f in findings] == [2]


def test_hashes_of_lines_that_are_wanted_are_told() -> None:
    made, _ = lines(3)
    wanted = {2: "", 9: ""}
    follow("day", made, Head(), wanted)
    assert wanted == {2: json.loads(made[1])["hash"], 9: ""}


def test_a_torn_or_foreign_line_is_named() -> None:
    made, _ = lines(2)
    findings, _ = follow("day", [made[0], b"[1]\n", made[1][:-1]], Head())
    assert [f.line for f in findings] == [2, 3]


def test_no_text_breaks_a_line_or_moves_a_cursor() -> None:
    line, _ = sealed(Head(), {"target": "a\nb\x1b[2J\u202e\ud800", "before": {"k\n": ["\x07"]}, "n2": 1.5})
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    shown = json.loads(line)
    assert shown["target"].startswith("a\\x0ab\\x1b[2J\\u202e")
    assert len(safe("x" * 5000)) < 2100


KEY = "sk-ant-api03-" + "a1B2c3D4" * 4
TOKEN = "tk_acme_" + "0f" * 16


def test_no_key_or_token_that_somebody_pasted_is_kept() -> None:
    line, _ = sealed(Head(), {
        "target": f"say {KEY}", "after": {KEY: [TOKEN], "nested": {"password": "q8Zr2Lw0Vx7Bn4Kd", "name": KEY}},
    })  # fmt: skip
    for secret in (KEY, TOKEN, KEY[8:], "q8Zr2Lw0Vx7Bn4Kd"):
        assert secret.encode() not in line
    assert json.loads(line)["after"] == {"sk-a***": ["tk_acme_***"], "nested": {"password": "***", "name": "sk-a***"}}


@pytest.mark.parametrize("secret", [KEY, TOKEN, "https://me:hunter2hunter2hunter2@example.org"])
def test_a_secret_that_is_cut_in_two_is_none_that_is_shown(secret: str) -> None:
    for fill in [*range(1990 - len(secret), 2010, 3), *range(3010 - len(secret), 3030, 3)]:
        shown = safe("x" * fill + " " + secret + "y" * 3000)
        assert secret[10:20] not in shown, fill
        shown = safe(f"{TOKEN} " * 60 + "x" * (fill - 2000 if fill > 2000 else 0) + f" {secret}" * 30)
        assert secret[10:20] not in shown, fill


def test_how_long_a_line_gets_is_not_for_a_caller_to_say() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = {"k": [deep]}
    cut: Any = "x"
    for _ in range(5000):
        cut = {"…": cut}
    values: list[Any] = [
        {f"k{n}": "x" * 1900 for n in range(2000)}, ["x"] * 100_000, {"x" * 10_000: 1}, [10**9999], deep,
        {"a": [{"b": "x" * 1000}] * 1000}, [[]] * 100_000, [None] * 100_000, [2**64 - 1] * 100_000, cut,
    ]  # fmt: skip
    for value in values:
        shown = safe(value)
        assert len(json.dumps(shown)) < 16_000
        assert safe(shown) == shown
    assert safe(values[0])["…"] == "1997 more are not shown"
    assert safe(values[3]) == ["a number of 33216 bits"]
    assert safe({"a": 1, "b": [True, None, "c"]}) == {"a": 1, "b": [True, None, "c"]}
