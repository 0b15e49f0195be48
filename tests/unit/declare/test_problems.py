from carrel.declare.problems import DeclarationInvalid, Problem, dotted, nearest, shown


def test_a_problem_reads_as_one_line() -> None:
    problem = Problem("acme.yaml", 12, 5, "quotas.tokens_per_dya", "unknown key", nearest="tokens_per_day")
    assert str(problem) == "acme.yaml:12:5: quotas.tokens_per_dya: unknown key; did you mean tokens_per_day?"


def test_what_is_allowed_is_listed_and_cut() -> None:
    problem = Problem("a.yaml", 1, 1, "x", "no", found="'y'", allowed=tuple(str(n) for n in range(20)))
    assert str(problem).startswith("a.yaml:1:1: x: no, found 'y'; allowed: 0, 1, 2")
    assert str(problem).endswith("15 and 4 more")


def test_a_warning_says_so() -> None:
    assert str(Problem("a.yaml", 1, 1, "", "m", severity="warning")) == "a.yaml:1:1: warning: m"


def test_the_error_holds_all_of_them() -> None:
    error = DeclarationInvalid([Problem("b", 1, 1, "", "second"), Problem("a", 2, 1, "", "first")])
    assert error.message == "a:2:1: first\nb:1:1: second"
    assert error.details["problems"] == ["a:2:1: first", "b:1:1: second"]


def test_the_nearest_name_is_close() -> None:
    assert nearest("strater", ["starter", "pro"]) == "starter"
    assert nearest("zzz", ["starter", "pro"]) is None


def test_values_are_shown_short_on_one_line_and_never_secret() -> None:
    assert shown("a\nb\x1b[2J") == r"'a\\x0ab\\x1b[2J'"
    assert len(shown("x" * 500)) < 80
    assert "AKIA" not in shown("AKIAABCDEFGHIJKLMNOP")
    assert shown(None) == "nothing"


def test_a_path_is_dotted() -> None:
    assert dotted(("agents", "main", "tools", 2)) == "agents.main.tools[2]"
    assert dotted(("sk-ant-0123456789abcdef0123",)) == "***"
