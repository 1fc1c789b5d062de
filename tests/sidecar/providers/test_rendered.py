"""Calls that begin alike have the same beginning, however their bodies are written."""

import json

from sidecar.providers.pool_settings import PrefixConfig
from sidecar.providers.rendered import PrefixKeys, beginning_of
from sidecar.wire import RequestFacts, read_request

MOST = 256
SYSTEM = "You are careful. " * 40


def body(*messages: str, **more: object) -> bytes:
    talk = [{"role": "system", "content": SYSTEM}, *({"role": "user", "content": one} for one in messages)]
    return json.dumps({"model": "m", "messages": talk, **more}).encode()


def test_long_bodies_and_short_ones_that_begin_alike_have_the_same_beginning() -> None:
    long = beginning_of(body("hi", "x" * 50_000, user="u"), MOST)
    short = beginning_of(body("hi"), 10_000)[:MOST]

    assert len(long) == MOST
    assert long == short == beginning_of(body("something else"), MOST)
    assert long.startswith(b'[{"role": "system"')


def test_tools_and_system_prompts_come_first_wherever_they_stand() -> None:
    tools = [{"name": "search", "description": "x" * 400}]
    plain, with_tools = beginning_of(body("hi"), MOST), beginning_of(body("hi", tools=tools), MOST)
    assert with_tools != plain
    assert with_tools == json.dumps(tools).encode()[:MOST]
    messages = {"model": "m", "messages": [{"role": "user", "content": "y" * 900}], "system": SYSTEM}
    assert beginning_of(json.dumps(messages).encode(), MOST) == json.dumps(SYSTEM).encode()[:MOST]


def test_words_in_quotes_do_not_deceive() -> None:
    talk = [{"role": "user", "content": 'say "messages": and "tools": ' + "z" * 2000}]
    plain = json.dumps({"note": 'a "messages": b', "messages": talk}).encode()
    assert beginning_of(plain, MOST) == json.dumps(talk).encode()[:MOST]


def test_what_is_no_body_has_no_beginning() -> None:
    assert beginning_of(b"", MOST) == b""
    assert beginning_of(b"[" * 2000, MOST) == b""
    assert beginning_of(b"\xff" * 2000, MOST) == b""
    assert beginning_of(b"{}", MOST) == b""


def facts_of(asked: bytes) -> RequestFacts:
    return read_request("openai.chat", asked)


def keys_of(bodies: list[bytes], tenant: str = "t") -> list[int | None]:
    """By one memory for all, in this order."""
    keys = PrefixKeys(PrefixConfig(blocks=4, block_tokens=16))
    return [keys.of(asked, facts_of(asked), tenant) for asked in bodies]


def test_calls_that_begin_alike_have_one_key_and_others_have_others() -> None:
    tools = [{"type": "function", "function": {"name": "search", "description": "x" * 400, "parameters": {}}}]
    talks = [body("hi"), body("hi", "y" * 9000), body("hi", "z" * 40_000), body("hi", user="u")]
    others = [
        body("hi", tools=tools),
        body("hi", "y" * 9000, tools=[{"type": "function", "function": {"name": "other"}}]),
        body("hi").replace(b"careful", b"cheerful"),
        body("hi").replace(b'"m"', b'"n"'),
    ]

    first, *same = keys_of(talks)

    assert first is not None
    assert same == [first] * len(same)
    assert len({first, *keys_of(others), *keys_of(talks, "another tenant")}) == 2 + len(others)


def test_what_is_remembered_of_a_key_changes_nothing() -> None:
    """Asked in any order, and again, a body has the key that it has alone."""
    system = {"role": "system", "content": SYSTEM}
    bodies = [
        json.dumps({"messages": [system, {"role": "user", "content": text}], "model": model, **more}).encode()
        for text in ("a", "b" * 3000)
        for model in ("m", "n")
        for more in ({}, {"tools": [{"type": "function", "function": {"name": "f" * 300}}]}, {"seed": 1})
    ]
    bodies += [json.dumps({"model": "m", "metadata": {"k": "v" * 500}, "messages": [system]}).encode()]
    alone = [keys_of([asked])[0] for asked in bodies]

    assert keys_of(bodies + bodies[::-1]) == alone + alone[::-1]


def test_what_has_no_whole_block_has_no_key() -> None:
    short = json.dumps({"model": "m", "messages": []}).encode()
    assert keys_of([short, short]) == [None, None]
