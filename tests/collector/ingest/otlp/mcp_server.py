"""A server of the Model Context Protocol with one tool, whose SDK sends its spans to a collector."""

import sys

from mcp.server import MCPServer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "tools"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1])))
trace.set_tracer_provider(provider)
server = MCPServer("tools", log_level="ERROR")


@server.tool()
def search(q: str) -> str:
    """Look something up."""
    if not q:
        raise ValueError("q is empty")
    return f"three results for {q}"


server.run("stdio")
