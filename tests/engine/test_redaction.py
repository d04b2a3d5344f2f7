import pytest

from raybench.engine.redaction import is_secret_flag, redact, redact_argv, redact_env, redact_url, secrets_of

HUB_TOKEN = "hf_" + "a1B2" * 8


@pytest.mark.parametrize(
    ("flag", "secret"),
    [
        ("api-key", True),
        ("admin-api-key", True),
        ("ssl-keyfile-password", True),
        ("max-total-tokens", False),
        ("tokenizer-path", False),
        ("keep-mm-feature-on-device", False),
    ],
)
def test_secret_flags(flag: str, secret: bool) -> None:
    assert is_secret_flag(flag) is secret


def test_secrets_are_taken_from_flags_and_variables() -> None:
    args = {"api-key": "k-1", "tp-size": 8, "admin-api-key": "k-2"}
    env = {"HF_TOKEN": "t-1", "TOKENIZERS_PARALLELISM": "false", "AWS_SECRET_ACCESS_KEY": "s-1"}
    assert secrets_of(args, env) == ("k-1", "k-2", "t-1", "s-1")


@pytest.mark.parametrize(
    "text",
    [
        "token hidden-key-1 in a line",
        f"Using {HUB_TOKEN} now",
        "server_args=ServerArgs(api_key='unknown-to-us', port=1)",
        "server_args={'api_key': 'unknown-to-us', 'port': 1}",
        "'launch_command': '--api-key unknown-to-us --port 1'",
        "Authorization: Bearer unknown-to-us",
    ],
)
def test_nothing_secret_is_left_in_text(text: str) -> None:
    shown = redact(text, ["hidden-key-1", "x"])
    assert "***" in shown
    for secret in ("hidden-key-1", "unknown-to-us", HUB_TOKEN):
        assert secret not in shown


def test_a_short_secret_does_not_tear_the_text() -> None:
    assert redact("Exit code 2", ["e"]) == "Exit code 2"


def test_words_after_secret_flags_are_hidden_however_short() -> None:
    argv = ["--api-key", "e", "--tp-size", "8", "--model-path", "e"]
    assert redact_argv(argv, ["e"]) == ("--api-key", "***", "--tp-size", "8", "--model-path", "e")


def test_secret_variables_are_hidden() -> None:
    env = {"HF_TOKEN": "abc", "SGLANG_ENABLE_JIT_DEEPGEMM": "0", "NOTE": "see hidden-key-1"}
    assert redact_env(env, ["hidden-key-1"]) == {
        "HF_TOKEN": "***",
        "SGLANG_ENABLE_JIT_DEEPGEMM": "0",
        "NOTE": "see ***",
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:word@example.org:8000/", "http://example.org:8000"),
        ("https://example.org/base?key=1#x", "https://example.org/base"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
)
def test_urls_lose_their_credentials(url: str, shown: str) -> None:
    assert redact_url(url) == shown
