"""One vocabulary for the spans of everybody: what each library calls a thing, and what we call it.

This file is the whole mapping. A column of ours lists the attributes that it is taken from,
best first; the first that a span has, with a value that fits, is the one. The names were read
from the libraries' source or from spans that they produced (`tests/collector/ingest/otlp`):

    OTel GenAI      `gen_ai.*`, v0.1.0 of the conventions, and what they were called before
    OpenInference   `llm.*`, `openinference.span.kind` (Phoenix, Envoy AI Gateway)
    Traceloop       OpenLLMetry: `gen_ai.*` of its own, `traceloop.*`; older versions `llm.*`
    OpenLIT         `gen_ai.*` of its own
    LiteLLM         `gen_ai.cost.*`, `llm.is_streaming`, and the raw reply in `llm.PROVIDER.*`
    Vercel AI SDK   `ai.*`
    vLLM            the server's own `llm_request` spans: `gen_ai.latency.*`
    Langfuse        `langfuse.*`, as its SDK and others write for it

What no column lists and `KEPT` does not name is dropped unread: it may be what people wrote.
"""

from enum import Enum
from typing import Final, NamedTuple


class Kind(Enum):
    """What a column holds, and so how a value is coerced into it."""

    TEXT = "text"
    """Up to 256 characters."""
    COUNT = "count"
    """A whole number, 0 or more; libraries also send it as text or as a double."""
    SECONDS = "seconds"
    """Kept in milliseconds."""
    MILLISECONDS = "milliseconds"
    USD = "usd"
    """A double: somebody else's estimate, never summed with ours."""
    FLAG = "flag"
    WORDS = "words"
    """A list of text, or a list written as text."""


class Column(NamedTuple):
    """A column of ours and what it is taken from, best first."""

    name: str
    kind: Kind
    sources: tuple[str, ...]


COLUMNS: Final = (
    Column(
        "operation",
        Kind.TEXT,
        (
            "ai.operationId",  # First: the Vercel SDK's own word tells the loop from the call.
            "gen_ai.operation.name",
            "openinference.span.kind",
            "traceloop.span.kind",
            "llm.request.type",
            "langfuse.observation.type",
            "mcp.method.name",
        ),
    ),
    Column(
        "provider_name",
        Kind.TEXT,
        (
            *("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
            *("litellm.custom_llm_provider", "ai.model.provider"),
        ),
    ),
    Column(
        "request_model",
        Kind.TEXT,
        (
            *("gen_ai.request.model", "llm.request.model_name", "llm.request.model", "ai.model.id"),
            *("llm.model_name", "embedding.model_name", "reranker.model_name"),
        ),
    ),
    Column(
        "response_model",
        Kind.TEXT,
        ("gen_ai.response.model", "llm.response.model_name", "llm.response.model", "ai.response.model"),
    ),
    Column(
        "response_id",
        Kind.TEXT,
        (
            *("gen_ai.response.id", "llm.response.id", "ai.response.id", "gen_ai.completion.id"),
            *("llm.openai.id", "llm.anthropic.id", "llm.azure.id"),
        ),
    ),
    Column(
        "input_tokens",
        Kind.COUNT,
        (
            *("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
            *("llm.usage.prompt_tokens", "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
        ),
    ),
    Column(
        "output_tokens",
        Kind.COUNT,
        (
            *("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
            *("llm.usage.completion_tokens", "ai.usage.outputTokens", "ai.usage.completionTokens"),
        ),
    ),
    Column(
        "cache_read_input_tokens",
        Kind.COUNT,
        (
            *("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
            *("gen_ai.usage.input_tokens.cached", "gen_ai.usage.cached_tokens"),
            "gen_ai.usage.prompt_tokens_details.cached_tokens",
            *("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
            *("llm.usage.cache_read_input_tokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
            "ai.usage.cachedInputTokens",
        ),
    ),
    Column(
        "cache_write_input_tokens",
        Kind.COUNT,
        (
            *("gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens"),
            "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.prompt_tokens_details.cache_creation_tokens",
            *("llm.token_count.prompt_details.cache_write", "llm.usage.cache_creation_input_tokens"),
            "ai.usage.inputTokenDetails.cacheWriteTokens",
        ),
    ),
    Column(
        "reasoning_output_tokens",
        Kind.COUNT,
        (
            *("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
            "gen_ai.usage.completion_tokens_details.reasoning_tokens",
            *("llm.token_count.completion_details.reasoning", "llm.usage.reasoning_tokens"),
            *("ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens"),
        ),
    ),
    Column(
        "conversation_id",
        Kind.TEXT,
        (
            *("gen_ai.conversation.id", "session.id", "langfuse.session.id", "gen_ai.session.id"),
            *("traceloop.association.properties.session_id", "traceloop.association.properties.thread_id"),
            *("ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.conversationId"),
        ),
    ),
    Column(
        "user_id",
        Kind.TEXT,
        (
            *("user.id", "enduser.id", "llm.user", "gen_ai.user", "langfuse.user.id"),
            *("traceloop.association.properties.user_id", "ai.telemetry.metadata.userId"),
        ),
    ),
    Column(
        "agent",
        Kind.TEXT,
        ("gen_ai.agent.name", "agent.name", "agent_name", "langfuse.agent.name", "ai.telemetry.functionId"),
    ),
    Column("tool", Kind.TEXT, ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "mcp.tool.name")),
    Column(
        "task",
        Kind.TEXT,
        (
            *("bursar.task", "task.id", "traceloop.association.properties.task_id"),
            *("ai.telemetry.metadata.taskId", "gen_ai.workflow.name", "traceloop.workflow.name"),
        ),
    ),
    Column(
        "step",
        Kind.TEXT,
        ("graph.node.name", "graph.node.id", "langgraph.node", "gen_ai.task.name", "traceloop.entity.path"),
    ),
    Column(
        "stream",
        Kind.FLAG,
        ("gen_ai.request.stream", "gen_ai.request.is_stream", "gen_ai.is_streaming", "llm.is_streaming"),
    ),
    Column(
        "finish_reasons",
        Kind.WORDS,
        (
            *("gen_ai.response.finish_reasons", "gen_ai.response.finish_reason", "llm.finish_reason"),
            *("gen_ai.completion.0.finish_reason", "ai.response.finishReason"),
        ),
    ),
    Column(
        "time_to_first_chunk_ms",
        Kind.SECONDS,
        (
            *("gen_ai.response.time_to_first_chunk", "gen_ai.latency.time_to_first_token"),
            *("gen_ai.server.time_to_first_token", "gen_ai.client.operation.time_to_first_chunk"),
        ),
    ),
    Column("queue_ms", Kind.SECONDS, ("gen_ai.latency.time_in_queue",)),
    Column(
        "foreign_cost_usd",
        Kind.USD,
        (
            *("gen_ai.usage.cost", "gen_ai.usage.total_cost", "gen_ai.cost.total_cost"),
            *("litellm.cost.total", "llm.cost.total", "langfuse.observation.cost_details.total"),
        ),
    ),
)

FIRST_CHUNK_MS: Final = "ai.response.msToFirstChunk"
FIRST_CHUNK_EVENTS: Final = frozenset(
    {"chunk", "ai.stream.firstChunk", "first token", "gen_ai.content.first_token"}
)
"""Span events that mark the first of a stream, where no attribute says when it came."""

EVALUATION: Final = "gen_ai.evaluation.result"
"""The event that says how good an answer was: a log record, or an event of the span that it speaks of."""
MCP_CALL: Final = "tools/call "
"""Before the tool in the names of MCP's spans: clients of its Python SDK say it nowhere else."""
ENTITY: Final = "traceloop.entity.name"
ENTITY_COLUMN: Final = {
    "invoke_agent": "agent",
    "execute_tool": "tool",
    "invoke_workflow": "task",
    "task": "step",
}
"""Traceloop names agents, tools, workflows and tasks all alike: which column, by operation."""

OPERATIONS: Final = {
    # Said otherwise by some library, in any case of letters.
    "completion": "text_completion",
    "acompletion": "chat",
    "chat_completion": "chat",
    "chat_completions": "chat",
    "responses": "chat",
    "aresponses": "chat",
    "message": "chat",
    "generation": "chat",
    "embedding": "embeddings",
    "aembedding": "embeddings",
    "rerank": "rerank",
    "tool": "execute_tool",
    "tools/call": "execute_tool",
    "tools.call": "execute_tool",
    "agent": "invoke_agent",
    "workflow": "invoke_workflow",
    "llm": "chat",
    "chain": "invoke_workflow",
    "retriever": "retrieval",
    "reranker": "rerank",
    "evaluator": "evaluation",
    "ai.generatetext": "invoke_agent",
    "ai.streamtext": "invoke_agent",
    "ai.generateobject": "invoke_agent",
    "ai.streamobject": "invoke_agent",
    "ai.generatetext.dogenerate": "chat",
    "ai.streamtext.dostream": "chat",
    "ai.generateobject.dogenerate": "chat",
    "ai.streamobject.dostream": "chat",
    "ai.embed": "embed_values",
    "ai.embedmany": "embed_values",
    "ai.embed.doembed": "embeddings",
    "ai.embedmany.doembed": "embeddings",
    "ai.toolcall": "execute_tool",
}

ROLES: Final = {
    "chat": "model",
    "generate_content": "model",
    "text_completion": "model",
    "embeddings": "model",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "invoke_workflow": "workflow",
    "task": "step",
    "plan": "step",
    "execute_tool": "tool",
    "retrieval": "retrieval",
    "rerank": "retrieval",
}
"""What part a span plays in a run, by operation. Only ``model`` spans carry tokens: agents, tools and
workflows report the sums of their parts, which would count twice."""

SERVER_SPAN: Final = "llm_request"
"""The name of vLLM's own span of a request: no operation, no provider, older names of tokens."""
DETAIL_SPAN: Final = "raw_gen_ai_request"
"""LiteLLM's second span of a call: the provider's raw reply, whose id is the provider's own."""

PROVIDERS: Final = {
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure.openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azure-openai.chat": "azure.ai.openai",
    "azure-openai.responses": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure_ai": "azure.ai.inference",
    "amazon-bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "aws.anthropic": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "gcp.anthropic": "gcp.vertex_ai",
    "google.vertex.chat": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google.generative-ai": "gcp.gemini",
    "anthropic.messages": "anthropic",
    "openai.chat": "openai",
    "openai.completion": "openai",
    "openai.embedding": "openai",
    "openai.responses": "openai",
    "cohere.chat": "cohere",
    "deepseek.chat": "deepseek",
    "groq.chat": "groq",
    "mistral.chat": "mistral_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "xai": "x_ai",
    "xai.chat": "x_ai",
    "xai.responses": "x_ai",
    "hosted_vllm": "vllm",
    "watsonx": "ibm.watsonx.ai",
}
"""What libraries call a provider, in lower case, where that is not its well-known name."""

KEPT: Final = frozenset(
    {
        *("gen_ai.request.max_tokens", "gen_ai.request.temperature", "gen_ai.request.top_p"),
        *("gen_ai.request.reasoning.level", "gen_ai.output.type", "gen_ai.agent.id", "gen_ai.agent.version"),
        *("gen_ai.prompt.name", "gen_ai.prompt.version", "gen_ai.tool.call.id", "gen_ai.tool.type"),
        *("gen_ai.data_source.id", "gen_ai.request.id", "gen_ai.original.model", "openai.api.type"),
        *("openai.response.service_tier", "gen_ai.openai.response.service_tier", "ai.toolCall.id"),
        *("mcp.method.name", "mcp.session.id", "mcp.resource.uri", "server.address", "server.port"),
        *("http.response.status_code", "llm.prompt_template.version", "litellm.call_id"),
        *(
            "gen_ai.latency.e2e",
            "gen_ai.latency.time_in_model_prefill",
            "gen_ai.latency.time_in_model_decode",
        ),
        *("langfuse.trace.name", "langfuse.prompt.name", "langfuse.prompt.version"),
    }
)
"""Kept beside the columns, as they came."""
