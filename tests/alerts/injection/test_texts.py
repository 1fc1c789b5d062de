"""What of a request came from users and tools, in every dialect, whole or cut."""

import json

import pytest

from alerts.injection.texts import inbound_texts


@pytest.mark.parametrize(
    ("request_body", "texts"),
    [
        (
            {
                "messages": [
                    {"role": "system", "content": "be brief"},
                    {"role": "user", "content": "one"},
                    {"role": "assistant", "content": "said"},
                    {"role": "tool", "content": "a page", "tool_call_id": "t"},
                    {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "image_url"}]},
                ]
            },
            ["one", "a page", "two"],
        ),
        (
            {
                "system": "be brief",
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "one"}]},
                    {"role": "assistant", "content": [{"type": "tool_use", "input": {"text": "mine"}}]},
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "t", "content": "a page"},
                            {"type": "tool_result", "content": [{"type": "text", "text": "two"}]},
                        ],
                    },
                ],
            },
            ["one", "a page", "two"],
        ),
        ({"instructions": "be brief", "input": "one"}, ["one"]),
        (
            {
                "input": [
                    {"role": "developer", "content": "be brief"},
                    {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
                    {"role": "assistant", "content": [{"type": "output_text", "text": "said"}]},
                    {"type": "function_call_output", "call_id": "c", "output": "a page"},
                ]
            },
            ["one", "a page"],
        ),
        ({"prompt": "one"}, ["one"]),
        ({"prompt": ["one", "two"]}, ["one", "two"]),
        ({"input": ["one", "two"]}, ["one", "two"]),
        ({"messages": "none"}, []),
        ({"messages": [7, {"role": "user", "content": None}, {"role": "user", "content": "  "}]}, []),
        ([], []),
    ],
)  # fmt: skip
def test_texts_of_users_and_tools_are_found_and_the_operators_are_not(
    request_body: object, texts: list[str]
) -> None:
    assert inbound_texts(json.dumps(request_body).encode()) == texts


def test_what_is_no_request_has_no_texts() -> None:
    assert inbound_texts(b"") == []
    assert inbound_texts(b'{"messages": [') == []
    assert inbound_texts(b"\xff\xfe") == []
    assert inbound_texts(b"[" * 100_000) == []


def test_of_a_request_that_was_cut_the_texts_at_its_end_are_found() -> None:
    body = json.dumps(
        {"messages": [{"role": "user", "content": f'text "{n}" \u00e9'} for n in range(9)]}
    ).encode()

    assert inbound_texts(body[40:], is_cut=True)[-3:] == [f'text "{n}" \u00e9' for n in (6, 7, 8)]


@pytest.mark.parametrize(
    "unit", [b'"content":"', b'"content":"\\', b'"text" : "x\\"', b'\\"content\\":\\"', b"{" * 11]
)
def test_a_hostile_body_is_read_in_time_that_grows_as_it_does(unit: bytes) -> None:
    # Work that grew with the square of the size would take hours here, and meet the test's own limit.
    assert len(inbound_texts(unit * ((8 << 20) // len(unit)), is_cut=True)) <= 8 << 20
