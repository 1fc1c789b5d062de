"""Only the last text of the user may differ between similar requests."""

from typing import Any

import pytest

from sidecar.cache.question import LONGEST, question_of
from sidecar.cache.said import text_of
from tests.sidecar.cache.conftest import entry_with

USER = {"role": "user", "content": "Why?"}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
SYSTEM = {"role": "system", "content": "Be brief."}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), **more}


def text(api: str, body: dict[str, Any], **more: bool) -> str | None:
    found = question_of(api, body, **more)
    return None if found is None else found[0]


def test_the_question_is_the_last_text_of_the_user_in_each_dialect() -> None:
    assert text("openai.chat", chat(SYSTEM, USER)) == "Why?"
    parts = {"role": "user", "content": [{"type": "text", "text": "Why?"}]}
    assert text("openai.chat", chat(parts)) == "Why?"
    assert text("anthropic.messages", chat(parts, system="Be brief.")) == "Why?"
    assert text("openai.responses", {"model": "m", "input": "Why?"}) == "Why?"
    asked = {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}
    assert text("openai.responses", {"model": "m", "input": [asked]}) == "Why?"


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("openai.chat", chat(USER, tools=[{}])),
        ("openai.chat", chat(USER, functions=[{}])),
        ("openai.chat", chat(USER, n=2)),
        ("openai.chat", chat(USER, modalities=["text", "audio"])),
        ("openai.chat", chat(USER, {"role": "assistant", "content": "So."}, USER)),
        ("openai.chat", chat(USER, {"role": "tool", "content": "4", "tool_call_id": "1"})),
        ("openai.chat", chat(SYSTEM)),
        ("openai.chat", chat()),
        ("openai.chat", chat(IMAGE)),
        ("openai.chat", chat({"role": "user", "content": " "})),
        ("openai.chat", chat({"role": "user", "content": "w" * (LONGEST + 1)})),
        ("openai.chat", {"model": "m", "messages": "Why?"}),
        ("openai.completions", {"model": "m", "prompt": "Why?"}),
        ("openai.embeddings", {"model": "m", "input": "Why?"}),
        ("openai.responses", {"model": "m", "input": [{"type": "function_call_output", "output": "4"}]}),
    ],
)  # fmt: skip
def test_tools_images_conversations_and_documents_have_no_question(api: str, body: dict[str, Any]) -> None:
    assert question_of(api, body) is None


def test_a_conversation_has_one_where_that_is_allowed_and_all_before_it_is_the_scope() -> None:
    answer = {"role": "assistant", "content": "So."}
    talk = chat(USER, answer, {"role": "user", "content": "And then?"})
    found = question_of("openai.chat", talk, multi_turn=True)
    assert found is not None and found[0] == "And then?" and found[1]["messages"][:2] == [USER, answer]
    called = {"role": "assistant", "content": "", "tool_calls": [{}]}
    assert question_of("openai.chat", chat(USER, called, USER), multi_turn=True) is None


def test_what_is_around_two_questions_is_the_same_and_the_request_is_not_touched() -> None:
    body = chat(SYSTEM, USER)
    one = question_of("openai.chat", body)
    other = question_of("openai.chat", chat(SYSTEM, {"role": "user", "content": "How?"}))
    assert one is not None and other is not None and one[1] == other[1]
    assert body == chat(SYSTEM, USER)


def test_the_text_of_an_answer_is_read_in_each_dialect() -> None:
    bodies = [
        b'{"choices":[{"message":{"content":"So."}}]}',
        b'{"content":[{"type":"text","text":"So."}]}',
        b'{"output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"So."}]}]}',
    ]
    assert {text_of(entry_with(body=body)) for body in bodies} == {"So."}
    streams = [
        b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"So."}}]}\n\ndata: [DONE]\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"So."}}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"So."}\n\n',
    ]
    for content_type in (b"text/event-stream", b"Text/Event-Stream"):
        assert {text_of(entry_with(content_type=content_type, body=one)) for one in streams} == {"So."}
    assert text_of(entry_with(body=b"[]")) == text_of(entry_with(body=b"x")) == ""
