import pytest

from carrel.vcs.tree import Entry, Limits, declarations, judge_entries, parse_entries, shown


def entry(path: str, mode: str = "100644", size: int = 1) -> Entry:
    return Entry(path, mode, "0" * 40, size)


def test_what_git_lists_is_read() -> None:
    data = (
        b"100644 blob " + b"a" * 40 + b"       12\tacme.yaml\0" + b"160000 commit " + b"b" * 40 + b"       -\tsub\xff\0"
    )
    plain, module = parse_entries(data)
    assert (plain.path, plain.mode, plain.size) == ("acme.yaml", "100644", 12)
    assert (module.mode, module.size, module.path) == ("160000", -1, "sub\udcff")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (entry("l.yaml", "120000"), "symbolic link"),
        (entry("m", "160000", -1), "submodule"),
        (entry("g.yaml", "100664"), "mode 100664"),
        (entry("big", size=11), "11 bytes"),
        (entry("../x.yaml"), "no file may have"),
        (entry("a/.GIT/config"), "no file may have"),
        (entry(".gitmodules"), "no file may have"),
        (entry("a\x07.yaml"), "control characters"),
        (entry("a\\b.yaml"), "backslash"),
        (entry("n\udcff.yaml"), "not UTF-8"),
        (entry("n" * 256), "over 255 bytes"),
    ],
)
def test_what_may_be_in_no_tree(found: Entry, told: str) -> None:
    (problem,) = judge_entries([entry("ok.yaml"), found], Limits(file_bytes=10))
    assert told in str(problem)
    assert str(problem).isprintable()


def test_twin_plain_files_may() -> None:
    files = [entry("acme.yaml"), entry("docs/read me.md"), entry("bin/x", "100755"), entry("münchen.txt")]
    assert judge_entries(files, Limits()) == ()


def test_not_too_many_and_not_too_large_together() -> None:
    files = [entry(f"f{n}", size=10) for n in range(5)]
    assert "5 files" in str(judge_entries(files, Limits(files=4))[0])
    assert "together" in str(judge_entries(files, Limits(tree_bytes=49))[0])
    assert judge_entries(files, Limits(files=5, tree_bytes=50)) == ()


def test_declarations_are_right_in_their_directory() -> None:
    files = [entry("acme.yaml"), entry("d/acme.yaml"), entry("d/e/no.yaml"), entry("d/.hidden.yaml"), entry("d/x.txt")]
    assert list(declarations(files, "")) == ["acme.yaml"]
    assert {n: e.path for n, e in declarations(files, "d").items()} == {"acme.yaml": "d/acme.yaml"}


def test_a_name_acts_on_no_terminal() -> None:
    assert shown("\x1b[2J\udcff").isprintable()
