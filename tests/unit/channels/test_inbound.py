from carrel.channels.inbound import Chat


def test_every_chat_has_a_key_of_its_own() -> None:
    chats = [
        Chat(id="42", kind="direct"), Chat(id="42", kind="group"), Chat(id="-42", kind="group"),
        Chat(id="-42", kind="group", thread="7"), Chat(id="43", kind="direct"),
    ]  # fmt: skip
    assert len({chat.key for chat in chats}) == len(chats)
