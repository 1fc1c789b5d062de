"""An agent's own OpenTelemetry SDK sends its spans to the running collector."""

import importlib.util
import json
import socket
import subprocess
import sys
import urllib.request
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from support.stack import Stack, free_ports, wait_for


def send_spans(exporter: SpanExporter) -> str:
    """A task with a model call in it, exported before this returns; the trace's id."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("agent")
    with tracer.start_as_current_span("invoke_agent indexer") as task:
        task.set_attribute("gen_ai.operation.name", "invoke_agent")
        task.set_attribute("gen_ai.agent.name", "indexer")
        with tracer.start_as_current_span("chat gpt-5-mini") as call:
            call.set_attribute("gen_ai.operation.name", "chat")
            call.set_attribute("gen_ai.provider.name", "openai")
            call.set_attribute("gen_ai.request.model", "gpt-5-mini")
            call.set_attribute("gen_ai.usage.input_tokens", 12)
    provider.shutdown()
    return f"{task.get_span_context().trace_id:032x}"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask_sql(stack: Stack, statement: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{stack.collector_url}/v1/sql", statement.encode(), {"content-type": "text/plain"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return list(json.load(reply)["rows"])


def metric(stack: Stack, line: str) -> float:
    with urllib.request.urlopen(f"{stack.collector_url}/metrics", timeout=10) as reply:
        found = [text for text in reply.read().decode().splitlines() if text.startswith(f"{line} ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


@pytest.fixture
def stack(tmp_path: Any) -> Any:
    upstreams = {"openai": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}}
    made = Stack(tmp_path / "stack", upstreams)
    with made:
        yield made


@pytest.mark.slow
def test_a_genai_span_of_an_sdk_stands_in_the_view_of_spans_and_survives_a_restart(stack: Stack) -> None:
    wait_for("OTLP over HTTP", lambda: listens(stack.ports[3]))
    if importlib.util.find_spec("grpc") is not None:
        wait_for("OTLP over gRPC", lambda: listens(stack.ports[4]))
    trace = send_spans(OTLPSpanExporter(endpoint=f"http://127.0.0.1:{stack.ports[3]}/v1/traces"))
    wait_for("both spans", lambda: metric(stack, 'bursar_otlp_spans_total{result="stored"}') == 2)

    last = send_spans(OTLPSpanExporter(endpoint=f"http://127.0.0.1:{stack.ports[3]}/v1/traces"))
    # Told to end at once: what was answered is stored all the same.
    assert stack.stop("collector") == 0
    stack.write_config(collector={**collector_of(stack), "snapshot_every": "200ms"})
    stack.start("collector")

    def shown() -> list[dict[str, Any]]:
        return ask_sql(stack, "SELECT * FROM spans WHERE origin = 'otlp' ORDER BY started_at")

    wait_for("the snapshot", (stack.data_dir / "snapshot.duckdb").exists)
    spans = wait_for("four spans in the snapshot", lambda: found if len(found := shown()) == 4 else None)
    assert {span["trace_id"] for span in spans} == {trace, last}
    chat = next(span for span in spans if span["name"] == "chat gpt-5-mini")
    attributes = chat["attributes"]
    assert (json.loads(attributes) if isinstance(attributes, str) else attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.usage.input_tokens": 12,
    }


def collector_of(stack: Stack) -> dict[str, Any]:
    return {
        "listen": f"127.0.0.1:{stack.ports[2]}",
        "otlp_http": f"127.0.0.1:{stack.ports[3]}",
        "otlp_grpc": f"127.0.0.1:{stack.ports[4]}",
    }


def test_a_taken_port_is_said_and_the_books_are_kept_without_spans(tmp_path: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = free_ports(5)
        ports[3] = taken.getsockname()[1]
        upstreams = {"openai": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}}
        with Stack(tmp_path / "stack", upstreams, ports=ports) as stack:
            said = wait_for("the log", lambda: "OTLP cannot listen" in stack.log("collector"))
            assert said
            assert str(ports[3]) in stack.log("collector")
            assert stack.ask("health")[0]["calls"] == 0


@pytest.mark.slow
def test_model_calls_that_never_passed_the_sidecar_are_an_alert(stack: Stack) -> None:
    """From the agent's own spans to an open incident: the collector, its metrics and the alerter for real."""
    stack.write_config(collector=collector_of(stack), alerts={"interval": "1s"})
    wait_for("OTLP over HTTP", lambda: listens(stack.ports[3]))
    command = [sys.executable, "-m", "sidecar.cli", "alerts", "--config", str(stack.config_file)]
    with (stack.folder / "alerts.log").open("wb") as log:
        alerter = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            send_spans(OTLPSpanExporter(endpoint=f"http://127.0.0.1:{stack.ports[3]}/v1/traces"))

            def open_ones() -> list[dict[str, Any]]:
                return [row for row in stack.ask("incidents") if row["alertname"] == "BypassTraffic"]

            (incident,) = wait_for("the incident", open_ones, 90)
        finally:
            alerter.terminate()
            alerter.wait(30)

    assert (incident["state"], incident["severity"]) == ("open", "warn")
    assert metric(stack, "bursar_bypass_calls_total") == 1
