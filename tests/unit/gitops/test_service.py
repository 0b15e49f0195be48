import hashlib
import hmac
from pathlib import Path
from typing import Any, cast

import pytest

from carrel.errors import Conflict, NotFound, Unauthorized
from carrel.gitops.service import GitService
from carrel.ids import RequestId
from carrel.secrets import SecretStore
from carrel.vcs.settings import PullSettings
from carrel.wire.control import Actor
from carrel.wire.revisions import PullOrder

BY = Actor("ak_ops", RequestId("req_1"))
BODY = b'{"ref": "refs/heads/main"}'
SECRET = "s3cret"


class Nudged:
    """A puller that counts."""

    times = 0

    def nudge(self) -> None:
        self.times += 1


def service(tmp_path: Path, *, hook: bool = True, pulls: bool = True) -> tuple[GitService, Nudged]:
    (tmp_path / "hook-secret").write_text(SECRET)
    settings = {"url": "https://example.org/t.git", "unsigned": True}
    pull = PullSettings.model_validate(settings | ({"webhook": {"secret": "hook-secret"}} if hook else {}))
    nudged = Nudged()
    secrets = SecretStore(credentials_dir=None, secrets_dir=tmp_path, environ={})
    made = GitService(
        follower=cast(Any, None), puller=cast(Any, nudged) if pulls else None, pull=pull if pulls else None,
        secrets=secrets,
    )  # fmt: skip
    return made, nudged


def signed(body: bytes = BODY, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Hub-Signature-256": f"sha256={signed()}"},
        {"X-Gitea-Signature": signed()},
        {"X-Gitlab-Token": SECRET},
    ],
)
def test_a_signed_webhook_is_a_nudge(tmp_path: Path, headers: dict[str, str]) -> None:
    made, nudged = service(tmp_path)
    made.nudge(headers, BODY)
    assert nudged.times == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": f"sha256={signed(BODY + b' ')}"},
        {"X-Hub-Signature-256": f"sha256={signed(secret='other')}"},
        {"X-Hub-Signature-256": ""},
        {"X-Gitlab-Token": "s3cre"},
        {"X-Gitlab-Token": "é"},
        {"X-Gitea-Signature": signed()[:-1] + ("0" if signed()[-1] != "0" else "1")},
    ],
)
def test_S7_one_flipped_byte_or_none_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    made, nudged = service(tmp_path)
    with pytest.raises(Unauthorized):
        made.nudge(headers, BODY)
    assert nudged.times == 0


@pytest.mark.parametrize(("hook", "pulls"), [(False, True), (True, False)])
def test_S7_an_unset_secret_disables_the_route(tmp_path: Path, hook: bool, pulls: bool) -> None:
    made, _ = service(tmp_path, hook=hook, pulls=pulls)
    with pytest.raises(NotFound):
        made.nudge({"X-Hub-Signature-256": f"sha256={signed()}"}, BODY)


async def test_nothing_is_pulled_where_it_is_pushed(tmp_path: Path) -> None:
    made, _ = service(tmp_path, pulls=False)
    with pytest.raises(Conflict, match="pushed to this gateway"):
        await made.pull(PullOrder(), by=BY)
