"""OpenAI completions and embeddings: a prompt instead of messages."""

from sidecar.wire.chat_request import asks_for_usage, embedded_text
from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.hashing import fold
from sidecar.wire.request_fields import (
    read_attributes,
    read_choices,
    read_count,
    read_flag,
    read_model,
    read_owner,
    stop_sequences,
)
from sidecar.wire.strict import Fields, value

_DEFAULT_COMPLETION_TOKENS = 16
"""What a completion may write when nothing is said (platform.openai.com/docs/api-reference/completions)."""


def read_completions_request(fields: Fields, body: bytes) -> RequestFacts:
    """The facts of a ``/v1/completions`` body.

    Raises:
        InvalidRequest: a field that we rely on is not what the API defines.
    """
    facts = RequestFacts("openai.completions", read_model(fields))
    facts.attributes = attributes = read_attributes(fields)
    facts.stream = read_flag(fields, "stream")
    facts.include_usage = "stream_options" in fields and asks_for_usage(fields)
    cap = read_count(fields, "max_tokens")
    facts.max_output_tokens = _DEFAULT_COMPLETION_TOKENS if cap is None else cap
    if cap is not None:
        attributes["max_tokens"] = cap
    choices = read_choices(fields)
    if "n" in fields:
        attributes["choice_count"] = choices
    prompts = _read_prompt(fields, "prompt", facts)
    # best_of candidates are generated and billed, though only n of them are returned.
    facts.choice_count = prompts * max(choices, read_choices(fields, "best_of"))
    if sequences := stop_sequences(value(fields, "stop")):
        attributes["stop_sequences"] = sequences
    read_owner(fields, facts)
    return facts


def read_embeddings_request(fields: Fields, body: bytes) -> RequestFacts:
    """The facts of a ``/v1/embeddings`` body.

    Raises:
        InvalidRequest: a field that we rely on is not what the API defines.
    """
    facts = RequestFacts("openai.embeddings", read_model(fields), max_output_tokens=0)
    facts.attributes = read_attributes(fields)
    kind = value(fields, "encoding_format")
    if isinstance(kind, str):
        facts.attributes["encoding_formats"] = [kind[:64]]
    if "input" not in fields and "messages" not in fields:
        raise InvalidRequest("input is missing.", "input")
    _read_prompt(fields, "input", facts)
    read_owner(fields, facts)
    return facts


def _read_prompt(fields: Fields, name: str, facts: RequestFacts) -> int:
    raw = fields.get(name)
    if raw is None:
        return 1
    count = embedded_text(raw, name, facts)
    view = memoryview(raw)
    facts.message_hashes.append(fold(0, "user", bytes(view)))
    return count
