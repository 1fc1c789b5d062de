"""A tool behind the Model Context Protocol: spans of the SDK's client and server join the run that asked."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import mcp
import pytest
from mcp.shared import _otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from collector.domain.record import CallRecord
from collector.ingest.otlp.linking import SETTLE_S
from collector.ingest.otlp.receiver import OtlpConfig, OtlpReceiver
from collector.settings import Address
from collector.store.asking import parse
from collector.store.questions import CATALOGUE
from collector.store.reader import LedgerReader

SERVER = Path(__file__).with_name("mcp_server.py")


@pytest.fixture
def receiver(ledger: Any) -> Iterator[OtlpReceiver]:
    config = OtlpConfig(http=Address("127.0.0.1", 0), grpc=None)
    receiver = OtlpReceiver(config, lambda: ledger.database)
    receiver.start()
    yield receiver
    receiver.stop()


def run_agent(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """An agent calls a tool twice, the second time in vain; its trace's id and its own span's."""
    provider = TracerProvider(resource=Resource.create({"service.name": "agents"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    # The SDK asks the process's tracer once, when it is imported; a process of our own would set it then.
    monkeypatch.setattr(_otel, "_tracer", provider.get_tracer("mcp-python-sdk"))
    server = mcp.StdioServerParameters(command=sys.executable, args=[str(SERVER), endpoint])

    async def work() -> tuple[int, int]:
        said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "finder"}
        tracer = provider.get_tracer("agent")
        with tracer.start_as_current_span("invoke_agent finder", attributes=said) as own:
            async with mcp.Client(server, read_timeout_seconds=60) as client:
                assert not (await client.call_tool("search", {"q": "ghent"})).is_error
                assert (await client.call_tool("search", {"q": ""})).is_error
            return own.get_span_context().trace_id, own.get_span_context().span_id

    try:
        return asyncio.run(work())
    finally:
        provider.shutdown()


def test_spans_of_client_and_server_stand_in_the_run_and_a_tool_has_its_price_once(
    ledger: Any,
    receiver: OtlpReceiver,
    call: Callable[..., CallRecord],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert receiver.http_address is not None
    trace, span = run_agent(f"http://{receiver.http_address}/v1/traces", monkeypatch)
    # One for initializing, one for each call, seen from both sides; and the agent's own.
    wait_until(
        lambda: ledger.rows("SELECT count(*) FROM spans_received WHERE role IN ('tool', 'agent')") == [(5,)],
        30,
    )
    ((now_us,),) = ledger.rows("SELECT epoch_us(max(started_at)) FROM spans_received")
    ledger.book(
        call(
            started_at_us=now_us,
            conversation_id="c",
            trace_id=f"{trace:032x}",
            parent_span_id=f"{span:016x}",
            cost=2_000_000_000,
        )
    )
    ledger.database.connection.execute("INSERT INTO tool_prices VALUES ('search', 0.005)")

    asked = parse(CATALOGUE["run"], {"conversation_id": ["c"]}, now_us + int(SETTLE_S * 1e6))
    bars = LedgerReader(ledger.database).answer(asked).to_pylist()

    agent = bars[0]
    assert (agent["kind"], agent["name"], agent["calls"]) == ("agent", "finder", 1)
    assert agent["effective_cost_usd"] == Decimal("0.002")
    assert agent["declared_cost_usd"] == Decimal("0.010")  # Two uses, though four spans tell of them.
    tools = [bar for bar in bars if bar["kind"] == "tool"]
    assert [(bar["name"], bar["depth"], bar["declared_cost_usd"]) for bar in tools] == [
        ("search", 1, Decimal("0.005")),
        ("search", 2, Decimal(0)),
    ] * 2
    assert [bar["status"] for bar in tools][-1] == "tool_error"
