"""Tools that failed are counted in OpenAI's dialects too, where results are nothing but text."""

import json
from typing import Any

import pytest

from sidecar.wire import read_request
from sidecar.wire.tool_results import says_error

FAILED = [
    "Error: file not found",
    "  error executing tool search: timeout",
    # As the OpenAI Agents SDK, LangGraph, Pydantic AI and MCP servers in Python word it.
    "An error occurred while running the tool. Please try again. Error: 'q' is missing",
    "Error: ValueError('no such id')\n Please fix your mistakes.",
    "1 validation error for tool\n...\n\nFix the errors and try again.",
    "Error executing tool divide: division by zero",
    "Traceback (most recent call last):\n  File ...",
    "requests.exceptions.ConnectTimeout: no route to host",
    "ToolException('rate limited')",
    '{"error": {"code": 404, "message": "no such issue"}}',
    '{"error": "denied", "data": null}',
    '{"isError": true, "content": []}',
    '{"success": false, "reason": "locked"}',
    '{"status": "Error"}',
    '{"errors": [{"message": "unknown field"}]}',
    "{'error': 'no such file'}",
]
FINE = [
    "",
    "   ",
    "42",
    "No errors were found.",
    "src/errors.py:12: class ToolError(Exception):",
    "12 passed, 1 failed in 0.5 s",
    '{"error": null, "result": 7}',
    '{"errors": [], "rows": []}',
    '{"data": {"user": 1}, "errors": [{"message": "one field is missing"}]}',
    '{"success": true, "status": "ok"}',
    '{"rows": [{"error": "of another time"}]}',
    "{'error': None, 'rows': []}",
    "{not json",
    "[1, 2]",
    "errors: 0, warnings: 3",
]


@pytest.mark.parametrize("text", FAILED)
def test_a_result_that_says_so_is_an_error(text: str) -> None:
    assert says_error(text.encode())


@pytest.mark.parametrize("text", FINE)
def test_a_result_that_only_speaks_of_errors_is_none(text: str) -> None:
    assert not says_error(text.encode())


def chat(*results: str, unusual: bool = False) -> int:
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        for n in range(len(results))
    ]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Error: look"},
        {"role": "assistant", "content": None, "tool_calls": calls[:1]},
        {"role": "tool", "tool_call_id": "c0", "content": "Error: of the step before"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": f"c{n}", "content": text} for n, text in enumerate(results)),
    ]
    if unusual:
        messages[0]["a_new_member"] = 1
    body = {"model": "m", "messages": messages}
    return read_request("openai.chat", json.dumps(body).encode()).tool_errors


def responses(*results: str, unusual: bool = False, status: str = "completed") -> int:
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "Error: look"},
        {"type": "function_call", "call_id": "b", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "b", "output": "Error: of the step before"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        *(
            {"type": "function_call", "call_id": f"c{n}", "name": "look", "arguments": "{}"}
            for n in range(len(results))
        ),
        *(
            {"type": "function_call_output", "call_id": f"c{n}", "output": text, "status": status}
            for n, text in enumerate(results)
        ),
    ]
    if unusual:
        items[0]["a_new_member"] = 1
    return read_request("openai.responses", json.dumps({"model": "m", "input": items}).encode()).tool_errors


@pytest.mark.parametrize("read", [chat, responses])
@pytest.mark.parametrize("unusual", [False, True])
def test_only_the_results_that_stand_last_are_counted(read: Any, unusual: bool) -> None:
    assert read("Error: no", "fine", '{"error": "x"}', unusual=unusual) == 2
    assert read("fine", unusual=unusual) == 0
    assert read("Error: no", unusual=unusual) == 1


@pytest.mark.parametrize("unusual", [False, True])
def test_a_result_that_is_incomplete_failed(unusual: bool) -> None:
    assert responses("half of it", unusual=unusual, status="incomplete") == 1


def test_what_a_person_says_is_no_result_of_a_tool() -> None:
    messages = [{"role": "user", "content": "Error: it does not work"}]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    assert read_request("openai.chat", body).tool_errors == 0
