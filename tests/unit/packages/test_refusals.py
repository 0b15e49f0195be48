"""Nix's errors become one sentence that names what was wrong and no place of this machine."""

import pytest

from carrel.packages.refusals import not_built, not_evaluated


@pytest.mark.parametrize(
    ("lines", "message", "retryable"),
    [
        (
            ["error: the test set has no package jqq; it has bash, jq, git"],
            "The test set has no package `jqq`. Did you mean `jq`? It has bash, git, jq.",
            False,
        ),
        (["error: nixpkgs has no package zzz"], "Nixpkgs has no package `zzz`.", False),
        (
            ["error: Package \u2018vscode-1.99.0\u2019 in /nix/store/x/y.nix:5 has an unfree license"],
            "The package vscode-1.99.0 is unfree, and the operator does not permit it: packages.unfree of "
            "_allowlists.yaml would have to name vscode.",
            False,
        ),
        (
            ["error: Package \u2018x-1\u2019 in /nix/store/x/y.nix:5 is marked as broken, refusing to evaluate."],
            "The package x-1 is marked as broken.",
            False,
        ),
        (
            ["error: getting status of '/home/x/.cache/packageset/jq.deb': No such file or directory"],
            "The environment cannot be built: getting status of 'jq.deb': No such file or directory",
            True,
        ),
        ([], "The environment cannot be built: no reason given", True),
    ],
)
def test_what_an_evaluation_says(lines: list[str], message: str, *, retryable: bool) -> None:
    error = not_evaluated(lines)
    assert (error.message, error.retryable) == (message, retryable)


@pytest.mark.parametrize(
    ("lines", "message", "retryable"),
    [
        (
            ["error: committing transaction: database or disk is full (in 'db.sqlite')"],
            "The disk is full: the environment cannot be built.",
            True,
        ),
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
            [
                "this derivation will be built:",
                "  /nix/store/abc-git.drv",
                "building '/nix/store/abc-git.drv'...",
                "compiling",
                "error: nixpkgs has no package zzz",
                "error: builder for '/nix/store/abc-git.drv' failed with exit code 2",
            ],
            "The environment cannot be built: git failed with exit code 2: compiling.",
            True,
        ),
    ],
)
def test_what_a_build_says(lines: list[str], message: str, *, retryable: bool) -> None:
    error = not_built(lines)
    assert (error.message, error.retryable) == (message, retryable)


def test_a_message_has_an_end() -> None:
    assert len(not_evaluated([f"error: {'x' * 10_000}"]).message) < 400
