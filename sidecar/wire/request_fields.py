"""The fields that request bodies of all dialects share, read once and refused clearly."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.hashing import tools_digest
from sidecar.wire.strict import MAX_DEPTH, Fields, check_depth, checked, decode_value

MAX_MODEL_CHARS: Final = 256
MAX_MESSAGES: Final = 10_000
MAX_CHOICES: Final = 1024
_MAX_METADATA: Final = 16
_MAX_METADATA_KEY: Final = 64
_MAX_METADATA_VALUE: Final = 512
_SMALL: Final = 2 * (MAX_DEPTH - 1)
"""Nothing shorter than this many bytes can nest too deeply."""

_decode_text: Final = msgspec.json.Decoder(str).decode

_ROUTING_FIELDS: Final = frozenset(
    {
        # Where a call goes and with which credentials is configuration, never the caller's
        # choice (CVE-2024-6587: a body's api_base received the provider key).
        "api_base", "base_url", "api_key", "api_type", "api_version", "azure_endpoint", "client",
        "custom_host", "custom_llm_provider", "deployment_id", "endpoint", "endpoint_url", "fallbacks",
        "headers", "default_headers", "extra_body", "extra_headers", "extra_query", "host", "hostname",
        "http_client", "model_list", "organization", "proxies", "proxy", "region_name", "ssl_verify",
        "target_url", "upstream", "use_litellm_proxy", "verify_ssl",
        # Answers made up by a gateway, and tensors that a server would load (vLLM).
        "mock_delay", "mock_response", "mock_timeout", "mock_tool_calls", "prompt_embeds",
    }
)  # fmt: skip
_ROUTING_PREFIXES: Final = ("aws_", "azure_", "litellm_", "sagemaker_", "vertex_", "watsonx_")

_DECODED_FIELDS: Final = frozenset(
    {
        "messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens",
        "max_output_tokens", "temperature", "top_p", "top_k", "n", "stop", "seed", "tools",
        "functions", "response_format", "user", "metadata", "system", "input", "prompt",
        "instructions", "reasoning", "reasoning_effort", "text", "presence_penalty",
        "frequency_penalty", "service_tier", "stop_sequences", "output_config", "output_format",
        "conversation",
    }
)  # fmt: skip
"""Fields that every reader that meets them decodes, and so checks, or that hold a scalar."""


def check_fields(fields: Fields) -> None:
    """Refuse a body that names a host, a provider account or credentials, or nests too deeply unread.

    Raises:
        InvalidRequest: it does.
    """
    if _DECODED_FIELDS.issuperset(fields):
        return
    for name in fields.keys() - _DECODED_FIELDS:
        raw = fields[name]
        if memoryview(raw).nbytes >= _SMALL:
            check_depth(raw, name)
        if name in _ROUTING_FIELDS or name.startswith(_ROUTING_PREFIXES):
            raise InvalidRequest(
                f"{name} is not allowed here: where a call goes is set in the configuration.", name
            )


def read_model(fields: Fields) -> str:
    """The model asked for: text of 1 to 256 characters.

    Raises:
        InvalidRequest: it is not.
    """
    raw = fields.get("model")
    if raw is None:
        raise InvalidRequest("model is missing: name the model to call.", "model")
    if memoryview(raw).nbytes > 6 * MAX_MODEL_CHARS + 2:
        raise InvalidRequest(f"model must be at most {MAX_MODEL_CHARS} characters.", "model")
    try:
        model: Any = _decode_text(raw)
    except msgspec.DecodeError:
        model = checked(raw, "model")
    if not isinstance(model, str) or not model.strip():
        raise InvalidRequest("model must be a non-empty string.", "model")
    if len(model) > MAX_MODEL_CHARS:
        raise InvalidRequest(f"model must be at most {MAX_MODEL_CHARS} characters.", "model")
    return model


def usable_model(model: str) -> bool:
    """Whether ``model`` can name a model: 1 to 256 characters, not all white space."""
    return 0 < len(model) <= MAX_MODEL_CHARS and not model.isspace()


def read_flag(fields: Fields, name: str) -> bool:
    """A boolean field, false when absent or null.

    Raises:
        InvalidRequest: it is something else.
    """
    raw = fields.get(name)
    if raw is None:
        return False
    flag = checked(raw, name)
    if flag is not None and not isinstance(flag, bool):
        raise InvalidRequest(f"{name} must be true or false.", name)
    return bool(flag)


def read_count(fields: Fields, name: str, *, least: int = 0) -> int | None:
    """A whole number of at least ``least``, ``None`` when absent or null.

    Raises:
        InvalidRequest: it is something else.
    """
    raw = fields.get(name)
    if raw is None:
        return None
    number = checked(raw, name)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise InvalidRequest(f"{name} must be a whole number of at least {least}.", name)
    return number


def read_choices(fields: Fields, name: str = "n") -> int:
    """How many choices are asked for, 1 when nothing is said.

    Raises:
        InvalidRequest: the number is not believable.
    """
    number = read_count(fields, name, least=1)
    if number is None:
        return 1
    if number > MAX_CHOICES:
        raise InvalidRequest(f"{name} must be at most {MAX_CHOICES}.", name)
    return number


_SCALARS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "reasoning_effort": "reasoning_level",
    "service_tier": "service_tier",
    "previous_response_id": "previous_response_id",
    "dimensions": "dimension_count",
}
"""Body field -> name in ``CallRecord.request_attributes``."""


def read_attributes(fields: Fields) -> dict[str, object]:
    """The scalar parameters of the request, under the names of ``CallRecord.request_attributes``."""
    attributes: dict[str, object] = {}
    for name in fields.keys() & _SCALARS.keys():
        raw = fields[name]
        if memoryview(raw).nbytes < 1024:
            scalar = decode_value(raw)
            if isinstance(scalar, int | float | str) and not isinstance(scalar, bool):
                attributes[_SCALARS[name]] = scalar
    return attributes


def stop_sequences(stop: object) -> list[str]:
    """What ends the output, as a list, of at most 16 texts of at most 256 characters."""
    sequences = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    return [text[:256] for text in sequences[:16] if isinstance(text, str)]


def read_owner(fields: Fields, facts: RequestFacts) -> None:
    """Who and what the call is for, as far as the body itself says."""
    for name in ("user", "safety_identifier"):
        raw = fields.get(name)
        if raw is not None and not facts.user:
            owner = decode_value(raw) if memoryview(raw).nbytes <= 4096 else None
            if isinstance(owner, str):
                facts.user = owner[:_MAX_METADATA_VALUE]
    raw = fields.get("metadata")
    if raw is not None:
        facts.metadata = bounded_metadata(checked(raw, "metadata"))
        facts.user = facts.user or facts.metadata.get("user_id", "")
        facts.conversation_id = facts.conversation_id or conversation_of(facts.metadata)


def bounded_metadata(metadata: object) -> dict[str, str]:
    """The scalar members of ``metadata`` as text, cut to size."""
    if not isinstance(metadata, dict):
        return {}
    bounded: dict[str, str] = {}
    for key, member in metadata.items():
        if len(bounded) == _MAX_METADATA:
            break
        if isinstance(member, str | int | float) and not isinstance(member, bool):
            bounded[key[:_MAX_METADATA_KEY]] = str(member)[:_MAX_METADATA_VALUE]
    return bounded


def conversation_of(metadata: Mapping[str, str]) -> str:
    """The conversation that metadata names, empty when it names none."""
    for name in ("conversation_id", "thread_id", "session_id"):
        if metadata.get(name):
            return metadata[name]
    return ""


def read_tools(fields: Fields, facts: RequestFacts, *names: str) -> None:
    """Note whether tools are offered, and the bytes of their definitions, which the model reads."""
    for name in names:
        raw = fields.get(name)
        if raw is None:
            continue
        size = memoryview(raw).nbytes
        if size > 4:  # neither [] nor null
            facts.has_tools = True
            facts.text_bytes += size
            facts.tools_hash = tools_digest(bytes(raw))
            if size >= _SMALL:
                check_depth(raw, name)


def messages_of(raw: Raw | None, name: str) -> list[Any]:
    """The objects among the at most 10,000 members of the list ``raw``.

    What else stands in the list has no meaning to us; the provider says what it thinks of it.

    Raises:
        InvalidRequest: it is not.
    """
    if raw is None:
        raise InvalidRequest(f"{name} is missing.", name)
    members = checked(raw, name)
    if not isinstance(members, list):
        raise InvalidRequest(f"{name} must be a list.", name)
    check_number(len(members), name)
    return [member for member in members if isinstance(member, dict)]


def check_number(members: int, name: str) -> None:
    """Refuse more messages than any conversation has.

    Raises:
        InvalidRequest: there are more than 10,000.
    """
    if members > MAX_MESSAGES:
        raise InvalidRequest(f"{name} has {members} members; at most {MAX_MESSAGES} are taken.", name)
