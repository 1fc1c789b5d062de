"""Makes the span fixtures in ``recorded/``: runs a library for real against a stub provider.

Each library is run in an environment of its own, for they do not install together::

    uv venv /tmp/openinference && uv pip install --python /tmp/openinference/bin/python \
        opentelemetry-sdk opentelemetry-exporter-otlp-proto-http openai anthropic \
        openinference-instrumentation-openai openinference-instrumentation-anthropic
    /tmp/openinference/bin/python record_spans.py openinference recorded/

Libraries: ``openinference``, ``traceloop`` (needs ``traceloop-sdk`` and the two
``opentelemetry-instrumentation-openai|anthropic``), ``openlit``, ``litellm``, ``genai`` (needs
``opentelemetry-instrumentation-genai-openai|anthropic`` and ``opentelemetry-util-genai``).
What is written is an ``ExportTraceServiceRequest`` as the SDK's own exporter encodes it.
"""

import json
import os
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHAT_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 80,
    "total_tokens": 1280,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 48, "audio_tokens": 0},
}
MESSAGE_USAGE = {
    "input_tokens": 100,
    "cache_read_input_tokens": 900,
    "cache_creation_input_tokens": 200,
    "output_tokens": 60,
}
CHAT = [{"role": "user", "content": "What is the weather in Ghent?"}]


def chat_reply(response_id: str) -> dict[str, object]:
    message = {"role": "assistant", "content": "Rain, and some more rain."}
    return {
        "id": response_id, "object": "chat.completion", "created": 1763800000,
        "model": "gpt-5-mini-2025-08-07", "service_tier": "default",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": CHAT_USAGE,
    }  # fmt: skip


def chat_chunks(response_id: str) -> list[dict[str, object]]:
    head = {"id": response_id, "object": "chat.completion.chunk", "created": 1763800000,
            "model": "gpt-5-mini-2025-08-07"}  # fmt: skip
    chunks = [{**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    chunks += [
        {**head, "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("Rain, ", "again.")
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*chunks, {**head, "choices": [], "usage": CHAT_USAGE}]


def message_reply() -> dict[str, object]:
    return {
        "id": "msg_01Recorded", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": "It rains."}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": MESSAGE_USAGE,
    }  # fmt: skip


class Provider(BaseHTTPRequestHandler):
    """Answers what the libraries ask."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if "/messages" in self.path:
            return self.reply(200, json.dumps(message_reply()).encode())
        if "/embeddings" in self.path:
            vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
            made = {"object": "list", "model": "text-embedding-3-small", "data": [vector],
                    "usage": {"prompt_tokens": 7, "total_tokens": 7}}  # fmt: skip
            return self.reply(200, json.dumps(made).encode())
        if body.get("user") == "fail":
            error = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limited"}}
            return self.reply(429, json.dumps(error).encode())
        if body.get("stream"):
            events = [
                b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chat_chunks("chatcmpl-streamed")
            ]
            return self.reply(200, b"".join([*events, b"data: [DONE]\n\n"]), "text/event-stream")
        return self.reply(200, json.dumps(chat_reply("chatcmpl-plain")).encode())

    def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def serve() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def tracing():
    """A tracer provider that keeps its spans, and the list it keeps them in."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "weather-agent"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    return provider, kept


def openai_calls(base: str) -> None:
    """One plain call, one streamed, one embedding, one that fails."""
    import openai

    client = openai.OpenAI(base_url=f"{base}/v1", api_key="sk-recorded", max_retries=0)
    client.chat.completions.create(model="gpt-5-mini", messages=CHAT, max_completion_tokens=500)
    for _ in client.chat.completions.create(
        model="gpt-5-mini", messages=CHAT, stream=True, stream_options={"include_usage": True}
    ):
        pass
    client.embeddings.create(model="text-embedding-3-small", input="Ghent")
    with suppress(openai.RateLimitError):
        client.chat.completions.create(model="gpt-5-mini", messages=CHAT, user="fail")


def anthropic_calls(base: str) -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=base, api_key="sk-ant-recorded", max_retries=0)
    client.messages.create(model="claude-sonnet-4-5", max_tokens=100, messages=CHAT)


def openinference(base: str):
    from openinference.instrumentation import using_attributes
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider, kept = tracing()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    AnthropicInstrumentor().instrument(tracer_provider=provider)
    tracer = provider.get_tracer("app")
    agent = {"openinference.span.kind": "AGENT", "agent.name": "forecaster"}
    tool = {"openinference.span.kind": "TOOL", "tool.name": "lookup"}
    with (
        using_attributes(session_id="talk-1", user_id="ann"),
        tracer.start_as_current_span("run", attributes=agent),
    ):
        openai_calls(base)
        with tracer.start_as_current_span("lookup", attributes=tool):
            anthropic_calls(base)
    return kept


def traceloop(base: str):
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import agent, tool, workflow

    kept = InMemorySpanExporter()
    Traceloop.init(
        app_name="weather-agent",
        processor=SimpleSpanProcessor(kept),
        disable_batch=True,
        resource_attributes={"service.name": "weather-agent"},
        telemetry_enabled=False,
    )
    Traceloop.set_association_properties({"session_id": "talk-1", "user_id": "ann"})

    @tool(name="lookup")
    def look() -> None:
        anthropic_calls(base)

    @agent(name="forecaster")
    def forecast() -> None:
        openai_calls(base)
        look()

    @workflow(name="weather")
    def run() -> None:
        forecast()

    run()
    return kept


def openlit(base: str):
    import openlit as library

    kept = tracing()[1]
    library.init(disable_metrics=True, application_name="weather-agent")
    openai_calls(base)
    anthropic_calls(base)
    return kept


def litellm(base: str):
    import litellm as library
    from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

    provider, kept = tracing()
    library.callbacks = [OpenTelemetry(config=OpenTelemetryConfig(exporter=kept), tracer_provider=provider)]
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    library.completion(model="openai/gpt-5-mini", api_base=f"{base}/v1", api_key="sk-recorded", messages=CHAT)
    library.completion(
        model="anthropic/claude-sonnet-4-5", api_base=base, api_key="sk-recorded", messages=CHAT
    )
    import time

    deadline = time.monotonic() + 10
    while len(kept.get_finished_spans()) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    return kept


def genai(base: str):
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    from opentelemetry.util.genai.handler import TelemetryHandler

    provider, kept = tracing()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    AnthropicInstrumentor().instrument(tracer_provider=provider)
    handler = TelemetryHandler(tracer_provider=provider)
    with handler.invoke_local_agent(agent_name="forecaster"):
        openai_calls(base)
        with handler.tool("lookup"):
            anthropic_calls(base)
    return kept


LIBRARIES = {f.__name__: f for f in (openinference, traceloop, openlit, litellm, genai)}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    kept = LIBRARIES[name](serve())
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    spans = kept.get_finished_spans()
    request = encode_spans(spans)
    for group in (scoped for resource in request.resource_spans for scoped in resource.scope_spans):
        for event in (event for span in group.spans for event in span.events):
            # Stack traces name the folders of the machine that made them.
            wanted = [item for item in event.attributes if item.key != "exception.stacktrace"]
            del event.attributes[:]
            event.attributes.extend(wanted)
    (folder / f"{name}.pb").write_bytes(request.SerializeToString())
    for span in spans:
        scope = span.instrumentation_scope
        print(f"{span.name!r} {span.kind.name} {scope.name} {scope.version}")
        if os.environ.get("SHOW"):
            print(json.dumps(dict(span.attributes or {}), indent=1, default=str)[:6000])
    os._exit(0)


if __name__ == "__main__":
    main()
