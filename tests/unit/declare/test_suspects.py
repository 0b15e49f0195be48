import pytest

from carrel.declare.suspects import is_secret_of, looks_secret, may_hold_secret, secrets_in, without_secrets

SHAPES = [
    "sk-ant-api03-" + "a1B2c3D4" * 4, "sk-proj-" + "x9" * 20, "ghp_" + "a1" * 18, "github_pat_" + "A1b2" * 8,
    "AKIA" + "ABCDEFGH12345678", "xoxb-123456789012-abcdef", "tk_acme_" + "0f" * 16, "ak_ops_" + "0f" * 16,
    "AIza" + "B" * 35, "glpat-" + "a" * 20, "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----",
    "123456789:AA" + "E-x" * 11,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x", "say tk_acme_" + "0f" * 16 + " to it",
]  # fmt: skip


@pytest.mark.parametrize("text", SHAPES)
def test_known_shapes_are_secrets(text: str) -> None:
    assert looks_secret(text)
    assert may_hold_secret(f"a: {text}")


@pytest.mark.parametrize(
    "text",
    ["task-based work for the team", "sk-learn", "risk-averse-and-long-hyphenated-words", "tk_acme", "0f" * 32,
     "carrel_secret_0b5e0f0e-93a6-4f43-8d5b-0a7f6b1c2d3e", "sk-ant-carrel_secret_0b5e0f0e-93a6-4f43-8d5b-0a7f6b1c2d3e",
     "claude-sonnet-4-5", "https://api.example.com/v1", "You are a helpful assistant."],
)  # fmt: skip
def test_ordinary_text_is_none(text: str) -> None:
    assert not looks_secret(text)


def test_randomness_counts_under_a_telling_key_only() -> None:
    value = "q8Zr2Lw0Vx7Bn4Kd"
    assert list(secrets_in({"api_key": value})) == [("api_key",)]
    assert list(secrets_in({"channels": [{"bot_token": value}]})) == [("channels", 0, "bot_token")]
    assert list(secrets_in({"display_name": value, "sha256": "0f" * 32})) == []


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "openai-key-2", "slack.bot.token", "acme_openai"])
def test_a_secrets_name_is_none(name: str) -> None:
    assert list(secrets_in({"api_key": {"secret": name}})) == []


def test_the_value_in_place_of_the_name_is_one() -> None:
    assert list(secrets_in({"api_key": {"secret": "3f9a81c07be2d45a96f01c2b7d8e4a5f"}}))


@pytest.mark.parametrize("secret", SHAPES)
def test_of_a_known_shape_the_first_characters_are_left(secret: str) -> None:
    placeholder = "sk-ant-carrel_secret_0b5e0f0e-93a6-4f43-8d5b-0a7f6b1c2d3e"
    shown = without_secrets(f"use {placeholder} or {secret}\nand go on")
    assert shown.startswith(f"use {placeholder} or ")
    assert secret[-12:] not in shown
    assert not looks_secret(shown)
    assert without_secrets(shown) == shown
    assert without_secrets(placeholder) == placeholder


def test_of_a_key_in_pem_nothing_is_left() -> None:
    body = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"] * 9)
    pem = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    assert without_secrets(f"a {pem} b") == "a ----*** b"
    assert "MIIE" not in without_secrets(f"a {pem[:-40]}")


def test_what_is_random_under_a_telling_key() -> None:
    assert is_secret_of("password", "q8Zr2Lw0Vx7Bn4Kd")
    assert is_secret_of("channels.main.bot_token", "q8Zr2Lw0Vx7Bn4Kd")
    assert not is_secret_of("password", "short")
    assert not is_secret_of("name", "q8Zr2Lw0Vx7Bn4Kd")
