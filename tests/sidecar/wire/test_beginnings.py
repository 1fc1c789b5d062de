"""A long chat that goes on from an earlier one: read quicker, and never read otherwise."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.wire import Beginnings, InvalidRequest, RequestFacts, read_request
from sidecar.wire.beginnings import MOST, MOST_BYTES, WORTH_BYTES

LONG = 'He said "so": ünï\\code\n' * 400
SYSTEM = {"role": "system", "content": f"You are careful. {LONG}"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
COMPACT, SPACED = (",", ":"), (", ", ": ")

turns = st.one_of(
    st.builds(lambda text: {"role": "user", "content": text}, st.text(max_size=40)),
    st.builds(lambda text: {"role": "assistant", "content": text}, st.text(max_size=40)),
    st.just({"role": "assistant", "content": None, "tool_calls": [CALL]}),
    st.sampled_from(["Error: no such file", "all is well", ""]).map(
        lambda text: {"role": "tool", "tool_call_id": "c1", "content": text}
    ),
    st.just({"role": "user", "content": [{"type": "text", "text": "in parts"}]}),
)


def written(body: dict[str, Any], separators: tuple[str, str] = SPACED, **how: Any) -> bytes:
    return json.dumps(body, separators=separators, **how).encode()


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [SYSTEM, *messages], **more}


def read(body: bytes, beginnings: Beginnings | None = None, scope: str = "") -> RequestFacts:
    return read_request("openai.chat", body, beginnings=beginnings, scope=scope)


@given(
    st.lists(st.lists(turns, max_size=4), min_size=2, max_size=4),
    st.sampled_from([COMPACT, SPACED]),
    st.booleans(),
    st.sampled_from([{}, {"temperature": 0.5, "stream": True}, {"tools": [CALL]}, {"user": "u"}]),
)
@settings(max_examples=50, deadline=None)
def test_a_conversation_that_grows_is_read_as_if_every_call_were_the_first(
    growth: list[list[Any]], separators: tuple[str, str], ascii_only: bool, more: dict[str, Any]
) -> None:
    beginnings, history = Beginnings(), []
    for added in growth:
        history += added
        body = written(chat(*history, **more), separators, ensure_ascii=ascii_only)
        assert len(body) >= WORTH_BYTES
        assert read(body, beginnings) == read(body)


def test_only_what_is_new_is_kept_in_the_place_of_what_it_goes_on_from() -> None:
    beginnings = Beginnings()
    history: list[Any] = [{"role": "user", "content": "one"}]
    for _ in range(5):
        read(written(chat(*history)), beginnings)
        history += [{"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}]
    assert len(beginnings) == 1


def test_failed_tools_are_counted_across_the_end_of_what_is_known() -> None:
    failed = {"role": "tool", "tool_call_id": "c1", "content": "Error: no such file"}
    asked = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}
    beginnings = Beginnings()
    assert read(written(chat(asked, failed)), beginnings).tool_errors == 1
    assert read(written(chat(asked, failed, failed)), beginnings).tool_errors == 2
    answered = {"role": "user", "content": "never mind"}
    assert read(written(chat(asked, failed, failed, answered)), beginnings).tool_errors == 0


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (b', "api_base": "http://elsewhere"}', "api_base is not allowed"),
        (b', "model": "another"}', "appears twice"),
        (b', "metadata": ' + b"[" * 70 + b"]" * 70 + b"}", "nested deeper"),
        (b", }", "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_what_follows_a_known_beginning_is_checked_as_strictly(ending: bytes, said: str) -> None:
    whole = written(chat({"role": "user", "content": "one"}))
    beginnings = Beginnings()
    read(whole, beginnings)
    for known in (beginnings, None):
        with pytest.raises(InvalidRequest, match=said):
            read(whole[:-1] + ending, known)


def test_a_comma_behind_the_last_known_message_needs_another_message() -> None:
    whole = written(chat({"role": "user", "content": "one"}))
    beginnings = Beginnings()
    read(whole, beginnings)
    for broken in (whole[:-2] + b",]}", whole[:-2] + b", ]}", whole[:-2] + b",,{}]}"):
        with pytest.raises(InvalidRequest):
            read(broken, beginnings)


def test_the_limit_of_messages_counts_the_known_ones() -> None:
    said = {"role": "user", "content": "more"}
    beginnings = Beginnings()
    read(written(chat(*[said] * 9_000)), beginnings)
    with pytest.raises(InvalidRequest, match="10002 members"):
        read(written(chat(*[said] * 10_001)), beginnings)


def test_scopes_share_no_beginnings() -> None:
    beginnings = Beginnings()
    body = written(chat({"role": "user", "content": "one"}))
    read(body, beginnings, "key-1")
    assert beginnings.find("key-1", body) is not None
    assert beginnings.find("key-2", body) is None


def test_memory_for_beginnings_is_bounded() -> None:
    beginnings = Beginnings()
    for number in range(3 * MOST):
        read(written(chat({"role": "user", "content": f"{number} " + "x" * 100_000})), beginnings)
    assert 1 < len(beginnings) <= MOST_BYTES // 100_000
    read(written(chat({"role": "user", "content": "x" * MOST_BYTES})), beginnings)
    assert beginnings.find("", written(chat({"role": "user", "content": "x" * MOST_BYTES}))) is None


def test_a_body_written_in_another_way_is_read_in_full() -> None:
    beginnings = Beginnings()
    body = written(chat({"role": "user", "content": "one"}), indent=1)
    assert read(body, beginnings) == read(body)
    assert len(beginnings) == 0
