"""What the journal says of a call: an intent before money can be spent, a record after.

Both are named tuples: the journal writes them as bare arrays, the sidecar makes
one in about a microsecond, and a field added at the end (with a default) leaves
old segments readable. The order of the fields is the format: append only.

Times are integers in microseconds, money is integer pico-USD, absent text is ``""``
and an absent number ``None``. Token counts follow :class:`collector.domain.usage.Usage`.
"""

from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """How a call ended; each call ends in exactly one."""

    SERVED = "served"
    REUSED = "reused"
    """Answered from our cache."""
    REFUSED = "refused"
    """Never sent: identity, policy or the request itself stood against it."""
    CUT = "cut"
    """We ended the stream before the model did."""
    FAILED = "failed"
    """The provider, or the way to it, failed; or we crashed."""
    ABANDONED = "abandoned"
    """The client left before the end."""


class CacheResult(StrEnum):
    """What our own cache had to say (`x-bursar-cache`)."""

    HIT = "hit"
    SEMANTIC = "semantic"
    MISS = "miss"
    BYPASS = "bypass"


class ConversationSource(StrEnum):
    """Who said which conversation a call belongs to; empty when nobody did."""

    HEADER = "header"
    BAGGAGE = "baggage"
    BODY = "body"
    STITCHED = "stitched"
    """Recognised by its messages; never exported as `gen_ai.conversation.id`."""
    NONE = ""


class PriceGrade(StrEnum):
    """Where a price came from."""

    LISTED = "listed"
    CONFIGURED = "configured"
    PRIOR = "prior"
    """A conservative stand-in for an unknown model."""


Charges = dict[str, tuple[int, int, int]]
"""What a call was charged apart from tokens of text: by part of its bill (``audio_input``, ``image_output``,
``per_search``, ...) quantity, pico-USD at list price and pico-USD really owed; and under :data:`REGION` the
tokens, and what the region cost more."""
REGION = "region"


class AttemptRecord(NamedTuple):
    """One try at one upstream. Money belongs to attempts."""

    attempt: int
    """Counts from 1 within its call."""
    upstream: str
    replica: str
    """``host:port`` of the server that was tried."""
    provider_name: str
    request_model: str
    """The model asked of this upstream."""
    span_id: str
    """Of the HTTP span: 16 hex digits."""
    started_at_us: int
    duration_us: int
    time_to_first_chunk_us: int | None
    http_status: int | None
    error_type: str
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    cache_write_1h_input_tokens: int
    reasoning_output_tokens: int
    usage_grade: str
    price_grade: str
    price_version: str
    list_cost_pico: int
    effective_cost_pico: int
    gpu_us: int | None = None
    energy_mj: int | None = None
    """Millijoules."""
    region: str = ""
    """Where the provider processed it, as far as that is known; its surcharge is in the costs."""
    charges: Charges = {}  # noqa: RUF012  (never changed)


class CallRecord(NamedTuple):
    """One logical request of an agent, after it ended."""

    call_id: str
    """UUIDv7."""
    started_at_us: int
    """Since the Unix epoch, UTC."""
    duration_us: int
    """From the request's last byte read to the reply's last byte handed to the kernel."""
    time_to_first_chunk_us: int | None
    tenant: str
    team: str
    user_id: str
    agent: str
    conversation_id: str
    conversation_source: str
    task_id: str
    tags: dict[str, str]
    key_id: str
    """Which virtual key; empty in pass-through mode."""
    trace_id: str
    span_id: str
    """Of the SERVER span."""
    parent_span_id: str
    """The agent's own span, from its traceparent."""
    gen_ai_span_id: str
    """Of the CLIENT GenAI span; empty when no model was asked."""
    api: str
    stream: bool
    request_model: str
    response_model: str
    provider_name: str
    upstream: str
    outcome: str
    outcome_reason: str
    http_status: int
    """What the agent saw; 499 when it left before a status was sent."""
    error_type: str
    cache: str
    downgraded_from: str
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    cache_write_1h_input_tokens: int
    reasoning_output_tokens: int
    audio_input_tokens: int
    audio_output_tokens: int
    usage_grade: str
    """Empty when nothing was consumed (refused, reused, failed before the provider)."""
    price_grade: str
    price_version: str
    list_cost_pico: int
    effective_cost_pico: int
    avoided_cost_pico: int
    provider_cost_pico: int | None
    """What the provider itself said the call cost, where it says so; never summed with ours."""
    overhead_us: int
    """What we added: the call's whole time less the time spent waiting for others."""
    response_id: str
    finish_reasons: list[str]
    tool_names: list[str]
    """Tools that the model called, in order; names only."""
    request_bytes: int
    response_bytes: int
    chunks: int
    """Stream events that were relayed; 0 when not streamed."""
    path: str
    """Route template, such as ``/v1/chat/completions``; never the query string."""
    server_address: str
    server_port: int
    client_address: str
    user_agent: str
    request_attributes: dict[str, object]
    """Scalar request parameters for the GenAI span: ``max_tokens``, ``temperature``, ``top_p``,
    ``top_k``, ``frequency_penalty``, ``presence_penalty``, ``seed``, ``stop_sequences``, ``choice_count``,
    ``reasoning_level``, ``service_tier``, ``output_type``, ``previous_response_id``, ``encoding_formats``,
    ``dimension_count``. Only those that the request had."""
    response_attributes: dict[str, object]
    """``service_tier``, ``system_fingerprint`` of the reply. Only those that it had."""
    message_hashes: list[int]
    """Rolling hash after each message of the request, for stitching; hashes only."""
    last_message_hash: int
    """Rolling hash after the reply's own message; 0 when it is not known."""
    content: dict[str, str] | None
    """Captured ``input`` and ``output``, only where the key opted in."""
    attempts: tuple[AttemptRecord, ...]
    # A digest told two ways has the CRC-32 of what was said in its lower 32 bits, and above them that
    # of its shape: the same without digits, which clocks, counters and offsets do not change.
    tool_call_hashes: list[int] = []  # noqa: RUF012  (never changed)
    """Of each tool call in the reply, name and arguments, two ways; in the order of `tool_names`."""
    input_role: str = ""
    """Who spoke last in the request: ``tool`` where an agent handed in results, else the role."""
    input_hash: int = 0
    """What was said last in the request, two ways."""
    tool_errors: int = 0
    """How many of the results that were handed in said that their tool failed."""
    tools_hash: int = 0
    """The tools offered: in their order, and above that in any order; 0 for none."""
    system_hash: int = 0
    """The system prompt, two ways; 0 for none."""
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    region: str = ""
    """As the attempt's that says what the costs are for."""
    charges: Charges = {}  # noqa: RUF012  (never changed)
    """Of all attempts together."""


class Intent(NamedTuple):
    """A call that is about to be able to spend money.

    When no :class:`CallRecord` follows (we crashed), the call is booked from this alone,
    at its hold, graded ``assumed``.
    """

    call_id: str
    started_at_us: int
    tenant: str
    team: str
    user_id: str
    agent: str
    conversation_id: str
    conversation_source: str
    task_id: str
    tags: dict[str, str]
    key_id: str
    trace_id: str
    span_id: str
    parent_span_id: str
    gen_ai_span_id: str
    api: str
    stream: bool
    request_model: str
    provider_name: str
    upstream: str
    hold_input_tokens: int
    hold_output_tokens: int
    price_grade: str
    price_version: str
    hold_cost_pico: int
    path: str


class EventKind(StrEnum):
    """What an event in the journal tells of."""

    OUTCOME = "outcome"
    """How a task ended, as somebody said."""
    BUDGET = "budget"
    """Something that was done to, or by, a budget: a threshold crossed, a raise, a directive, a cut."""
    SIMILAR = "similar"
    """A kept answer to a similar question, compared with what the model said."""


class Event(NamedTuple):
    """Something that is no call and must not be lost all the same."""

    kind: str
    happened_at_us: int
    """Since the Unix epoch, UTC."""
    tenant: str
    call_id: str
    """Of the call that it happened in; empty for none."""
    fields: dict[str, object]
    """By kind. Outcome: ``task_id``, ``conversation_id``, ``trace_id``, ``success``, ``score``,
    ``value_pico``, ``note``. Budget: ``budget``, ``counter``, ``action``, ``limit_nano``, ``spent_nano``,
    ``held_nano``, ``detail``. Similar: ``request_model``, ``likeness``, ``distance``, ``serving``,
    ``right``."""
