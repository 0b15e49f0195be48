import json

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
