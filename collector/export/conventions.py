"""What the OTel GenAI conventions v0.1.0 say, written down once: operations, well-known values, buckets.

No package publishes these names yet (the constants of `opentelemetry-semantic-conventions`
are the deprecated core set), so spans and metrics both read them here.
Source: `open-telemetry/semantic-conventions-genai`, release v0.1.0.
"""

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/0.1.0"

CHAT = "chat"
TEXT_COMPLETION = "text_completion"
EMBEDDINGS = "embeddings"
GENERATE_CONTENT = "generate_content"

INFERENCE_OPERATIONS = frozenset({CHAT, TEXT_COMPLETION, GENERATE_CONTENT})

_OPERATIONS = {
    "openai.chat": CHAT,
    "openai.responses": CHAT,
    "openai.completions": TEXT_COMPLETION,
    "openai.embeddings": EMBEDDINGS,
    "anthropic.messages": CHAT,
}

OPENAI_API_TYPES = {"openai.chat": "chat_completions", "openai.responses": "responses"}
"""``openai.api.type`` of the two dialects that it tells apart."""

_GOOGLE = ("gcp.gemini", "gcp.vertex_ai", "gcp.gen_ai")

DURATION_BUCKETS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = tuple(4**power for power in range(14))


def operation_of(api: str, provider_name: str, *, model_known: bool) -> str:
    """``gen_ai.operation.name`` of a call in the dialect ``api``; empty when no model works in it.

    Counting tokens or listing models is no inference. A pass-through call is one
    when it names a model: `generate_content` at Google, `chat` elsewhere.
    """
    known = _OPERATIONS.get(api)
    if known is not None:
        return known
    if api != "raw" or not model_known:
        return ""
    return GENERATE_CONTENT if provider_name in _GOOGLE else CHAT
