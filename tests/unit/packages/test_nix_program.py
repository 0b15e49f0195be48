"""What Nix prints is harmless and has an end, and its settings leave nothing to the machine's."""

from pathlib import Path

from carrel.packages.nix_program import Caches, Limits, Lines, NixProgram


def heard(*pieces: bytes) -> list[str]:
    lines: list[str] = []
    made = Lines(lines.append)
    for piece in pieces:
        made.feed(piece)
    made.end()
    assert list(made.kept) == lines
    return lines


def test_lines_are_put_together_from_pieces() -> None:
    assert heard(b"one\ntw", b"o\nthr", b"ee") == ["one", "two", "three"]
    assert heard(b"progress\rmore\n\n") == ["progress", "more", ""]


def test_nothing_in_them_acts_on_a_terminal() -> None:
    assert heard(b"\x1b[31mred\x07\ttab \xe2\x80\xae\xff\n") == ["\\x1b[31mred\\x07    tab \\u202e\ufffd"]


def test_a_line_without_an_end_is_cut() -> None:
    lines = heard(*[b"x" * 100_000] * 20, b"\nnext\n")
    assert [len(line) for line in lines] == [2000, 4]


def test_only_the_last_lines_are_kept() -> None:
    made = Lines(lambda _: None)
    for number in range(5000):
        made.feed(f"{number}\n".encode())
    assert (len(made.kept), made.kept[-1]) == (2000, "4999")


def settings(store: str, caches: Caches) -> dict[str, str]:
    words = NixProgram(store, Path("/home"), caches, Limits(build_seconds=7, log_bytes=99)).settings()
    if store != "daemon":
        assert words[:2] == ["--store", store]
        words = words[2:]
    assert words[::3] == ["--option"] * (len(words) // 3)
    return dict(zip(words[1::3], words[2::3], strict=True))


def test_limits_and_restrictions_are_settings() -> None:
    told = settings("/x", Caches())
    assert (told["restrict-eval"], told["allow-import-from-derivation"], told["sandbox"]) == ("true", "false", "true")
    assert (told["sandbox-fallback"], told["timeout"], told["max-build-log-size"]) == ("false", "7", "99")
    assert (told["substitute"], told["build-users-group"]) == ("false", "")
    cached = settings("/x", Caches(True, ("https://cache.example",), ("a:b=",)))
    assert (cached["substituters"], cached["trusted-public-keys"]) == ("https://cache.example", "a:b=")
    assert "substitute" not in cached
    assert "substituters" not in settings("daemon", Caches(True, ("https://cache.example",)))


def test_a_daemon_is_asked_for_and_a_store_of_our_own_asks_nobody() -> None:
    def environment(store: str) -> dict[str, str]:
        return NixProgram(store, Path("/home/x"), Caches(), Limits(evaluation_bytes=1 << 28))._environment()

    assert environment("daemon")["NIX_REMOTE"] == "daemon"
    assert "NIX_CONF_DIR" not in environment("daemon")
    own = environment("/x")
    assert (own["NIX_REMOTE"], own["NIX_CONF_DIR"], own["NIX_USER_CONF_FILES"]) == ("", "/home/x", "")
    assert own["GC_MAXIMUM_HEAP_SIZE"] == str(1 << 28)
