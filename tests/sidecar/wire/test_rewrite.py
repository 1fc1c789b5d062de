"""A lower cap on a request: where its dialect looks for it, and nothing else changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import read_request, with_output_cap

MESSAGES = {"messages": [{"role": "user", "content": "x"}]}
ASKED: dict[str, dict[str, Any]] = {
    "openai.chat": MESSAGES,
    "openai.completions": {"prompt": "x"},
    "openai.responses": {"input": "x"},
    "anthropic.messages": MESSAGES,
}


@pytest.mark.parametrize(
    ("api", "fields", "names"),
    [
        ("openai.chat", {"max_tokens": 900}, ["max_tokens"]),
        ("openai.chat", {"max_completion_tokens": 900}, ["max_completion_tokens"]),
        (
            "openai.chat",
            {"max_tokens": 900, "max_completion_tokens": 800},
            ["max_tokens", "max_completion_tokens"],
        ),
        ("openai.chat", {}, ["max_completion_tokens"]),
        ("openai.chat", {"max_tokens": None}, ["max_completion_tokens"]),
        ("openai.chat", {"max_completion_tokens": None}, ["max_completion_tokens"]),
        ("openai.completions", {}, ["max_tokens"]),
        ("openai.responses", {"max_output_tokens": 900}, ["max_output_tokens"]),
        ("openai.responses", {}, ["max_output_tokens"]),
        ("anthropic.messages", {"max_tokens": 900}, ["max_tokens"]),
    ],
)
def test_a_lower_cap_stands_where_the_dialect_looks_for_it_and_changes_nothing_else(
    api: str, fields: dict[str, Any], names: list[str]
) -> None:
    given = {"model": "m", "temperature": 1.10, **fields, "seed": 12345678901234567890}
    body = json.dumps(given).replace("1.1", "1.10").encode()

    capped = with_output_cap(api, body, 100)

    assert json.loads(capped) == given | dict.fromkeys(names, 100)
    assert b"1.10" in capped
    assert with_output_cap(api, capped, 100) == capped


@pytest.mark.parametrize("api", ASKED)
@given(st.integers(1, 10**9), st.integers(0, 10**6))
def test_what_was_capped_is_read_back_as_capped(api: str, asked: int, cap: int) -> None:
    name = "max_output_tokens" if api == "openai.responses" else "max_tokens"
    body = json.dumps({"model": "m", **ASKED[api], name: asked}).encode()
    assert read_request(api, with_output_cap(api, body, cap)).max_output_tokens == cap


@pytest.mark.parametrize("body", [b"", b"[]", b"{broken", b"7", b'"x"', b"null", b"[" * 5000])
def test_a_body_that_cannot_be_capped_stays_as_it_is(body: bytes) -> None:
    assert with_output_cap("openai.chat", body, 5) == body


def test_a_dialect_without_a_cap_is_left_alone() -> None:
    body = b'{"model":"m","input":"x","max_tokens":900}'
    assert with_output_cap("openai.embeddings", body, 5) == body
    assert with_output_cap("raw", body, 5) == body
