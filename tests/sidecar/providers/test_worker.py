"""What callers see of litellm's process when it cannot run."""

import importlib.util
import sys
from pathlib import Path

import httpx
import pytest
from support.stack import Stack

from sidecar.config import BursarConfig, LitellmConfig, UpstreamConfig
from sidecar.providers.litellm_settings import account_of
from sidecar.providers.opening import worker_of

BEDROCK = {"bedrock": {"kind": "litellm", "litellm": {"aws_region_name": "us-east-1"}}}
ASKED = {"model": "anthropic.claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hello"}]}


def ask(stack: Stack) -> httpx.Response:
    return httpx.post(f"{stack.url}/bedrock/v1/chat/completions", json=ASKED, timeout=60)


def test_without_litellm_the_caller_is_told_what_to_install(tmp_path: Path) -> None:
    if importlib.util.find_spec("litellm") is not None:
        pytest.skip("litellm is installed here")
    settings = {"litellm": {"python": sys.executable}}
    with Stack(tmp_path, BEDROCK, settings=settings, with_collector=False) as stack:
        first, second = ask(stack), ask(stack)
    assert first.status_code == second.status_code == 502
    assert first.json()["error"]["code"] == "litellm_missing"
    assert "pip install '.[litellm]'" in first.json()["error"]["message"]
    assert stack.log("sidecar").count("litellm is not installed here") == 1


def test_an_interpreter_that_is_none_is_named_as_the_cause(tmp_path: Path) -> None:
    settings = {"litellm": {"python": str(tmp_path / "no-python")}}
    with Stack(tmp_path / "stack", BEDROCK, settings=settings, with_collector=False) as stack:
        reply = ask(stack)
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "litellm_failed"


def test_an_account_is_its_upstreams_unless_it_says_whose() -> None:
    told = account_of("groq", LitellmConfig(), api_key=None, base_url="", headers={})
    assert (told.name, told.provider) == ("groq", "groq")
    told = account_of("eu", LitellmConfig(provider="vertex_ai"), api_key=None, base_url="", headers={})
    assert (told.name, told.provider) == ("eu", "vertex_ai")


async def test_a_worker_goes_on_when_a_new_configuration_tells_it_nothing_new(tmp_path: Path) -> None:
    one = BursarConfig(upstreams={"groq": UpstreamConfig(kind="litellm")})
    same = BursarConfig(upstreams={"groq": UpstreamConfig(kind="litellm")}, cut_style="error")
    other = BursarConfig(upstreams={"groq": UpstreamConfig(kind="litellm", base_url="http://127.0.0.1:9")})
    first = worker_of(one)
    assert first is not None
    first.join()
    first.join()
    assert worker_of(same, first) is first
    second = worker_of(other, first)
    assert second is not None
    second.join()
    assert second is not first
    assert worker_of(BursarConfig()) is None
    await first.leave()
    assert first.socket.fileno() >= 0  # One configuration still makes use of it.
    await first.leave()
    await second.leave()
    assert first.socket.fileno() == second.socket.fileno() == -1
