"""Similar answers, by real processes: given only where they have shown to be right, and never waited for."""

import argparse
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.agent import post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

from sidecar.commands.cache import trust
from sidecar.commands.cache_tune import show
from sidecar.config import load_config
from sidecar.keys import KeyRing
from tests.scenarios.budget_scenes import PRICES, chat_reply, operate
from tests.sidecar.budgets.conftest import redis, redis_program, shared_redis
from tests.sidecar.budgets.redis_server import RedisServer

pytest.importorskip("numpy", reason="similar answers need the semantic extra")

__all__ = ["redis", "redis_program", "shared_redis"]

SETTINGS: dict[str, Any] = {
    "prices": PRICES,
    "cache": {
        # One in ten may be wrong: by Wilson, a bin serves after 25 right ones in a row, 25 / 27.7 > 0.9.
        "routes": [{"match": {"agent": "similar"}, "semantic": True, "distance": 0.10, "max_error": "10%"}],
        "similar": {"verify": 0.0001, "embedding": {"runner": "tfidf", "deadline": "2s"}},
    },
}
RIGHT_ONES = 25


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(lambda seen: Answer(pieces=[chat_reply()])) as server:
        yield server


def stack_at(folder: Path, upstream: ScriptedUpstream, keys: dict[str, str], **cache: Any) -> Stack:
    ring = KeyRing(folder / "data")
    for name, tenant, agent in (
        ("a", "acme", "similar"),
        ("b", "beta", "similar"),
        ("plain", "acme", "plain"),
    ):
        keys[name], _ = ring.create(time.time(), name=name, tenant=tenant, agent=agent)
    kinds = {"openai": {"kind": "openai", "base_url": f"{upstream.url}/v1", "api_key": "${PROVIDER_KEY}"}}
    settings = {**SETTINGS, "cache": {**SETTINGS["cache"], **cache}}
    return Stack(folder, upstreams=kinds, settings=settings, environment={"PROVIDER_KEY": "sk-x"})


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def stack(
    upstream: ScriptedUpstream, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with stack_at(tmp_path_factory.mktemp("similar"), upstream, keys) as running:
        wait_for("the finder", lambda: similar(running)["found_by"] == "tfidf")
        yield running


@pytest.fixture(autouse=True)
def afresh(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    upstream.seen.clear()


def similar(stack: Stack) -> dict[str, Any]:
    return dict(operate(stack, "GET", "/bursar/v1/cache")[1]["similar"])


def body_of(text: str, **more: Any) -> dict[str, Any]:
    system = more.pop("system", "Be brief.")
    said = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return {"model": "gpt-4o-mini", "temperature": 0, "messages": said, **more}


class Asker:
    def __init__(self, stack: Stack, token: str) -> None:
        self.stack, self.token = stack, token

    def __call__(self, body: dict[str, Any]) -> tuple[int, Any, bytes]:
        return post(self.stack, body, authorization=f"Bearer {self.token}")

    def how(self, body: dict[str, Any]) -> str:
        status, headers, _ = self(body)
        assert status == 200
        return str(headers["x-bursar-cache"])

    def variants(self, text: str, count: int, **more: Any) -> list[str]:
        """Ask the same in as many ways, which differ in white space alone."""
        return [self.how(body_of(text + " " * n, **more)) for n in range(count)]


@pytest.fixture
def ask(stack: Stack, keys: dict[str, str]) -> Asker:
    return Asker(stack, keys["a"])


def compared(stack: Stack) -> int:
    told = similar(stack)
    return int(told["right"]) + int(told["wrong"])


def teach(ask: Asker, text: str, **more: Any) -> None:
    """Ask in so many ways that similar answers in this scope have shown to be right."""
    before = compared(ask.stack)
    # The first finds nothing; each after it is compared, while the model says the same.
    assert set(ask.variants(text, RIGHT_ONES + 1, **more)) == {"miss"}
    wait_for("the comparisons", lambda: compared(ask.stack) >= before + RIGHT_ONES)


def test_a_similar_answer_is_given_once_many_have_shown_to_be_right(
    stack: Stack,
    ask: Asker,
    upstream: ScriptedUpstream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teach(ask, "How do I reset my password", system="passwords")
    asked = len(upstream.seen)

    status, headers, body = ask(body_of("how do i reset my password", system="passwords"))

    assert (status, headers["x-bursar-cache"], len(upstream.seen)) == (200, "semantic", asked)
    assert 0 <= float(headers["x-bursar-cache-distance"]) <= 0.10
    assert json.loads(body)["choices"][0]["message"]["content"] == "hello"

    def row() -> Any:
        found = stack.ask("call", call_id=headers["x-bursar-call-id"])
        return found[0] if found else None

    booked = wait_for("the row", row)
    assert (booked["outcome"], booked["cache"]) == ("reused", "semantic")
    assert (booked["input_tokens"], booked["output_tokens"]) == (0, 0)
    assert Decimal(booked["effective_cost_usd"]) == 0
    # 1,000 tokens at 1 and 100 at 10 USD per million.
    assert Decimal(booked["avoided_cost_usd"]) == Decimal("0.002")
    assert stack.ask("attempts", call_id=booked["call_id"]) == []
    told = similar(stack)
    assert told["error"] == 0 and told["error_high"] < 0.1 and told["bins_serving"] >= 1
    checked = wait_for("the comparisons", lambda: stack.ask("similar_error"))
    assert [(row["likeness"], row["wrong"], row["error"]) for row in checked] == [("same", 0, 0.0)]
    assert checked[0]["compared"] >= RIGHT_ONES and not checked[0]["serving"]

    # By lot one or another could have been given is compared all the same: at least this one was given.
    lines = stack.ask("similar_curve")
    assert {row["likeness"] for row in lines} == {"same"}
    assert sum(row["compared"] for row in lines) == checked[0]["compared"]
    assert sum(Decimal(row["asked_usd"]) for row in lines) == checked[0]["compared"] * Decimal("0.002")
    assert sum(row["given"] for row in lines) == 1
    assert sum(Decimal(row["saved_usd"]) for row in lines) == Decimal("0.002")
    monkeypatch.setenv("PROVIDER_KEY", "sk-x")
    config = load_config(stack.config_file)
    arguments = argparse.Namespace(days=7, tenant=None, format="json")
    assert show(config, arguments) == 0
    tuned = json.loads(capsys.readouterr().out)["curves"]["same"][-1]
    assert (tuned["near"], tuned["error"]) == (checked[0]["compared"] + 1, 0)
    assert Decimal(tuned["saving_usd"]) == tuned["near"] * Decimal("0.002")
    said = trust(told)
    assert "found by tfidf" in said and "0.00% wrong where they serve" in said[-1]


def test_what_differs_in_the_question_or_around_it_is_asked(
    stack: Stack, keys: dict[str, str], ask: Asker, upstream: ScriptedUpstream
) -> None:
    teach(ask, "How do I cancel order 17 of ours", system="orders")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    question = "how do i cancel order 17 of ours"
    image = [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    turns = [
        {"role": "system", "content": "orders"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": question},
    ]
    others = [
        body_of("how do i cancel order 18 of ours", system="orders"),
        body_of("how do i not cancel order 17 of ours", system="orders"),
        body_of("how do i cancel order 17 of yours", system="orders"),
        body_of("how do i uncancel order 17 of ours", system="orders"),
        body_of("how do i cancel order 17 before ours", system="orders"),
        body_of(question, system="Be long."),
        body_of(question, tools=[tool], system="orders"),
        body_of(question, model="gpt-4.1-nano", system="orders"),
        body_of(question, max_tokens=5, system="orders"),
        body_of(question, messages=turns),
        body_of(question, messages=[{"role": "user", "content": image}]),
    ]
    for body in others:
        assert ask.how(body) == "miss", body
    assert ask.how(body_of(question, system="orders")) == "semantic"
    assert Asker(stack, keys["b"]).how(body_of(question, system="orders")) == "miss"
    assert Asker(stack, keys["plain"]).how(body_of(question + "!", system="orders")) == "miss"
    assert ask.how(body_of("how do i cancel order 17 of ours?", system="orders", temperature=0.7)) == "bypass"


def test_where_the_answers_differ_nothing_similar_is_given(
    stack: Stack, ask: Asker, upstream: ScriptedUpstream
) -> None:
    said = iter(range(1000))

    def differently(seen: Seen) -> Answer:
        reply = json.loads(chat_reply())
        reply["choices"][0]["message"]["content"] = f"It is {next(said)}."
        return Answer(pieces=[json.dumps(reply).encode()])

    upstream.script = differently
    before = similar(stack)["wrong"]
    assert set(ask.variants("What is the time in Oslo", RIGHT_ONES + 2, system="times")) == {"miss"}
    wait_for("the comparisons", lambda: similar(stack)["wrong"] >= before + RIGHT_ONES)
    assert ask.how(body_of("what's the time in Oslo", system="times")) == "miss"


def test_answers_taken_away_are_not_found_for_similar_questions_either(ask: Asker) -> None:
    teach(ask, "How do I change my address", system="addresses")
    assert ask.how(body_of("how do i change my address", system="addresses")) == "semantic"

    # What has another tag is found as before.
    operate(ask.stack, "POST", "/bursar/v1/cache/purge", {"tag": "case=17"})
    assert ask.how(body_of("How do I Change my address", system="addresses")) == "semantic"

    operate(ask.stack, "POST", "/bursar/v1/cache/purge", {"tenant": "acme"})
    assert ask.how(body_of("How do i change my address", system="addresses")) == "miss"


def finder_of(stack: Stack) -> int | None:
    """The finder's process; None while there is none."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes()
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if b"sidecar.cache.similar.finder" in line and int(parent) == stack.processes["sidecar"].pid:
                return int(folder.name)
    return None


def test_calls_go_on_while_the_finder_is_killed_stopped_or_away(stack: Stack, ask: Asker) -> None:
    teach(ask, "How do I close my account", system="accounts")
    finder = finder_of(stack)
    assert finder is not None

    os.kill(finder, signal.SIGSTOP)
    try:
        # Each waits its deadline at most; after three nobody waits any longer.
        began = time.monotonic()
        assert set(ask.variants("How do I open my account", 12, system="accounts")) == {"miss"}
        assert time.monotonic() - began < 3 * 2 + 20
        wait_for("the trip", lambda: metric(stack, "bursar_cache_similar_ready") == 0)
    finally:
        os.kill(finder, signal.SIGCONT)
    wait_for(
        "it to keep up",
        lambda: ask.how(body_of(f"how do i close my account{' ' * nudge()}", system="accounts")) != "miss",
    )

    os.kill(finder, signal.SIGKILL)
    assert set(ask.variants("How do I move my account", 5, system="accounts")) == {"miss"}
    wait_for(
        "another", lambda: finder_of(stack) not in (None, finder) and similar(stack)["found_by"] == "tfidf"
    )


_nudges = iter(range(10_000))


def nudge() -> int:
    return next(_nudges)


def metric(stack: Stack, name: str) -> float | None:
    import urllib.request

    with urllib.request.urlopen(f"{stack.control_url}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    values = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)]
    return values[0] if values else None


def test_what_was_shown_is_known_after_a_restart(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys: dict[str, str] = {}
    stack = stack_at(tmp_path_factory.mktemp("again"), upstream, keys)
    stack.with_collector = False
    with stack:
        wait_for("the finder", lambda: similar(stack)["found_by"] == "tfidf")
        ask = Asker(stack, keys["a"])
        teach(ask, "How do I reset my password", system="passwords")
        stack.stop("sidecar")
        stack.start("sidecar")
        wait_for("the finder", lambda: similar(stack)["found_by"] == "tfidf")
        assert similar(stack)["bins_serving"] == 1
        # The answer itself was in memory: it comes anew, and is trusted at once.
        assert ask.how(body_of("how do I reset my password", system="passwords")) == "miss"
        wait_for(
            "it to be found",
            lambda: (
                ask.how(body_of("how do i reset my password" + " " * nudge(), system="passwords"))
                == "semantic"
            ),
        )


def in_db_1(redis: RedisServer, *words: str) -> list[str]:
    said = redis.say("EVAL", "redis.call('SELECT', 1) return redis.call(unpack(ARGV))", "0", *words)
    return [line for line in said.decode().split("\r\n") if line.startswith("bursar:")]


def test_what_is_in_redis_outlives_the_sidecar_and_what_somebody_edits_there_is_a_miss_and_counted(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory, redis: RedisServer
) -> None:
    keys: dict[str, str] = {}
    stack = stack_at(tmp_path_factory.mktemp("redis"), upstream, keys, redis=f"{redis.url}/1")
    stack.with_collector = False
    with stack:
        ask = Asker(stack, keys["a"])

        def is_served() -> bool:
            # Each time in other white space; a busy Redis may be late now and then.
            text = f"How do I reset my password{' ' * nudge()}"
            return ask.how(body_of(text, system="passwords")) == "semantic"

        wait_for("so many that one is served", is_served, 60)
        stack.stop("sidecar")
        edited = in_db_1(redis, "KEYS", "bursar:cachevec:*")[0]
        in_db_1(redis, "HSET", edited, "t", "another question")
        stack.start("sidecar")
        wait_for("one that is found again", is_served, 60)
        assert compared(stack) < RIGHT_ONES  # What was shown before is known, and not shown anew.
        wait_for("the question to be told", lambda: metric(stack, "bursar_cache_tampered_total") == 1)
        assert edited not in in_db_1(redis, "KEYS", "bursar:cachevec:*")

        body = body_of("Where is my parcel", system="parcels")
        wait_for("an answer that is given again", lambda: ask.how(body) == "hit")
        for answer in in_db_1(redis, "KEYS", "bursar:cache:*"):
            in_db_1(redis, "SETRANGE", answer, "60", "X" * 16)
        assert ask.how(body) == "miss"
        wait_for("the answer to be told", lambda: (metric(stack, "bursar_cache_tampered_total") or 0) >= 2)


def test_a_finder_that_cannot_run_holds_up_no_call_and_says_why(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys: dict[str, str] = {}
    folder = tmp_path_factory.mktemp("missing")
    embedding = {"runner": "minilm", "folder": str(folder)}
    stack = stack_at(folder, upstream, keys, similar={"embedding": embedding})
    stack.with_collector = False
    with stack:
        wait_for("it to say why", lambda: "has no model.safetensors" in similar(stack)["problem"])
        assert set(Asker(stack, keys["a"]).variants("How do I reset my password", 5)) == {"miss"}
        assert similar(stack)["found_by"] == "nothing yet"


def test_what_an_endpoint_reads_is_counted_and_priced(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    vectors = {"data": [{"index": 0, "embedding": [3, 4]}], "usage": {"prompt_tokens": 50_000}}
    keys: dict[str, str] = {}
    with ScriptedUpstream(lambda seen: Answer(pieces=[json.dumps(vectors).encode()])) as embeddings:
        embedding = {
            "runner": "endpoint",
            "url": f"{embeddings.url}/v1",
            "model": "gpt-4o-mini",
            "deadline": "5s",
        }
        stack = stack_at(tmp_path_factory.mktemp("costs"), upstream, keys, similar={"embedding": embedding})
        stack.with_collector = False
        with stack:
            wait_for("the finder", lambda: similar(stack)["found_by"] != "nothing yet")
            assert Asker(stack, keys["a"]).how(body_of("How do I reset my password")) == "miss"

            def all_of_it() -> bool:
                # 50,000 tokens at 1 USD a million for each time that it was asked.
                asked = len(embeddings.seen)
                cost = metric(stack, "bursar_cache_embedding_cost_usd_total") or 0.0
                tokens = metric(stack, "bursar_cache_embedding_tokens_total")
                told = Decimal(similar(stack)["embedding_cost_usd"])
                return (
                    asked >= 1
                    and tokens == 50_000 * asked
                    and told == asked * Decimal("0.05")
                    and cost > 0.04
                )

            wait_for("all of it", all_of_it)


@pytest.mark.slow
def test_an_endpoint_behind_bursar_itself_is_booked_as_any_call(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    vectors = {"object": "list", "model": "gpt-4o-mini", "data": [{"index": 0, "embedding": [3, 4]}]}
    vectors["usage"] = {"prompt_tokens": 50_000, "total_tokens": 50_000}

    def script(seen: Seen) -> Answer:
        body = json.dumps(vectors).encode() if seen.target.endswith("/embeddings") else chat_reply()
        return Answer(pieces=[body])

    upstream.script = script
    keys: dict[str, str] = {}
    stack = stack_at(tmp_path_factory.mktemp("itself"), upstream, keys)
    embedding = {"runner": "endpoint", "url": f"{stack.url}/v1", "model": "gpt-4o-mini", "api_key": "${OWN}"}
    cache = {**SETTINGS["cache"], "similar": {"embedding": {**embedding, "deadline": "5s"}}}
    stack.settings = {**stack.settings, "cache": cache}
    stack.environment = {**stack.environment, "OWN": keys["plain"]}
    with stack:
        wait_for("the finder", lambda: similar(stack)["found_by"] != "nothing yet")
        assert Asker(stack, keys["a"]).how(body_of("How do I reset my password")) == "miss"

        def booked() -> Any:
            rows = stack.ask("calls", limit=100)
            return [row for row in rows if row["api"] == "openai.embeddings" and row["agent"] == "plain"]

        row = wait_for("its row", booked)[0]
        assert Decimal(row["effective_cost_usd"]) in (Decimal("0.05"), 0)  # Asked, or given again.


def test_an_endpoint_that_hangs_holds_up_no_call(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys: dict[str, str] = {}
    with ScriptedUpstream(lambda seen: Answer(hold=True, pieces=[b""])) as embeddings:
        embedding = {
            "runner": "endpoint", "url": f"{embeddings.url}/v1", "model": "m", "deadline": "200ms",
        }  # fmt: skip
        stack = stack_at(tmp_path_factory.mktemp("hangs"), upstream, keys, similar={"embedding": embedding})
        stack.with_collector = False
        with stack:
            wait_for("the finder", lambda: similar(stack)["found_by"] != "nothing yet")
            ask = Asker(stack, keys["a"])
            assert set(ask.variants("How do I reset my password", 20)) == {"miss"}
            assert len(embeddings.seen) >= 1
            assert set(ask.variants("Where is my order", 20)) == {"miss"}
