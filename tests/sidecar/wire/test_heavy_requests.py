"""Bodies of more members than any request has: refused unread, or told without being decoded."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cache.key import canonical
from sidecar.native import native
from sidecar.wire import InvalidRequest, RequestFacts, read_raw_request, read_request, with_include_usage
from sidecar.wire.members import MOST_MEMBERS, has_more_members, has_more_members_in_python, is_heavy
from sidecar.wire.requests import REQUEST_READERS
from sidecar.wire.rewrite import with_model, with_output_cap
from sidecar.wire.strict import MAX_FIELDS, top_level
from sidecar.wire.token_prompts import part_tokens

PROMPTS = {
    "openai.chat": ("messages", [{"role": "user", "content": "hello"}]),
    "openai.completions": ("prompt", "hello"),
    "openai.responses": ("input", "hello"),
    "openai.embeddings": ("input", "hello"),
    "anthropic.messages": ("messages", [{"role": "user", "content": "hello"}]),
    "anthropic.count_tokens": ("messages", [{"role": "user", "content": "hello"}]),
}
PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.completions": "/v1/completions",
    "openai.embeddings": "/v1/embeddings",
}


def asking(api: str, **more: Any) -> bytes:
    name, prompt = PROMPTS[api]
    return json.dumps({"model": "m", name: prompt} | more).encode()


def flood(member: str) -> str:
    return ",".join([member] * (MOST_MEMBERS + 1))


FLOODS = {
    "numbers": f'"x":[{flood("1")}]',
    "objects": f'"tools":[{flood("{}")}]',
    "lists": f'"metadata":{{"a":[{flood("[[]]")}]}}',
    "texts": f'"stop":[{flood(chr(34) * 2)}]',
    "fields": ",".join([f'"k{number}":0' for number in range(MOST_MEMBERS + 1)]),
}


@pytest.mark.parametrize("api", PROMPTS)
@pytest.mark.parametrize("members", FLOODS)
def test_a_body_of_very_many_members_is_refused_before_any_is_decoded(api: str, members: str) -> None:
    # Behind them it is no JSON at all, which nobody finds out.
    body = asking(api)[:-1] + f",{FLOODS[members]},?".encode()

    with pytest.raises(InvalidRequest, match=f"more than {MOST_MEMBERS} members"):
        read_request(api, body)


def test_a_body_of_very_many_fields_is_refused_though_it_has_few_members() -> None:
    fields = {f"k{number}": 0 for number in range(MAX_FIELDS)}

    with pytest.raises(InvalidRequest, match=f"{MAX_FIELDS + 2} fields; at most {MAX_FIELDS}"):
        read_request("openai.chat", asking("openai.chat", **fields))


@pytest.mark.parametrize(
    "text", ["one, two, [three] and {four}, ", 'she said "yes, [no]"\n', "\\, ", '\\\\", [', "中,"]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_a_long_text_says_is_no_members(text: str, ascii_only: bool) -> None:
    messages = [{"role": "user", "content": text * 20_000}] * 8
    body = json.dumps({"model": "m", "messages": messages}, ensure_ascii=ascii_only).encode()

    assert read_request("openai.chat", body).text_bytes == 8 * 20_000 * len(text.encode())


texts = st.text(st.sampled_from('",[{}]\\\n a中'), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda below: st.lists(below, max_size=5) | st.dictionaries(texts, below, max_size=5),
    max_leaves=40,
)


def members_of(value: Any) -> int:
    """Containers, and a comma between each two members of one."""
    if isinstance(value, dict | list):
        members = list(value.values()) if isinstance(value, dict) else value
        return 1 + max(0, len(members) - 1) + sum(map(members_of, members))
    return 0


@given(values, st.booleans(), st.integers(-1, 1))
def test_members_are_counted_exactly_in_c_and_in_python(value: Any, ascii_only: bool, more: int) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    most = max(0, members_of(value) + more)

    assert (
        has_more_members(body, most) == has_more_members_in_python(body, most) == (members_of(value) > most)
    )


@pytest.mark.skipif(native is None, reason="the extension in C is not built here")
@given(st.binary(max_size=80) | st.text('",[{\\ 1', max_size=40).map(str.encode))
def test_what_is_no_json_is_counted_to_its_end_and_no_further(body: bytes) -> None:
    assert native.has_more_members(body, len(body)) is False


ROWS = [[number % 50_000 for number in range(8_192)] for _ in range(12)]


@pytest.mark.parametrize(
    ("given", "tokens", "prompts"),
    [(ROWS, 12 * 8_192, 12), (ROWS[0] * 12, 12 * 8_192, 1), ([[1, 2]] * 40_000, 80_000, 40_000)],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize(("api", "name"), [("openai.embeddings", "input"), ("openai.completions", "prompt")])
def test_prompts_of_very_many_tokens_are_counted(
    api: str, name: str, given: Any, tokens: int, prompts: int, separators: tuple[str, str]
) -> None:
    asked = {"user": "[0,1,2,3,4,5,6,7]", name: given, "model": "m", "n": 2}
    body = json.dumps(asked, separators=separators).encode()
    assert is_heavy(body)

    facts = read_request(api, body)

    assert facts.text_bytes == 4 * tokens
    assert facts.choice_count == (1 if api == "openai.embeddings" else 2 * prompts)
    assert facts == REQUEST_READERS[api](top_level(body), body)
    assert read_raw_request(PATHS[api], body) == facts


def test_tokens_of_a_deployment_that_the_path_names_are_counted_too() -> None:
    facts = read_raw_request("/openai/deployments/small/embeddings", json.dumps({"input": ROWS}).encode())

    assert (facts.api, facts.model, facts.text_bytes) == ("openai.embeddings", "small", 4 * 12 * 8_192)


@pytest.mark.parametrize(
    "asked",
    [
        {"input": ROWS, "metadata": ROWS},
        {"input": [[row] for row in ROWS]},
        {"input": [*ROWS, "text"]},
        {"input": [{"text": "a"}] * (MOST_MEMBERS + 1)},
        {"input": [[1]] * (MOST_MEMBERS + 1)},
        {"user": json.dumps(ROWS), "input": ROWS, "x": ROWS},
    ],
)
def test_what_is_more_than_tokens_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="members"):
        read_request("openai.embeddings", json.dumps({"model": "m"} | asked).encode())


def test_tokens_that_stand_in_a_text_first_are_told_from_the_prompt() -> None:
    tokens = json.dumps(ROWS)
    body = f'{{"model":"m","user":"{tokens}","input":{tokens}}}'.encode()

    with pytest.raises(InvalidRequest, match="members"):
        read_request("openai.embeddings", body)


def test_a_name_that_comes_twice_beside_tokens_is_refused() -> None:
    body = b'{"model":"m","model":"n","input":' + json.dumps(ROWS).encode() + b"}"

    assert part_tokens("openai.embeddings", body) is not None
    with pytest.raises(InvalidRequest, match="'model' appears twice"):
        read_request("openai.embeddings", body)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v2/chat", "/anything"])
@pytest.mark.parametrize("members", FLOODS)
def test_on_pass_through_such_a_body_says_what_it_may_cost(path: str, members: str) -> None:
    said = '{"stream":true,"n":3,"max_tokens":9,"user":"ann","options":{"temperature":1},'
    body = f'{said}{FLOODS[members]},"model":"m"}}'.encode()

    facts = read_raw_request(path, body)

    assert (facts.model, facts.stream, facts.choice_count) == ("m", True, 3)
    assert (facts.max_output_tokens, facts.user) == (9, "ann")
    assert facts.attributes == {"temperature": 1, "max_tokens": 9, "choice_count": 3}
    assert facts.text_bytes == len(body)


def test_on_pass_through_each_of_very_many_prompts_may_be_answered() -> None:
    body = json.dumps({"model": "m", "n": 2, "prompt": ["x"] * (MOST_MEMBERS + 1)}).encode()

    assert read_raw_request("/v1/completions", body).choice_count >= 2 * (MOST_MEMBERS + 1)


@pytest.mark.parametrize("end", [b"", b"?}", b"]"])
def test_a_heavy_body_on_pass_through_that_is_no_json_is_all_text(end: bytes) -> None:
    body = b'{"model":"m","x":[' + b"1," * (MOST_MEMBERS + 1) + end

    expected = RequestFacts("openai.chat", "", text_bytes=len(body))
    assert read_raw_request("/v1/chat/completions", body) == expected


def test_an_answer_to_a_heavy_request_is_not_kept() -> None:
    assert canonical(json.dumps({"model": "m", "input": ROWS}).encode()) is None
    assert canonical(json.dumps({"model": "m", "input": ROWS[:2]}).encode()) is not None


@pytest.mark.parametrize("members", FLOODS)
def test_usage_is_asked_for_and_a_cap_lowered_in_a_heavy_body_too(members: str) -> None:
    body = f'{{"max_tokens":900,{FLOODS[members]},"model":"m"}}\n'.encode()
    asked = json.loads(body)

    assert json.loads(with_include_usage(body)) == asked | {"stream_options": {"include_usage": True}}
    assert json.loads(with_output_cap("openai.chat", body, 7)) == asked | {"max_tokens": 7}
    uncapped = body.replace(b'"max_tokens":900,', b"")
    assert json.loads(with_output_cap("openai.chat", uncapped, 7))["max_completion_tokens"] == 7


def test_another_model_is_named_beside_very_many_tokens() -> None:
    body = json.dumps({"input": ROWS, "model": "m"}).encode()

    assert json.loads(with_model(body, "n")) == {"input": ROWS, "model": "n"}
