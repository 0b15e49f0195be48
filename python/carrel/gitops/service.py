"""What the edges ask of git: take what was pushed, look at the remote now, and whether a webhook may ask for that."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from carrel.errors import Conflict, NotFound, Unauthorized
from carrel.gitops.follow import Follower
from carrel.gitops.pull import Puller
from carrel.secrets import SecretStore
from carrel.vcs.settings import PullSettings
from carrel.wire.control import Actor
from carrel.wire.revisions import PullAnswer, PullOrder, RevisionTaken

SIGNATURES: Final = ("X-Hub-Signature-256", "X-Gitea-Signature", "X-Gitlab-Token")
"""What GitHub, Gitea and Forgejo, and GitLab prove themselves by."""


class GitService:
    """For a gateway that follows a branch; ``puller`` where that is elsewhere."""

    def __init__(self, *, follower: Follower, puller: Puller | None, pull: PullSettings | None, secrets: SecretStore):
        self._follower = follower
        self._puller = puller
        self._pull = pull
        self._secrets = secrets

    async def take(self, *, by: Actor) -> RevisionTaken:
        """Bring what is on the branch into force now."""
        taken = await self._follower.take()
        return RevisionTaken(revision=self._follower.revision, by=taken.by, plan=taken.plan)

    async def pull(self, order: PullOrder, *, by: Actor) -> PullAnswer:
        """Look at the remote now, and say how that ended."""
        if self._puller is None:
            raise Conflict("Nothing is pulled here: the branch is pushed to this gateway.")
        return await self._puller.look(accept=order.accept)

    def nudge(self, headers: Mapping[str, str], body: bytes) -> None:
        """Look at the remote soon, for a webhook that is signed; raises NotFound, Unauthorized."""
        if self._puller is None or self._pull is None or self._pull.webhook is None:
            raise NotFound("No webhook is taken here: `webhook` in the git settings names its secret.")
        secret = self._secrets.get(self._pull.webhook.secret).reveal().encode()
        if not secret or not any(_proves(name, headers.get(name), secret, body) for name in SIGNATURES):
            raise Unauthorized("The webhook's signature is missing or wrong.")
        self._puller.nudge()

    def report(self) -> Mapping[str, object]:
        """As `/v1/status` tells it."""
        return self._follower.report()


def _proves(name: str, given: str | None, secret: bytes, body: bytes) -> bool:
    if given is None or not given.isascii():
        return False
    if name == "X-Gitlab-Token":
        return hmac.compare_digest(given.encode(), secret)
    wanted = hmac.new(secret, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(given.removeprefix("sha256=").encode(), wanted.encode())
