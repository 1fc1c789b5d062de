"""How many spans a second come in over HTTP and are stored; run with ``-m bench -s``."""

import gzip
import os
import random
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from collector.ingest.otlp.receiver import OtlpConfig, OtlpReceiver
from collector.settings import Address

SPANS = 512


def chat_spans(maker: Any, noise: random.Random, count: int, at: float) -> list[Any]:
    """Spans with twenty attributes, of which some repeat and some never do."""
    return [
        maker.model(
            trace=noise.getrandbits(120),
            span=noise.getrandbits(60),
            parent=noise.getrandbits(60),
            at=at + noise.random(),
            gen_ai__provider__name="openai",
            gen_ai__response__model="gpt-5-mini-2025-08-07",
            gen_ai__response__id=f"chatcmpl-{noise.getrandbits(120):x}",
            gen_ai__response__finish_reasons=["stop"],
            gen_ai__usage__input_tokens=noise.randrange(100_000),
            gen_ai__usage__output_tokens=noise.randrange(3_000),
            gen_ai__usage__cache_read__input_tokens=0,
            gen_ai__usage__reasoning__output_tokens=0,
            gen_ai__request__temperature=0.7,
            gen_ai__request__max_tokens=4096,
            gen_ai__request__stream=True,
            gen_ai__response__time_to_first_chunk=noise.random(),
            gen_ai__conversation__id=f"talk-{noise.randrange(1000)}",
            gen_ai__agent__name=noise.choice(("planner", "writer", "critic")),
            user__id=f"user-{noise.randrange(500)}",
            server__address="api.openai.com",
            server__port=443,
            llm__usage__total_tokens=noise.randrange(100_000),
        )
        for _ in range(count)
    ]


@pytest.mark.bench
def test_spans_a_second_over_http(ledger: Any, maker: Any, wait_until: Callable[..., None]) -> None:
    noise = random.Random(1)
    bodies = [
        gzip.compress(maker.request(*chat_spans(maker, noise, SPANS, at=number * 0.05)), 1)
        for number in range(300)
    ]
    receiver = OtlpReceiver(OtlpConfig(http=Address("127.0.0.1", 0), grpc=None), lambda: ledger.database)
    receiver.start()
    assert receiver.http_address is not None
    connection = HTTPConnection(receiver.http_address.host, receiver.http_address.port)
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    sent = waited = 0
    longest = 0.0
    cpu, began = time.process_time(), time.monotonic()
    for body in bodies:
        while True:
            connection.request("POST", "/v1/traces", body, headers)
            reply = connection.getresponse()
            reply.read()
            longest = max(longest, receiver.intake.lag_s)
            if reply.status == 200:
                break
            waited += 1
            time.sleep(0.05)
        sent += SPANS
    wait_until(lambda: receiver.intake.waiting == 0, 60)
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    connection.close()
    receiver.stop()

    assert ledger.rows("SELECT count(*) FROM spans_received") == [(sent,)]
    print(
        f"\n{sent} spans: {sent / wall:,.0f}/s by the clock, {sent / cpu:,.0f}/s of one core, client too;"
        f" longest lag {longest:.2f} s, {waited} refusals, load {os.getloadavg()[0]:.1f}"
    )
