"""Tool calls of one reply, told apart however a provider numbers and names them."""

import json
from typing import Any

import pytest

from tests.sidecar.wire.conftest import bytewise, new_meter, read, run


def tool_chunk(*calls: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "tool_calls": list(calls)}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def fragment(name: str, arguments: str, **more: Any) -> dict[str, Any]:
    return {"index": 0, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


PARALLEL = [("look", '{"at": "a"}'), ("look", '{"at": "b"}'), ("go", "{}"), ("go", "{}")]


@pytest.mark.parametrize("more", [{}, {"id": ""}, {"id": None}])
@pytest.mark.parametrize("together", [False, True])
def test_parallel_calls_without_ids_that_are_all_number_0_are_so_many_calls(
    more: dict[str, Any], together: bool
) -> None:
    calls = [fragment(name, arguments, **more) for name, arguments in PARALLEL]
    data = tool_chunk(*calls) if together else b"".join([tool_chunk(call) for call in calls])
    numbered = [{**call, "index": place} for place, call in enumerate(calls)]
    for pieces in ([data], bytewise(data)):
        facts = run(new_meter(), pieces)[1]
        assert facts.tool_names == ["look", "look", "go", "go"]
        assert facts.tool_call_hashes == read(tool_chunk(*numbered)).tool_call_hashes
        assert facts.output_text_bytes == sum(len(name + arguments) for name, arguments in PARALLEL)


@pytest.mark.parametrize(
    "fragments",
    [
        [fragment("look", "", id="c1"), {"index": 0, "function": {"arguments": '{"at": "a"}'}}],
        [fragment("look", '{"at"', id="c1"), fragment("look", ': "a"}', id="c1")],
        [fragment("look", '{"at"', id=""), fragment("look", ': "a"}', id="")],
        [fragment("look", '{"at": "a"}', id="c1"), fragment("look", "", id="c1")],
        [fragment("look", '{"at": "a"', id=""), {"index": 0, "function": {"arguments": "}"}}],
    ],
)
def test_a_call_that_comes_in_fragments_is_one_call(fragments: list[dict[str, Any]]) -> None:
    facts = read(b"".join([tool_chunk(part) for part in fragments]))
    assert facts.tool_names == ["look"]
    assert facts.tool_call_hashes == read(tool_chunk(fragment("look", '{"at": "a"}'))).tool_call_hashes
