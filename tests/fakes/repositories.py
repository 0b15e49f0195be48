"""Git as a person at another machine uses it: a clone, commits (signed where asked), and objects that nobody makes."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

GIT_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C.UTF-8",
}


def keypair(path: Path) -> Path:
    """An ed25519 key at ``path``, its public half beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)
    return path


class Clone:
    """A work tree at ``path`` with commits by ``who``. ``prefix`` is what git is started by."""

    def __init__(self, path: Path, *, who: str = "alice", ssh: str | None = None, prefix: Sequence[str] = ()) -> None:
        self.path = path
        self._prefix = tuple(prefix)
        self._settings = ["-c", f"user.name={who}", "-c", f"user.email={who}@example.org", "-c", "safe.directory=*"]
        self._env = {**GIT_ENV, **({"GIT_SSH_COMMAND": ssh} if ssh is not None else {})}
        if not path.exists():
            path.mkdir(parents=True)
            self.git("init", "-q", "-b", "main")

    def run(
        self, *words: str, stdin: bytes = b"", settings: Sequence[str] = (), wait: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Git's answer, whatever it is."""
        more = [word for setting in settings for word in ("-c", setting)]
        done = subprocess.run(
            [*self._prefix, "git", *self._settings, *more, *words], cwd=self.path, env=self._env, input=stdin,
            capture_output=True, timeout=wait, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        )

    def git(self, *words: str, stdin: bytes = b"", settings: Sequence[str] = ()) -> str:
        """What git printed; a failure fails the test."""
        done = self.run(*words, stdin=stdin, settings=settings)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def commit(
        self, files: Mapping[str, str | bytes | None], message: str = "a change", *, key: Path | None = None
    ) -> str:
        """Write ``files`` (None removes) and commit, signed by ``key`` where it is given; the commit."""
        for name, text in files.items():
            file = self.path / name
            if text is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.git("add", "--all")
        self.git(
            "commit", "-q", "--allow-empty", "-m", message, *(["-S"] if key is not None else []),
            settings=("gpg.format=ssh", f"user.signingKey={key}"),
        )  # fmt: skip
        return self.git("rev-parse", "HEAD")

    def blob(self, data: bytes) -> str:
        """A blob's name."""
        return self.git("hash-object", "-w", "--stdin", stdin=data)

    def raw_tree(self, entries: Sequence[tuple[str, bytes, str]]) -> str:
        """A tree of (mode, name, object), sorted and else as it is said: names and modes that git would not make."""
        entries = sorted(entries, key=lambda e: e[1] + (b"/" if e[0] == "40000" else b""))
        data = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(sha) for mode, name, sha in entries)
        return self.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=data)

    def raw_commit(self, tree: str, parent: str | None = None) -> str:
        """A commit of a tree."""
        return self.git("commit-tree", tree, *(["-p", parent] if parent is not None else []), "-m", "raw")

    def entries(self) -> list[tuple[str, bytes, str]]:
        """The top of HEAD's tree, for `raw_tree`."""
        lines = self.git("ls-tree", "HEAD").splitlines()
        return [
            (mode.lstrip("0"), name.encode(), sha)
            for line in lines
            for about, _, name in [line.partition("\t")]
            for mode, _, sha in [about.split()]
        ]
