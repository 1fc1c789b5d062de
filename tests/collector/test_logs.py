import base64
import io
import json
import logging
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import logs

Lines = Callable[[], list[dict[str, Any]]]
SECRET = "c4nary+s3cret/v4lue=="


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What was logged, one dictionary a line."""
    stream = io.StringIO()
    logs.configure("sidecar", "debug", [SECRET], stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    put_back()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def put_back() -> None:
    logs.configure("", "warning", (), io.StringIO())
    root = logging.getLogger()
    root.removeHandler(root.handlers[-1])
    logging.raiseExceptions = True


def test_a_record_is_one_json_object_with_its_fields(lines: Lines) -> None:
    logs.get("sidecar.http").info("listening", address="127.0.0.1", port=4000)

    [told] = lines()
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "info",
        "component": "sidecar",
        "logger": "sidecar.http",
        "message": "listening",
        "address": "127.0.0.1",
        "port": 4000,
    }


def test_what_is_not_on_the_list_is_left_out_and_named(lines: Lines) -> None:
    logs.get("x").info("call", status=200, body="the prompt", headers="authorization: ...")

    [told] = lines()
    assert told["status"] == 200
    assert told["left_out"] == "body,headers"
    assert "the prompt" not in str(told)


def test_a_record_carries_the_trace_it_belongs_to(lines: Lines) -> None:
    token = logs.trace_id.set("0af7651916cd43dd8448eb211c80319c")
    try:
        logs.get("x").info("in a call")
        logging.getLogger("uvicorn").warning("of another library")
        logs.get("x").info("of another trace", trace_id="1" * 32)
    finally:
        logs.trace_id.reset(token)

    assert [told["trace_id"] for told in lines()] == ["0af7651916cd43dd8448eb211c80319c"] * 2 + ["1" * 32]


def test_nothing_in_a_record_can_begin_a_line_of_its_own(lines: Lines) -> None:
    logs.get("x").info('one\n{"level": "error", "message": "forged"}', model="m\r\nx")

    assert len(lines()) == 1


def spellings(secret: str) -> dict[str, str]:
    raw = secret.encode()
    return {
        "raw": secret,
        "url": quote(secret),
        "url, every character": quote(secret, safe=""),
        "form": quote_plus(secret),
        "json": json.dumps({"k": secret}),
        "base64": base64.b64encode(raw).decode(),
        "base64 for urls": base64.urlsafe_b64encode(raw).decode(),
        "basic authentication": base64.b64encode(b"user:" + raw).decode(),
        "basic authentication, another name": base64.b64encode(b"me:" + raw + b"!").decode(),
        "inside other bytes": base64.b64encode(b"{" + raw + b"}").decode(),
        "hex": raw.hex(),
    }


@pytest.mark.parametrize("spelling", spellings(SECRET))
def test_a_known_secret_is_masked_in_every_spelling(lines: Lines, spelling: str) -> None:
    """Case H04, by value."""
    text = spellings(SECRET)[spelling]
    try:
        raise RuntimeError(f"upstream said {text}")
    except RuntimeError as error:
        logs.get("x").error(f"failed with {text}", failure=error, reason=text, url=f"http://h/?q={text}")
        logging.getLogger("library").exception("also %s", text)

    told = json.dumps(lines())
    for found in hidden_parts(text):
        assert found not in told


def hidden_parts(text: str) -> list[str]:
    """Pieces long enough to be of use to a thief."""
    core = text[len(text) // 4 : len(text) * 3 // 4]
    return [text, core]


@given(
    secret=st.text(string.ascii_letters + string.digits + "+/=_-%&\"' ", min_size=8, max_size=60),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_base64_gives_a_secret_away_at_no_offset(secret: str, before: bytes, after: bytes) -> None:
    redact = logs.Redactor([secret])
    encoded = base64.b64encode(before + secret.encode() + after).decode()

    left = redact(encoded)

    assert logs.MASK in left
    # What depends on the secret alone is gone; at most the characters it shares with its neighbours stay.
    assert len(left) - len(logs.MASK) <= len(encoded) - (len(secret) * 8 // 6 - 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("key sk-proj-abcDEF123456_7890 used", "key *** used"),
        ("sk-ant-api03-abcdefghijklmnop", "***"),
        ("vk_" + "a1" * 21, "***"),
        ("AIzaSyA-1234567890abcdefghijklmnopqrstu", "***"),
        ("Authorization: Bearer abc.def.ghi", "Authorization: Bearer ***"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: basic ***"),
        ('{"x-api-key": "hunter22222"}', '{"x-api-key": "***"}'),
        ("GET /v1beta/models?key=abcd1234&alt=sse", "GET /v1beta/models?key=***&alt=sse"),
        ("redis://user:hunter2@host:6379", "redis://***@host:6379"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "***"),
        ("gsk_abcdefghijklmnop12345", "***"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, told: str) -> None:
    """Case H04, by shape."""
    assert logs.redact_shapes(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "gpt-5-mini",
        "anthropic/claude-sonnet-4-5-20250929",
        "Mozilla/5.0 (X11; Linux x86_64) OpenAI/Python 3.54.0",
        "risk-assessment-agent-v2 and task-force-alpha-and-omega",
        "http://127.0.0.1:4318/v1/traces",
        "019a0000-0000-7000-8000-000000000001",
        "key-value-store-of-many-words",
        "basically a token limit",
    ],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert logs.redact_shapes(text) == text


def test_a_failure_is_told_by_type_message_and_places_without_its_values(lines: Lines) -> None:
    def reads(key_material: str) -> None:
        raise ValueError("cannot read it")

    try:
        reads("pa55word-of-a-local-variable")
    except ValueError as error:
        logs.get("x").error("broken", failure=error)

    [told] = lines()
    assert (told["error_type"], told["error"]) == ("ValueError", "cannot read it")
    assert told["places"][-1].endswith(" reads")
    assert told["places"][-1].startswith("collector/test_logs.py:")
    assert "pa55word" not in str(told)


def test_long_texts_are_cut(lines: Lines) -> None:
    logs.get("x").info("m" * 100_000, reason="r" * 100_000)

    [told] = lines()
    assert len(told["message"]) == len(told["reason"]) == 1003


def test_a_broken_format_of_another_library_is_told_as_it_is(lines: Lines) -> None:
    logging.getLogger("library").warning("%d calls", "many")

    assert lines()[0]["message"] == "%d calls"


def test_levels_below_the_configured_one_are_silent() -> None:
    stream = io.StringIO()
    logs.configure("x", "warning", (), stream)
    logs.get("x").info("quiet")
    logs.get("x").warning("loud")
    put_back()

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="log level 'chatty' is not one of"):
        logs.configure("x", "chatty")


def test_configuring_again_does_not_say_everything_twice(lines: Lines) -> None:
    stream = io.StringIO()
    logs.configure("x", "info", (), stream)
    logs.get("x").info("once")

    assert len(stream.getvalue().splitlines()) == 1
    assert lines() == []


def test_people_at_a_terminal_read_words_and_nothing_steers_it() -> None:
    stream = Terminal()
    logs.configure("sidecar", "info", [SECRET], stream)
    try:
        raise RuntimeError("no")
    except RuntimeError as error:
        logs.get("x").error(f"red \x1b[31m {SECRET}", failure=error, port=4000, model="a\nb")
    put_back()

    first, *places = stream.getvalue().splitlines()
    assert (
        first[8:]
        == " error   sidecar red \\x1b[31m *** port=4000 model=a\\nb error_type=RuntimeError error=no"
    )
    assert len(places) == 1


def test_a_state_is_told_when_it_changes_and_not_while_it_lasts(lines: Lines) -> None:
    now = 100.0
    state = logs.StateLog(logs.get("collector.ingest"), "the journal", clock=lambda: now)

    assert state.enter("ok") is False
    assert state.enter("behind", lag_s=2.5) is True
    now += 60
    assert [state.enter("behind") for _ in range(3)] == [False] * 3
    assert state.enter("ok") is True

    behind, ok = lines()
    assert (behind["level"], behind["message"], behind["lag_s"]) == ("warning", "the journal: behind", 2.5)
    assert (ok["level"], ok["previous_state"], ok["after_s"], ok["count"]) == ("info", "behind", 60, 3)


def test_importing_it_loads_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import collector.logs; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['collector']"
