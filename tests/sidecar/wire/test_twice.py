"""What a request on pass-through says twice is held for at the dearer, whichever its provider takes."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import RequestFacts, read_raw_request
from sidecar.wire.members import MOST_MEMBERS, is_heavy
from sidecar.wire.twice import both_ways, dearest_tier

CHAT = "/openai/v1/chat/completions"
GEMINI = "/v1beta/models/gemini-2.5-pro:generateContent"
OTHER = "/some/path/of/its/own"
FLOOD = b',"x":[' + b",".join([b"1"] * (MOST_MEMBERS + 1)) + b"]}"


def read(path: str, body: bytes, *, heavy: bool) -> RequestFacts:
    if heavy:
        body = body[:-1] + FLOOD
        assert is_heavy(body)
    return read_raw_request(path, body, "application/json")


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("path", [CHAT, OTHER])
@pytest.mark.parametrize(
    "said",
    [
        b'"max_tokens":9000,"max_tokens":10',
        b'"max_tokens":10,"max_tokens":9000',
        b'"max_tokens": 10, "max_tokens" : 9000',
    ],
)
def test_the_highest_of_two_caps_holds(path: str, said: bytes, heavy: bool) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],' + said + b"}"

    assert read(path, body, heavy=heavy).max_output_tokens == 9000


@pytest.mark.parametrize("heavy", [False, True])
def test_where_one_of_two_caps_is_none_there_is_none(heavy: bool) -> None:
    body = b'{"model":"m","max_tokens":null,"max_tokens":10}'

    assert read(OTHER, body, heavy=heavy).max_output_tokens is None


def test_a_name_in_disguise_is_read_or_else_nothing_is_believed() -> None:
    body = b'{"model":"m","max_tokens":10,"max_\\u0074okens":9000,"n":1}'
    assert read(OTHER, body, heavy=False).max_output_tokens == 9000

    facts = read(OTHER, body, heavy=True)
    assert (facts.model, facts.max_output_tokens, facts.choice_count) == ("", None, 1024)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("names", [(b"cheap", b"dear"), (b"dear", b"cheap")])
@pytest.mark.parametrize("path", [CHAT, OTHER])
def test_all_models_that_are_named_are_told(path: str, names: tuple[bytes, bytes], heavy: bool) -> None:
    body = b'{"model":"%b","messages":[{"role":"user","content":"hi"}],"model":"%b"}' % names
    facts = read(path, body, heavy=heavy)

    assert {facts.model, *facts.other_models} == {"cheap", "dear"}


@pytest.mark.parametrize("heavy", [False, True])
def test_choices_tiers_and_streams_count_as_the_dearest(heavy: bool) -> None:
    tiers = b'"service_tier":"priority","service_tier":"flex"'
    body = b'{"model":"m","n":1,"n":8,%b,"stream":false,"stream":true}' % tiers
    facts = read(OTHER, body, heavy=heavy)

    assert (facts.choice_count, facts.attributes["service_tier"], facts.stream) == (8, "priority", False)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("caps", [(5, 7000), (7000, 5)])
def test_options_are_read_both_ways_too(caps: tuple[int, int], heavy: bool) -> None:
    body = b'{"contents":[],"generationConfig":{"maxOutputTokens":%d,"maxOutputTokens":%d}}' % caps
    facts = read(GEMINI, body, heavy=heavy)

    assert (facts.model, facts.other_models) == ("gemini-2.5-pro", ())
    assert facts.max_output_tokens == 7000


@pytest.mark.parametrize("heavy", [False, True])
def test_what_is_said_once_stands_as_it_is_said(heavy: bool) -> None:
    tool = {"name": "ask", "parameters": {"max_tokens": {"type": "integer"}, "model": {"type": "string"}}}
    asked = {"model": "m", "max_tokens": 7, "n": 2, "stream": True, "prompt": "hi", "tools": [tool]}
    facts = read(OTHER, json.dumps(asked).encode(), heavy=heavy)

    assert (facts.model, facts.other_models, facts.max_output_tokens) == ("m", (), 7)
    assert (facts.choice_count, facts.stream) == (2, True)


def test_the_longer_of_two_prompts_is_counted() -> None:
    long, short = json.dumps("word " * 1000).encode(), b'"hi"'
    for first, last in ((long, short), (short, long)):
        body = b'{"model":"m","prompt":%b,"prompt":%b}' % (first, last)
        assert read_raw_request("/v1/completions", body).text_bytes >= 5000


def test_a_heavy_body_that_says_one_thing_very_often_is_held_for_without_it() -> None:
    many = b",".join([b'"max_tokens":1,"model":"m%d"' % number for number in range(MOST_MEMBERS)])
    began = time.monotonic()
    facts = read_raw_request(OTHER, b'{"stream":true,' + many + b"}")

    assert (facts.model, facts.max_output_tokens) == ("", None)
    assert time.monotonic() - began < 2


names = st.sampled_from(["max_tokens", "model", "n", "x"])
members = st.lists(st.tuples(names, st.integers(1, 9)), max_size=6)


@given(members)
def test_a_body_is_read_as_by_those_who_take_the_first_and_the_last(pairs: list[tuple[str, int]]) -> None:
    body = "{" + ",".join(f'"{name}":{number}' for name, number in pairs) + "}"
    both = both_ways(body.encode())

    assert both is not None
    first, last = both
    assert json.loads(first) == dict(reversed(pairs))
    assert json.loads(last) == dict(pairs)


@pytest.mark.parametrize("many", [b'"x":"' + b"word " * 300_000 + b'",', b'"x":1,' * 9000])
def test_a_long_body_that_says_something_twice_is_looked_through(many: bytes) -> None:
    """To read it twice would hold up all other calls."""
    facts = read_raw_request(CHAT, b"{" + many + b'"model":"a","max_tokens":9000,"model":"b","max_tokens":1}')

    assert {facts.model, *facts.other_models} == {"a", "b"}
    assert facts.max_output_tokens == 9000


def test_a_body_of_too_many_fields_is_read_both_ways_too() -> None:
    fields = b",".join([b'"x%d":1' % number for number in range(1500)])
    facts = read_raw_request(CHAT, b'{"model":"a","max_tokens":9000,"max_tokens":1,' + fields + b"}")

    assert facts.max_output_tokens == 9000


def test_an_unknown_tier_costs_as_the_usual_one() -> None:
    assert dearest_tier(["flex", "scale"]) == "scale"
    assert dearest_tier(["", "flex"]) == ""
    assert dearest_tier(["batch", "fast", "priority"]) == "priority"


@pytest.mark.parametrize("odd", [b'"\\ud83d"', b'"\xff"', b"NaN", b"-Infinity", b"1e999", b"9" * 5000])
@pytest.mark.parametrize("path", [CHAT, OTHER])
def test_what_is_not_quite_json_still_says_what_it_asks_for(odd: bytes, path: str) -> None:
    """An emoji cut in two is no text, yet most providers take it; the hold was for one short answer then."""
    asked = b'"model":"m","n":9,"max_tokens":90000,"service_tier":"priority"'
    facts = read_raw_request(path, b'{"x":%b,%b}' % (odd, asked))

    assert (facts.model, facts.choice_count, facts.max_output_tokens) == ("m", 9, 90000)
    assert facts.attributes["service_tier"] == "priority"


@pytest.mark.parametrize("odd", [b'"\\ud83d"', b'"\xff"', b"NaN", b"1e999", b"9" * 5000])
def test_no_oddity_hides_the_other_model(odd: bytes) -> None:
    """A key that may use the cheap one only is not to reach the dear one so."""
    facts = read_raw_request(OTHER, b'{"x":%b,"model":"dear","model":"cheap"}' % odd)

    assert facts.model == "" or {facts.model, *facts.other_models} == {"cheap", "dear"}
