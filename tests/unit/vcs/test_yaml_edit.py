import difflib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.document import read
from carrel.vcs.edits import DELETE, NotEditable
from carrel.vcs.yaml_edit import edit

SAMPLES = sorted((Path(__file__).resolve().parents[3] / "tenants.d").glob("*.yaml"))
TEXT = """\
# at the top

display_name: 'Acme'   # said so
plan: pro
agents:
    main:
        model: demo  # the model
        tools: [shell, file_read]
packages:
- jq
- ripgrep

# limits
quotas: {tokens_per_day: 5, cost_per_day_usd: 1.50}
"""


def diff(before: str, after: str) -> list[str]:
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in found if line[:1] in "+-" and line[:3] not in ("+++", "---")]


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_no_change_is_no_change(file: Path) -> None:
    assert edit(file.read_text(), {}) == file.read_text()


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({("plan",): "team"}, ["-plan: pro", "+plan: team"]),
        ({("suspended",): True}, ["+suspended: true"]),
        ({("plan",): DELETE}, ["-plan: pro"]),
        ({("nope",): DELETE, ("not", "there"): DELETE}, []),
        ({("agents", "main", "model"): "other"},
         ["-        model: demo  # the model", "+        model: other # the model"]),
        ({("quotas", "tokens_per_day"): 7},
         ["-quotas: {tokens_per_day: 5, cost_per_day_usd: 1.50}",
          "+quotas: {tokens_per_day: 7, cost_per_day_usd: 1.50}"]),
        ({("packages",): DELETE}, ["-- jq", "-- ripgrep", "-packages:"]),
        ({("agents", "main", "max_tokens"): 5}, ["+        max_tokens: 5"]),
        ({("agents",): DELETE}, ["-agents:", "-    main:", "-        model: demo  # the model",
                                 "-        tools: [shell, file_read]"]),
        ({("packages",): ["jq"]}, ["-- jq", "-- ripgrep", "-packages:", "+packages: [jq]"]),
        ({("sandbox", "pids"): 9}, ["+sandbox:", "+    pids: 9"]),
    ],
)  # fmt: skip
def test_only_what_is_edited_changes(changes: dict[tuple[str, ...], object], lines: list[str]) -> None:
    found = diff(TEXT, edit(TEXT, changes))
    normal = [" ".join(line.split()) for line in found if line.strip("+-")]
    assert sorted(normal) == sorted(" ".join(line.split()) for line in lines)


def test_comments_order_and_quotes_are_kept() -> None:
    after = edit(TEXT, {("plan",): "team", ("extra", "deep"): {"a": [1, {"b": Decimal("0.10")}]}})
    for kept in ("# at the top", "display_name: 'Acme'   # said so", "# limits", "- ripgrep", "1.50"):
        assert kept in after
    assert read(after).values["extra"] == {"deep": {"a": (1, {"b": Decimal("0.10")})}}


def test_an_empty_text_and_one_of_comments_take_keys() -> None:
    assert edit("", {("a",): 1}) == "a: 1\n"
    assert edit("# hello\n", {("a", "b"): "x"}) == "# hello\na:\n  b: x\n"
    assert edit("# hello\na: 1\n", {("a",): DELETE}) == "# hello\n"


@pytest.mark.parametrize(
    "text",
    ["no", "on", "yes", "1", "1.50", "true", "null", "", "~", "2030-01-01", "a: b", "# x", "0777", "0x10", "1e5", "- a",
     "*a", "&a", "!a", "{", "a\nb\n", "a\n\n# b\n", "  x ", "é", "x" * 500],
)  # fmt: skip
def test_text_stays_text_also_for_other_readers(text: str) -> None:
    after = edit("b: 1\n", {("a",): text})
    assert read(after).values == {"b": 1, "a": text}
    assert yaml.safe_load(after)["a"] == text


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("a: [", {("b",): 1}),
        ("a: 1\na: 2\n", {("b",): 1}),
        ("a: !x 1\n", {("b",): 1}),
        ("a: 1\n", {("a", "b"): 1}),
        ("a: 1\n", {(): 1}),
        ("a: 1\n", {("b",): object()}),
        ("a: 1\n", {("b",): 1.5}),
        ("a: &x {c: 1}\nb: *x\n", {("a", "c"): 2}),
        ("a: {b: x}\n", {("a", "b", "c", "d"): DELETE}),
    ],
)
def test_what_cannot_be_edited_safely_is_refused(text: str, changes: dict[tuple[str, ...], Any]) -> None:
    with pytest.raises(NotEditable):
        edit(text, changes)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.text(st.characters(codec="ascii", min_codepoint=32)),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), below),
    max_leaves=6,
)


@given(VALUES)
def test_every_value_reads_back_or_is_refused(value: object) -> None:
    try:
        after = edit(TEXT, {("agents", "x", "y"): value})
    except NotEditable:
        return
    assert "# limits\nquotas" in after
    assert "y" in read(after).values["agents"]["x"]


def test_a_remark_stays_above_its_key() -> None:
    text = "a:\n  b: 1\n\n# about c\nc: 1\n# about d\nd: 2\n"
    assert edit(text, {("a", "new"): 2}) == text.replace("b: 1\n", "b: 1\n  new: 2\n")
    assert edit(text, {("c",): DELETE}) == "a:\n  b: 1\n\n# about c\n# about d\nd: 2\n"
    assert edit(text, {("a",): DELETE}) == "\n# about c\nc: 1\n# about d\nd: 2\n"
    assert edit(text, {("d",): 3}) == text.replace("d: 2", "d: 3")


def test_a_mapping_of_one_key_in_a_list_keeps_its_braces() -> None:
    text = "members: [{name: ada, role: owner}, {name: bob}]\nplan: pro\n"
    assert edit(text, {("plan",): "team"}) == text.replace("pro", "team")


@pytest.mark.parametrize(
    "text",
    [
        "quotas: {\n  # a day\n  tokens_per_day: 5,   # five\n  disk_files: 7,\n}\n",
        "packages: [ jq ,  git ]\n",
        "display_name:   'X'   # said so\n\n\n",
        'display_name: "A \\u00e9 \\t x"\n',
        "display_name: a very\n  long name\n",
        "display_name: ~\n",
        "agents:\n  main:\n    system_prompt: |\n      # a heading\n\n      Help.\n\n\n",
        "members:\n- {name: ada}   # first\n# and\n- name: bob\n",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_stands_under_another_key_stays_letter_by_letter(text: str, end: str) -> None:
    for one, other in ((text, "suspended: false\n"), (text + "# below\n", "")):
        before, after = (f"# top\n{one}plan: {plan}\n{other}".replace("\n", end) for plan in ("pro", "team"))
        assert edit(before, {("plan",): "team"}) == after
        assert edit(before, {("memory", "embedding_model"): "m"}).startswith(before)


LINES = st.lists(st.sampled_from(["# a heading", "", "Help.", "  - more", "{x: 1}  # no remark"]), min_size=2)


@given(LINES, st.sampled_from(["|", "|-", "|+", ">"]))
def test_text_of_several_lines_leaves_all_else_as_it_is(lines: list[str], style: str) -> None:
    kept = "packages: [\n  # for ada\n  jq,\n]\n# about the plan\n"
    lines = [*lines, "End."]
    held = f"memory: {style}\n  Text.\n" + "".join(f"  {line}\n" if line else "\n" for line in lines)
    prompt = "You help.\n" + "\n".join(lines)
    text = f"{kept}plan: pro\n\n# what is kept\n{held}"
    made = edit(text, {("agents", "main", "system_prompt"): prompt})
    assert made.startswith(text)
    assert read(made).values["agents"]["main"]["system_prompt"] == prompt
    assert edit(made, {("plan",): "team"}) == made.replace("plan: pro", "plan: team")
    cut = text.removesuffix("\n")
    assert edit(cut, {("suspended",): True}).startswith(cut.partition("memory")[0])
    first = f"plan: {style}\n  Text.\n" + "".join(f"  {line}\n" if line else "\n" for line in ["# one", *lines])
    assert edit(f"{kept}{first}# below\nsuspended: true\n", {("plan",): prompt}).startswith(kept)


@pytest.mark.parametrize("remark", ["", "  # a day", "# a day"])
def test_the_last_key_of_a_mapping_goes_from_under_a_remark(remark: str) -> None:
    text = f"quotas:\n{remark}\n  tokens_per_day: 5   # five\nplan: pro\n"
    assert edit(text, {("quotas", "tokens_per_day"): DELETE}) == f"{remark}\nquotas: {{}}\nplan: pro\n"


@pytest.mark.parametrize("value", [12, "short", "two\nlines", [[1]], {"b": 1}, {}, "# no remark"])
def test_remarks_beside_and_below_a_text_of_several_lines_stay_once(value: object) -> None:
    text = "a:\n  k: |-  # beside\n    first\n    second\n  # below\n  b: 1\n"
    made = edit(text, {("a", "k"): value})
    assert [made.count(remark) for remark in ("# beside\n", "  # below\n  b: 1\n", "# below")] == [1, 1, 1]


def test_whole_amounts_of_money_are_written_as_such() -> None:
    made = edit("plan: pro\n", {("quotas", "cost_per_day_usd", "hard"): Decimal(200)})
    assert made == "plan: pro\nquotas:\n  cost_per_day_usd:\n    hard: 200\n"
