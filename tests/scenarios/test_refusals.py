"""What we refuse is refused in the caller's own dialect: the official SDKs raise what their users catch."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
from support.stack import Stack
from support.upstream import Answer, ScriptedUpstream

from sidecar.keys import KeyRing

ASKED: list[Any] = [{"role": "user", "content": "x"}]
Anthropic = Callable[..., anthropic.Anthropic]
OpenAI = Callable[..., openai.OpenAI]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with ScriptedUpstream(lambda seen: Answer()) as upstream:
        kinds = {"openai": "openai", "anthropic": "anthropic", "gem": "google", "aws": "bedrock"}
        stack = Stack(
            tmp_path_factory.mktemp("stack"),
            {name: {"kind": kind, "base_url": upstream.url} for name, kind in kinds.items()},
            {
                "budgets": [{"name": "tiny", "match": {}, "limit": "0.000001 USD", "window": "day"}],
                "limits": {"body": "64kB"},
                "prices": {name: {"input": 1, "output": 1} for name in ("m", "gemini-m", "nova-m")},
            },
            with_collector=False,
        )
        with stack:
            yield stack


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    token, _ = KeyRing(stack.data_dir).create(time.time(), tenant="t", models=["m", "gemini-m", "nova-m"])
    time.sleep(1.2)  # Keys are looked at twice a second.
    return token


@pytest.fixture(params=["", "/anthropic"])
def claude(stack: Stack, key: str, request: pytest.FixtureRequest) -> Iterator[Anthropic]:
    """Makes clients of Anthropic's, of our own routes and of pass-through."""
    made: list[anthropic.Anthropic] = []

    def make(api_key: str = key) -> anthropic.Anthropic:
        url = stack.url + request.param
        made.append(anthropic.Anthropic(base_url=url, api_key=api_key, max_retries=0))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(params=["/v1", "/openai/v1"])
def gpt(stack: Stack, key: str, request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    """Makes clients of OpenAI's, of our own routes and of pass-through."""
    made: list[openai.OpenAI] = []

    def make(api_key: str = key) -> openai.OpenAI:
        made.append(openai.OpenAI(base_url=stack.url + request.param, api_key=api_key, max_retries=0))
        return made[-1]

    yield make
    for client in made:
        client.close()


def said_by_anthropic(error: anthropic.APIStatusError) -> str:
    body: Any = error.body
    assert set(body) == {"type", "error"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["message"]
    return str(body["error"]["type"])


def said_by_openai(error: openai.APIStatusError) -> tuple[str | None, str | None]:
    body: Any = error.body  # The SDK takes what stands in "error".
    assert set(body) == {"message", "type", "param", "code"}
    return error.type, error.code


def test_anthropics_sdk_raises_its_own_for_every_refusal(claude: Anthropic) -> None:
    def ask(client: anthropic.Anthropic, model: str = "m", content: str = "x") -> None:
        client.messages.create(model=model, max_tokens=1000, messages=[{"role": "user", "content": content}])

    with pytest.raises(anthropic.AuthenticationError) as no_key:
        ask(claude("vk_unknown"))
    with pytest.raises(anthropic.PermissionDeniedError) as not_allowed:
        ask(claude(), model="other")
    with pytest.raises(anthropic.APIStatusError) as over_budget:
        ask(claude())
    with pytest.raises(anthropic.ContentTooLargeError) as too_large:
        ask(claude(), content="x" * 70_000)

    assert said_by_anthropic(no_key.value) == "authentication_error"
    assert said_by_anthropic(not_allowed.value) == "permission_error"
    assert (over_budget.value.status_code, said_by_anthropic(over_budget.value)) == (402, "billing_error")
    assert said_by_anthropic(too_large.value) == "request_too_large"


def test_openais_sdk_raises_its_own_for_every_refusal(gpt: OpenAI) -> None:
    def ask(client: openai.OpenAI, model: str = "m", content: str = "x") -> None:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])

    with pytest.raises(openai.AuthenticationError) as no_key:
        ask(gpt("vk_unknown"))
    with pytest.raises(openai.PermissionDeniedError) as not_allowed:
        ask(gpt(), model="other")
    with pytest.raises(openai.APIStatusError) as over_budget:
        ask(gpt())
    with pytest.raises(openai.APIStatusError) as too_large:
        ask(gpt(), content="x" * 70_000)

    assert said_by_openai(no_key.value) == ("authentication_error", "invalid_api_key")
    assert said_by_openai(not_allowed.value) == ("permission_error", "model_not_allowed")
    assert said_by_openai(over_budget.value) == ("insufficient_quota", "budget_exceeded")
    assert (too_large.value.status_code, said_by_openai(too_large.value)[1]) == (413, "http_413")


def test_a_path_that_is_not_served_is_not_found_in_the_clients_words(claude: Anthropic, gpt: OpenAI) -> None:
    with pytest.raises(anthropic.APIStatusError) as refused:
        claude().post("/v1/organizations", cast_to=object, body={})
    with pytest.raises(openai.APIStatusError) as refused_too:
        gpt().post("/fine_tuning/jobs", cast_to=object, body={})

    # Without an upstream's name there is no such path; with one, it may spend unseen.
    kinds = {404: "not_found_error", 403: "permission_error"}
    assert said_by_anthropic(refused.value) == kinds[refused.value.status_code]
    assert said_by_openai(refused_too.value)[0] == kinds[refused_too.value.status_code]


def test_the_list_of_models_without_a_key_is_refused_in_the_clients_words(
    claude: Anthropic, gpt: OpenAI
) -> None:
    with pytest.raises(anthropic.AuthenticationError) as refused:
        claude("vk_unknown").models.list()
    with pytest.raises(openai.AuthenticationError) as refused_too:
        gpt("vk_unknown").models.list()

    assert said_by_anthropic(refused.value) == "authentication_error"
    assert said_by_openai(refused_too.value) == ("authentication_error", "invalid_api_key")


def test_a_body_that_is_no_json_is_refused_in_the_paths_dialect(stack: Stack, key: str) -> None:
    assert posted(stack, "/v1/messages", key, b"{")[1]["error"]["type"] == "invalid_request_error"
    assert posted(stack, "/v1/messages", key, b"{")[1]["type"] == "error"
    assert posted(stack, "/v1/chat/completions", key, b"{")[1]["error"]["code"] == "invalid_request"


def test_google_and_amazon_are_refused_in_their_words(stack: Stack, key: str) -> None:
    path = "/gem/v1beta/models/gemini-m:generateContent"
    status, body, _ = posted(stack, path, key, b'{"contents":[{"parts":[{"text":"x"}]}]}')
    assert (status, body["error"]["code"], body["error"]["status"]) == (402, 402, "RESOURCE_EXHAUSTED")
    assert body["error"]["details"][0]["reason"] == "BUDGET_EXCEEDED"
    assert posted(stack, path, "vk_unknown", b"{}")[1]["error"]["status"] == "UNAUTHENTICATED"

    path = "/aws/model/nova-m/converse"
    status, body, headers = posted(stack, path, key, b'{"messages":[]}')
    assert (status, set(body)) == (402, {"message"})
    assert headers["x-amzn-errortype"] == "ServiceQuotaExceededException"
    status, body, headers = posted(stack, path, key, b"x" * 70_000)
    assert (status, set(body), headers["x-amzn-errortype"]) == (413, {"message"}, "ValidationException")


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/v1/messages", "/anthropic//v1/messages"])
@pytest.mark.parametrize("rest", [b"no field", b"content-length: x", b"a: " + b"x" * 40_000])
def test_what_is_no_http_is_refused_in_the_paths_dialect(stack: Stack, path: str, rest: bytes) -> None:
    with socket.create_connection(("127.0.0.1", stack.ports[0]), 10) as client:
        client.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % (path.encode(), rest))
        head, _, body = b"".join(iter(lambda: client.recv(65_536), b"")).partition(b"\r\n\r\n")

    assert head.split(b" ")[1] in (b"400", b"431")
    assert json.loads(body)["type"] == "error"
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def posted(stack: Stack, path: str, key: str, body: bytes) -> tuple[int, Any, Any]:
    """What is said to ``body``: status, body, headers."""
    request = urllib.request.Request(
        stack.url + path, body, {"authorization": f"Bearer {key}", "content-type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    with refused.value as reply:
        return reply.code, json.load(reply), reply.headers
