"""The dialect that a refusal is worded in."""

import pytest

from sidecar.asker import dialect_of
from sidecar.http.head import requested_path

KINDS = {
    "openai": "openai",
    "claude": "anthropic",
    "gem": "google",
    "aws": "bedrock",
    "co": "cohere",
    "local": "vllm",
}
VERSION = (b"anthropic-version", b"2023-06-01")
X_API_KEY = (b"x-api-key", b"sk")
BEARER = (b"authorization", b"Bearer sk")


@pytest.mark.parametrize(
    ("path", "headers", "dialect"),
    [
        # The dialects' own paths.
        ("/v1/chat/completions", [VERSION], "openai.chat"),
        ("/v1/responses", [], "openai.responses"),
        ("/v1/messages", [], "anthropic.messages"),
        ("/v1/messages/batches", [], "anthropic.messages"),
        # Below an upstream's name: by the path, else by what the upstream speaks.
        ("/claude/v1/files", [], "anthropic.messages"),
        ("/claude/v1/chat/completions", [], "openai.chat"),
        ("/openai/v1/files", [VERSION], "openai.chat"),
        ("/local/v1/messages", [BEARER], "anthropic.messages"),
        ("/local/v1/files", [VERSION], "anthropic.messages"),
        ("/local/v1/files", [BEARER], "openai.chat"),
        ("/gem/v1beta/models/gemini-2.5-pro:generateContent", [], "gemini"),
        ("/gem/v1beta/openai/chat/completions", [], "openai.chat"),
        ("/gem/v1beta/openai/models", [], "openai.chat"),
        ("/aws/model/amazon.nova-lite-v1:0/converse", [], "bedrock"),
        ("/co/v2/chat", [], "cohere"),
        # Where nothing is configured, by its usual name, or by what the client shows.
        ("/anthropic/v1/files", [], "anthropic.messages"),
        ("/nowhere/v1/messages", [], "anthropic.messages"),
        ("/v1/models", [VERSION, BEARER], "anthropic.messages"),
        ("/v1/models", [X_API_KEY], "anthropic.messages"),
        ("/v1/models", [X_API_KEY, BEARER], "openai.chat"),
        ("/v1beta/models", [(b"x-goog-api-key", b"k")], "gemini"),
        ("/v1/files", [BEARER], "openai.chat"),
        ("", None, "openai.chat"),
    ],
)
def test_a_refusal_is_in_the_dialect_of_whoever_asked(
    path: str, headers: list[tuple[bytes, bytes]] | None, dialect: str
) -> None:
    assert dialect_of(path, headers, KINDS) == dialect


@pytest.mark.parametrize(
    ("head", "path"),
    [
        (b"POST /v1/messages HTTP/1.1\r\nbad header\r\n", "/v1/messages"),
        (b"POST /anthropic//v1/messages?a=b HTTP/1.1\r\n", "/anthropic//v1/messages"),
        (b"TRACE /v1/messages HTTP/1.1\r\n", "/v1/messages"),
        (b"POST /v1/messages HTTP/2.0\r\n", "/v1/messages"),
        (b"POST /v1/mess\x01ages HTTP/1.1\r\n", ""),
        (b"GET\r\n", ""),
        (b"", ""),
        (b"\x16\x03\x01\x02", ""),
    ],
)
def test_a_head_that_is_refused_still_says_its_path(head: bytes, path: str) -> None:
    assert requested_path(head) == path
