import json
import pickle
from pathlib import Path

import pytest

from carrel.secrets import MAX_SECRET_BYTES, Secret, SecretMissing, SecretStore, environment_name, masked


def store(tmp_path: Path, **environ: str) -> SecretStore:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "secrets").mkdir()
    return SecretStore(credentials_dir=tmp_path / "credentials", secrets_dir=tmp_path / "secrets", environ=environ)


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret!s:>40} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert secret.reveal() == "hunter2"


def test_credentials_come_before_the_directory_before_the_environment(tmp_path: Path) -> None:
    secrets = store(tmp_path, CARREL_SECRET_OPENAI_KEY="third")
    assert secrets.get("openai-key").reveal() == "third"
    (tmp_path / "secrets" / "openai-key").write_text("second\n")
    assert secrets.get("openai-key").reveal() == "second"
    (tmp_path / "credentials" / "openai-key").write_text("first\n")
    assert secrets.get("openai-key").reveal() == "first"


def test_a_missing_secret_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(SecretMissing, match=r"CARREL_SECRET_OPENAI_KEY"):
        store(tmp_path).get("openai-key")


@pytest.mark.parametrize("name", ["../secrets/x", "/etc/passwd", "", "a/b", ".hidden"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecretMissing, match="not a secret's name"):
        store(tmp_path).get(name)


def test_an_oversized_secret_is_refused(tmp_path: Path) -> None:
    secrets = store(tmp_path)
    (tmp_path / "secrets" / "big").write_text("x" * (MAX_SECRET_BYTES + 1))
    with pytest.raises(SecretMissing, match="over"):
        secrets.get("big")


def test_the_environment_name_is_upper_case() -> None:
    assert environment_name("open.ai-key") == "CARREL_SECRET_OPEN_AI_KEY"


def test_tokens_and_keys_are_cut_to_their_prefix() -> None:
    text = f"token tk_acme_{'a' * 32}, key ak_ops-1_{'0' * 32}; {'b' * 64}"
    assert masked(text) == f"token tk_acme_***, key ak_ops-1_***; {'b' * 64}"
    assert masked("task_a is no token") == "task_a is no token"
    assert masked(f"req_tk_acme_{'a' * 32}_x") == "req_tk_acme_***_x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to s3://AKIA1:se/cr+et@bucket/x", "to s3://AKIA1:***@bucket/x"),
        ("'https://me:pw@h:1/b' is none", "'https://me:***@h:1/b' is none"),
        ("https://ghp_abc@github.com/a.git", "https://***@github.com/a.git"),
        ("ssh://git@host/a.git", "ssh://git@host/a.git"),
        ("http://h:8080/a?mail=me@x", "http://h:8080/a?mail=me@x"),
        ("https://h/a@b and c@d", "https://h/a@b and c@d"),
    ],
)
def test_what_a_url_logs_in_with_is_not_shown(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_the_gateways_own_keys_are_no_secrets_to_name(tmp_path: Path) -> None:
    store = SecretStore(credentials_dir=tmp_path, secrets_dir=None, environ={})
    for name in ("carrel-master-key", "audit-signing-key"):
        (tmp_path / name).write_text("key")
        with pytest.raises(SecretMissing, match="goes nowhere"):
            store.get(name)
