"""Nix's errors become one sentence that names what was wrong and no place of this machine."""

import pytest

from carrel.packages.refusals import refusal


@pytest.mark.parametrize(
    ("lines", "message", "retryable"),
    [
        (
            ["error: the test set has no package jqq; it has bash, jq, git"],
            "The test set has no package `jqq`. Did you mean `jq`? It has bash, jq, git.",
            False,
        ),
        (["error: nixpkgs has no package zzz"], "Nixpkgs has no package `zzz`.", False),
        (
            ["error: writing to file: No space left on device"],
            "The disk is full: the environment cannot be built.",
            True,
        ),
        (
            [
                "error: builder for '/nix/store/abc-git.drv' failed with exit code 1;",
                "       last 1 log lines:",
                "       > ./bin/git needs libz.so.1, which none of its packages has",
                "       For full logs, run 'nix log /nix/store/abc-git.drv'.",
                "error: 1 dependencies of derivation '/nix/store/def-environment.drv' failed to build",
            ],
            "The environment cannot be built: git failed with exit code 1: "
            "./bin/git needs libz.so.1, which none of its packages has.",
            True,
        ),
        (
            ["error: getting status of '/home/x/.cache/packageset/jq.deb': No such file or directory"],
            "The environment cannot be built: getting status of 'jq.deb': No such file or directory",
            True,
        ),
        ([], "The environment cannot be built: no reason given", True),
    ],
)
def test_what_nix_says(lines: list[str], message: str, *, retryable: bool) -> None:
    error = refusal(lines)
    assert (error.message, error.retryable) == (message, retryable)


def test_a_message_has_an_end() -> None:
    assert len(refusal([f"error: {'x' * 10_000}"]).message) < 400
