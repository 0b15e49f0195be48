import pytest

from carrel.channels.admission import verdict
from carrel.channels.inbound import Chat, Inbound
from tests.fakes.channels import telegram

DIRECT = Inbound(number=1, chat=Chat(id="42", kind="direct"), sender="42", text="hello")
GROUP = Inbound(number=1, chat=Chat(id="-7", kind="group"), sender="42", text="hello", addressed=True)


@pytest.mark.parametrize(
    ("policy", "listed", "paired", "judged"),
    [
        ("pairing", False, False, "pair"), ("pairing", False, True, "admit"), ("pairing", True, False, "admit"),
        ("allowlist", False, True, "ignore"), ("allowlist", True, False, "admit"),
        ("open", False, False, "admit"),
        ("disabled", True, True, "ignore"),
    ],
)  # fmt: skip
def test_who_may_write_directly(policy: str, listed: bool, paired: bool, judged: str) -> None:
    channel = telegram(dm_policy=policy, allow_from=[42] if listed else [43])
    assert verdict(channel, DIRECT, paired=paired) == judged


@pytest.mark.parametrize("policy", ["pairing", "open"])
def test_a_group_is_listened_to_only_where_it_is_named_and_the_bot_too(policy: str) -> None:
    named, other = telegram(dm_policy=policy, groups=[-7]), telegram(dm_policy=policy, groups=[-8], allow_from=[42])
    assert verdict(named, GROUP, paired=False) == "admit"
    assert verdict(named, GROUP.model_copy(update={"addressed": False}), paired=True) == "ignore"
    assert verdict(other, GROUP, paired=True) == "ignore"
