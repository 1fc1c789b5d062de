"""The real litellm in its process, in front of a provider that plays recorded exchanges back."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anthropic
import httpx
import openai
import pytest
from support.stack import Stack, wait_for
from support.upstream import Answer

from tests.sidecar.providers.conftest import ACCOUNTS, SECRETS, Recordings
from tests.sidecar.wire.conftest import Case, cases
from tests.sidecar.wire.test_recorded import FIELDS, expected_usage

__all__ = ["cases"]

CHATS = {"chat.completions", "messages", "converse", "converse-stream", "invoke", "generateContent", "chat"}
CHATS |= {"invoke-stream", "streamGenerateContent"}
EMBEDDINGS = {"embeddings", "embed"}

PROVIDER_NAMES = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "together": "together_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""OTel's names where they differ from ours."""

HELLO = [{"role": "user", "content": "Hello"}]


def model_of(case: Case) -> str:
    asked = case["request"].get("model") if isinstance(case.get("request"), dict) else None
    place = re.search(r"/model/([^/]+)/|/models/([^:/]+):|/deployments/([^/]+)/", case["url"])
    model = asked or (unquote(next(filter(None, place.groups()))) if place else "m")
    return f"invoke/{model}" if case["endpoint"].startswith("invoke") else model


def can_be_played(case: Case) -> bool:
    """Whether litellm would ask in the way in which this was recorded."""
    if case["provider"] not in ACCOUNTS:
        return False
    if case["endpoint"] == "chat.completions" and case["provider"] == "google":
        return False  # litellm speaks Gemini's own language.
    if case["endpoint"] == "streamGenerateContent":
        return (case.get("sse") or "").startswith("data:")  # Not an array.
    # litellm 1.106 cannot ask Claude 2 through InvokeModel any more.
    return case["endpoint"] in CHATS | EMBEDDINGS and "claude-v2" not in case["url"]


def ask(client: httpx.Client, case: Case) -> httpx.Response:
    body: dict[str, Any] = {"model": model_of(case)}
    if case["endpoint"] in EMBEDDINGS:
        path, body = "embeddings", body | {"input": ["one", "two"]}
    else:
        stream = bool(case["expected"]["stream"])
        path, body = "chat/completions", body | {"messages": HELLO, "max_tokens": 100, "stream": stream}
    url = f"/{case['provider']}/v1/{path}"
    return client.post(url, json=body, headers={"x-bursar-agent": "replay"})


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=90) as made:
        yield made


def rows_of(stack: Stack, agent: str, count: int) -> list[dict[str, Any]]:
    """The ledger's calls of ``agent``, oldest first, once there are ``count``."""

    def found() -> list[dict[str, Any]] | None:
        rows = stack.ask("calls", agent=agent, limit=1000)
        return rows if len(rows) >= count else None

    rows = wait_for(f"{count} calls of {agent}", found)
    assert len(rows) == count
    return sorted(rows, key=lambda row: (row["started_at"], row["call_id"]))


def test_what_is_charged_is_what_the_recorded_provider_said(
    stack: Stack, client: httpx.Client, provider: Recordings, cases: list[Case]
) -> None:
    played = [case for case in cases if can_be_played(case)]
    assert len({case["provider"] for case in played}) >= 14
    wrong: list[Any] = []
    for case in played:
        provider.case = case
        reply = ask(client, case)
        failed = case["status"] >= 400 or (case["expected"]["error"] and not case["expected"]["stream"])
        if reply.status_code != case["status"] and not (failed and reply.status_code >= 400):
            wrong.append((case["id"], "status", reply.status_code, reply.text[:200]))
    rows = rows_of(stack, "replay", len(played))
    for case, row in zip(played, rows, strict=True):
        told = expected_usage(case)
        if case["status"] < 400 and told is not None:
            wrong += [
                (case["id"], field, row[field], getattr(told, field))
                for field in list(FIELDS.values())[:6]
                if row[field] != getattr(told, field)
            ]
            if row["usage_grade"] != "reported":
                wrong.append((case["id"], row["usage_grade"]))
        elif case["status"] < 400 and row["usage_grade"] == "reported":
            wrong.append((case["id"], "reported though nothing was"))
        if row["provider_name"] != PROVIDER_NAMES.get(case["provider"], case["provider"]):
            wrong.append((case["id"], row["provider_name"]))
    assert wrong == []


def test_an_error_keeps_its_status_its_words_and_its_retry_after(
    stack: Stack, client: httpx.Client, provider: Recordings
) -> None:
    told = f"Slow down, key {SECRETS['PROVIDER_KEY']}"
    said = {"message": told, "type": "tokens", "code": "rate_limit_exceeded"}
    body = json.dumps({"error": said}).encode()
    headers = [
        ("content-type", "application/json"),
        ("retry-after", "1"),
        ("x-ratelimit-remaining-tokens", "0"),
    ]
    provider.script = lambda seen: Answer(429, headers=headers, pieces=[body])
    try:
        reply = client.post("/v1/chat/completions", json={"model": "llama", "messages": HELLO})
    finally:
        provider.script = None
    assert reply.status_code == 429
    assert reply.headers["retry-after"] == "1"
    assert reply.headers["x-ratelimit-remaining-tokens"] == "0"
    assert reply.json()["error"]["message"].startswith("Slow down")
    assert reply.json()["error"]["code"] == "rate_limit_exceeded"
    assert SECRETS["PROVIDER_KEY"] not in reply.text
    assert provider.server.seen[-1].header("authorization") == f"Bearer {SECRETS['PROVIDER_KEY']}"


def test_a_field_that_cannot_be_said_is_refused_by_its_name(
    client: httpx.Client, provider: Recordings
) -> None:
    asked = len(provider.server.seen)
    reply = client.post(
        "/v1/chat/completions", json={"model": "llama", "messages": HELLO, "invented_field": 1}
    )
    assert reply.status_code == 400
    assert "invented_field" in reply.json()["error"]["message"]
    assert len(provider.server.seen) == asked


def chunks(*texts: str, usage: bool = True) -> list[bytes]:
    named = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "llama-3.3-70b-versatile"}
    choices = [[{"index": 0, "delta": {"role": "assistant", "content": text}}] for text in texts]
    said = [{**named, "choices": choice} for choice in choices]
    if usage:
        said.append({**named, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        said.append(
            {
                **named,
                "choices": [],
                "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
            }
        )
    lines = [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in said]
    return [*lines, b"data: [DONE]\n\n"] if usage else lines


EVENTS = [("content-type", "text/event-stream")]


def test_the_official_sdk_reads_a_stream_and_its_usage(stack: Stack, provider: Recordings) -> None:
    provider.script = lambda seen: Answer(headers=EVENTS, pieces=chunks("One", " two"), chunked=True)
    try:
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as sdk:
            stream = sdk.chat.completions.create(
                model="llama",
                messages=HELLO,  # type: ignore[arg-type]
                stream=True,
                stream_options={"include_usage": True},
            )
            got = list(stream)
    finally:
        provider.script = None
    assert "".join(chunk.choices[0].delta.content or "" for chunk in got if chunk.choices) == "One two"
    assert got[-1].usage is not None
    assert got[-1].usage.prompt_tokens == 9
    assert json.loads(provider.server.seen[-1].body)["model"] == "llama-3.3-70b-versatile"


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_sdk_reaches_it_too(
    stack: Stack, provider: Recordings, cases: list[Case], stream: bool
) -> None:
    # Recorded from Groq: S-106 calls a tool, S-110 streams text.
    provider.case = next(case for case in cases if case["id"] == ("S-110" if stream else "S-106"))
    asked: Any = {"model": "llama", "max_tokens": 100, "messages": HELLO}
    with anthropic.Anthropic(base_url=stack.url, api_key="none", max_retries=0) as sdk:
        if stream:
            with sdk.messages.stream(**asked) as events:
                reply = events.get_final_message()
            assert reply.content[-1].type == "text"
            assert reply.stop_reason == "end_turn"
        else:
            reply = sdk.messages.create(**asked)
            assert reply.stop_reason == "tool_use"
    told = provider.case["expected"]["usage"]
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (
        told["input_tokens"],
        told["output_tokens"],
    )


def test_its_errors_come_in_anthropics_words_too(
    stack: Stack, provider: Recordings, cases: list[Case]
) -> None:
    provider.case = next(case for case in cases if case["id"] == "S-111")
    with (
        anthropic.Anthropic(base_url=stack.url, api_key="none", max_retries=0) as sdk,
        pytest.raises(anthropic.BadRequestError, match="Tool choice is required") as caught,
    ):
        sdk.messages.create(model="llama", max_tokens=100, messages=HELLO)  # type: ignore[arg-type]
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"


def test_an_agent_that_leaves_takes_the_providers_stream_with_it(
    stack: Stack, client: httpx.Client, provider: Recordings
) -> None:
    provider.script = lambda seen: Answer(
        headers=EVENTS, pieces=chunks("One", " two", usage=False), chunked=True, hold=True
    )
    left = len(provider.server.gone)
    asked = {"model": "llama", "messages": HELLO, "stream": True}
    try:
        named = {"x-bursar-agent": "leaver"}
        with client.stream("POST", "/v1/chat/completions", json=asked, headers=named) as reply:
            next(reply.iter_lines())
        wait_for("the provider to see it", lambda: len(provider.server.gone) > left)
    finally:
        provider.script = None
    (row,) = rows_of(stack, "leaver", 1)
    assert row["outcome"] == "abandoned"
    assert row["usage_grade"] == "estimated"


def worker_of(stack: Stack) -> int:
    """The process id of litellm's worker, a child of the sidecar."""
    parent = stack.processes["sidecar"].pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    named = [pid for pid in children if b"litellm_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(named) == 1
    return int(named[0])


def test_a_worker_killed_in_mid_stream_costs_one_call_and_is_started_again(
    stack: Stack, client: httpx.Client, provider: Recordings
) -> None:
    provider.script = lambda seen: Answer(
        headers=EVENTS, pieces=chunks("One", " two", usage=False), chunked=True, hold=True
    )
    killed = worker_of(stack)
    named = {"x-bursar-agent": "killed"}
    asked: Any = {"model": "llama", "messages": HELLO}
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as sdk:
        stream = sdk.chat.completions.create(stream=True, extra_headers=named, **asked)
        got = []
        with pytest.raises(openai.APIError, match="upstream 'groq' broke the stream off"):
            for chunk in stream:
                got.append(chunk)
                os.kill(killed, signal.SIGKILL)
    assert got
    provider.script = lambda seen: Answer(headers=EVENTS, pieces=chunks("Again"), chunked=True)
    try:
        again = client.post("/v1/chat/completions", json={**asked, "stream": True}, headers=named)
    finally:
        provider.script = None
    assert again.status_code == 200
    assert "Again" in again.text
    assert worker_of(stack) != killed
    broken, good = rows_of(stack, "killed", 2)
    assert (broken["outcome"], broken["usage_grade"]) == ("failed", "estimated")
    assert (good["outcome"], good["usage_grade"]) == ("served", "reported")
    assert good["input_tokens"] == 9


@pytest.mark.slow
def test_a_worker_that_hangs_is_given_up_within_the_deadline(
    stack: Stack, client: httpx.Client, provider: Recordings
) -> None:
    provider.script = lambda seen: Answer(headers=EVENTS, pieces=chunks("Hello"), chunked=True)
    worker = worker_of(stack)
    os.kill(worker, signal.SIGSTOP)
    try:
        reply = client.post(
            "/v1/chat/completions", json={"model": "llama", "messages": HELLO, "stream": True}
        )
    finally:
        os.kill(worker, signal.SIGCONT)
        provider.script = None
    assert reply.status_code == 504
    assert reply.json()["error"]["code"] == "upstream_timeout_first_byte"


def test_a_worker_serves_nobody_but_the_sidecar(stack: Stack) -> None:
    worker = worker_of(stack)
    listening = {
        line.split()[9]: int(line.split()[1].split(":")[1], 16)
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    links = [str(link.readlink()) for link in Path(f"/proc/{worker}/fd").iterdir()]
    ports = [listening[link[8:-1]] for link in links if link[8:-1] in listening]
    assert len(ports) == 1
    url = f"http://127.0.0.1:{ports[0]}/groq/chat/completions"
    reply = httpx.post(url, json={"model": "llama", "messages": HELLO})
    assert reply.status_code == 401


def test_secrets_are_in_no_argument_no_environment_and_no_log(stack: Stack) -> None:
    worker = worker_of(stack)
    seen = Path(f"/proc/{worker}/cmdline").read_bytes() + Path(f"/proc/{worker}/environ").read_bytes()
    seen += stack.log("sidecar").encode() + stack.log("collector").encode()
    for secret in (*SECRETS.values(), "a-key-from-the-environment", "ya29.a-token", "BEGIN PRIVATE KEY"):
        assert secret.encode() not in seen
