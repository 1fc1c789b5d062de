"""Calls that begin alike have the same beginning, however their bodies are written."""

import json

from sidecar.providers.rendered import beginning_of

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
