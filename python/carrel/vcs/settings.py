"""The host's settings of GitOps: whether tenants.d is pushed to here or pulled from elsewhere, and by what rules.

They are no part of what is pushed or pulled: whoever may write declarations may not choose whose signatures count.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from carrel.declare.base import Declared, Seconds, SecretRef
from carrel.declare.file import parse
from carrel.declare.problems import DeclarationInvalid
from carrel.errors import CarrelError
from carrel.vcs.tree import Limits

MAX_BYTES = 64 * 1024

BranchName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_-]+)*$", max_length=100)]
RemoteUrl = Annotated[
    str, Field(pattern=r"^(?:ssh://|https://|file:///|[A-Za-z0-9_.]+@)[^\s\x00-\x1f]+$", max_length=2000)
]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00-\x1f]*$", max_length=4096)]


class Hosted(Declared):
    """What push and pull have in common."""

    branch: BranchName = Field("main", description="The branch that counts.")
    directory: Annotated[str, Field(pattern=r"^(?:[A-Za-z0-9_][A-Za-z0-9._-]*/?)*$", max_length=200)] = Field(
        "", description="Where in the repository the declarations are; default: at its top."
    )
    max_files: Annotated[int, Field(ge=1, le=1_000_000)] = Field(20_000, description="Files in the repository.")
    max_file_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = Field(1 << 20, description="Bytes of one file.")
    max_tree_bytes: Annotated[int, Field(ge=1024, le=1 << 34)] = Field(64 << 20, description="Bytes of all files.")
    max_transfer_bytes: Annotated[int, Field(ge=1024, le=1 << 34)] = Field(
        64 << 20, description="Bytes that one push or fetch may bring."
    )
    keep_revisions: Annotated[int, Field(ge=1, le=1000)] = Field(
        5, description="Exported revisions that stay on disk. Commits all stay."
    )

    @property
    def below(self) -> str:
        """``directory`` as a path in a tree."""
        return self.directory.strip("/")

    @property
    def limits(self) -> Limits:
        """The limits on a tree."""
        return Limits(self.max_files, self.max_file_bytes, self.max_tree_bytes)


class PushSettings(Hosted):
    """The repository here is pushed to."""

    wait_seconds: Seconds = Field(30.0, description="How long whoever pushed waits to see each tenant ready.")


class PullSettings(Hosted):
    """A branch elsewhere is followed."""

    url: RemoteUrl = Field(description="The repository: `ssh://`, `https://`, `user@host:path`, or `file:///`.")
    interval_seconds: Seconds = Field(60.0, description="How often the branch is looked at.")
    timeout_seconds: Seconds = Field(120.0, description="How long one look may take.")
    allowed_signers: AbsolutePath | None = Field(
        None, description="The file of whose SSH signatures count, in the format of ssh-keygen(1)."
    )
    unsigned: bool = Field(False, description="Take commits without looking at signatures.")
    signed_since: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$|^[0-9a-f]{64}$")] | None = Field(
        None, description="A commit that is trusted as it is: those after it must be signed. Default: all must be."
    )
    ssh_key: SecretRef | None = Field(None, description="The private key for ssh.")
    known_hosts: AbsolutePath | None = Field(None, description="The file of host keys; needed for ssh.")
    token: SecretRef | None = Field(None, description="The password or access token for https.")
    user: Annotated[str, Field(pattern=r"^[^\s:]+$", max_length=100)] = Field(
        "carrel", description="The user that goes with `token`."
    )
    webhook: SecretRef | None = Field(
        None, description="The secret that a webhook to `/v1/git/nudge` is signed with; without one it is refused."
    )

    @property
    def scheme(self) -> Literal["ssh", "https", "file"]:
        """How the remote is reached."""
        if self.url.startswith("https://"):
            return "https"
        return "file" if self.url.startswith("file://") else "ssh"

    @property
    def reads(self) -> tuple[Path, ...]:
        """The files on this machine that are read: signers, host keys, and the repository where it is here."""
        here = self.url.removeprefix("file://") if self.scheme == "file" else None
        return tuple(Path(path) for path in (self.allowed_signers, self.known_hosts, here) if path is not None)

    @model_validator(mode="after")
    def _whole(self) -> "PullSettings":
        if (self.allowed_signers is None) != self.unsigned:
            raise ValueError("name `allowed_signers`, or say `unsigned: true`: one of the two")
        if self.scheme == "ssh" and self.known_hosts is None:
            raise ValueError("name `known_hosts`, the file of the remote's host keys: none is believed at first sight")
        if self.scheme == "https" and "@" in self.url.split("/")[2]:
            raise ValueError("a password is not written in `url`: name it as `token: {secret: NAME}`")
        return self


class GitSettings(Declared):
    """One of push and pull."""

    push: PushSettings | None = None
    pull: PullSettings | None = None

    @model_validator(mode="after")
    def _one(self) -> "GitSettings":
        if (self.push is None) == (self.pull is None):
            raise ValueError("say `push: {}` or `pull: {url: …}`: one of the two")
        return self

    @property
    def hosted(self) -> Hosted:
        """What holds in either case."""
        return self.push or self.pull or PushSettings()

    @property
    def mode(self) -> Literal["push", "pull"]:
        """Which one it is."""
        return "push" if self.push is not None else "pull"


def load_settings(path: Path) -> GitSettings:
    """The settings in the file ``path``; raises DeclarationInvalid with each problem, CarrelError where unread."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CarrelError(f"The git settings {path} cannot be read: {error.strerror}.") from error
    parsed = parse(str(path), hashlib.sha256(data).hexdigest(), data, GitSettings)
    if parsed.layer is None or len(data) > MAX_BYTES:
        raise DeclarationInvalid(parsed.problems)
    return GitSettings.model_validate_json(json.dumps(parsed.layer))
