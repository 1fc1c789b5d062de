"""Requests on pass-through: best effort, never refused, never changed.

The dialects of our own routes are read by their own readers. Of the others the
model, the caps and the amount of text are found by where such things are kept.
"""

from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.members import is_heavy
from sidecar.wire.paths import api_of, model_in, streams
from sidecar.wire.request_fields import bounded_metadata, conversation_of, stop_sequences
from sidecar.wire.requests import REQUEST_READERS
from sidecar.wire.rewrite import with_model
from sidecar.wire.sse import BOM
from sidecar.wire.strict import decode_value, top_level
from sidecar.wire.token_prompts import part_tokens

_MOST_CHARS: Final = 256
_MEDIA_KEYS: Final = frozenset(
    {
        "data",
        "bytes",
        "url",
        "uri",
        "fileUri",
        "image_url",
        "file_data",
        "image",
        "images",
        "inputImage",
        "b64_json",
    }
)
"""Members that hold media, not text."""

_OPTIONS: Final = (
    "generationConfig",
    "generation_config",
    "inferenceConfig",
    "textGenerationConfig",
    "options",
    "parameters",  # DashScope, Hugging Face
)
_CAPS: Final = (
    "max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens",
    "maxTokenCount", "max_gen_len", "max_tokens_to_sample", "num_predict", "max_new_tokens",
)  # fmt: skip
_NUMBERS: Final = {
    "temperature": "temperature",
    "topP": "top_p",
    "top_p": "top_p",
    "p": "top_p",
    "topK": "top_k",
    "top_k": "top_k",
    "k": "top_k",
    "seed": "seed",
    "frequencyPenalty": "frequency_penalty",
    "frequency_penalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "presence_penalty": "presence_penalty",
}
_METADATA: Final = ("metadata", "labels", "requestMetadata")
_OWNERS: Final = ("user", "safety_identifier")
_CHOICES: Final = ("n", "candidateCount", "num_generations")
_LONGEST_SKIMMED: Final = 4096
_skim: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Skimmed",
        [
            (name, Raw, Raw(b"null"))
            for name in dict.fromkeys(
                ("model", "modelId", "stream", *_OPTIONS, *_CAPS, *_NUMBERS, *_CHOICES, *_METADATA, *_OWNERS)
            )
        ],
        gc=False,
    )
).decode


def read_raw_request(path: str, body: bytes, content_type: str = "") -> RequestFacts:
    """The facts of a request to any path of an upstream, as far as they can be told.

    The model may stand in the path (Gemini, Bedrock, Azure deployments). ``api`` is the
    dialect where the path is one of ours, else ``raw``.
    """
    api = api_of(path)
    body = body.removeprefix(BOM)
    parted = None
    if is_heavy(body):
        parted = part_tokens(api, body)
        if parted is None:
            return _skimmed(body, RequestFacts(api, model_in(path), stream=streams(path)))
        body = parted.rest
    facts = _read(api, path, body, content_type)
    if parted is not None:
        parted.add_to(facts)
    return facts


def _read(api: str, path: str, body: bytes, content_type: str) -> RequestFacts:
    try:
        fields = top_level(body)
        if api in REQUEST_READERS:
            named = "model" in fields
            if not named:
                body = with_model(body, model_in(path) or "unknown")
                fields = top_level(body)
            facts = REQUEST_READERS[api](fields, body)
            facts.model = facts.model if named else model_in(path)
            facts.stream = facts.stream or streams(path)
            return facts
    except (InvalidRequest, ValueError):
        pass  # Not ours to judge: the upstream will.
    facts = RequestFacts(api, model_in(path), stream=streams(path))
    try:
        asked = msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        facts.text_bytes = len(body) if "multipart" not in content_type else 0
        return facts
    if isinstance(asked, dict):
        _read_any(asked, facts)
    return facts


def _skimmed(body: bytes, facts: RequestFacts) -> RequestFacts:
    """What a body of too many members says of its costs; all of it may be text that the model reads."""
    try:
        found = _skim(body)
        raws = {name: getattr(found, name) for name in found.__struct_fields__}
        asked = {
            name: decode_value(raw)
            for name, raw in raws.items()
            if memoryview(raw).nbytes <= _LONGEST_SKIMMED
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        _read_any(asked, facts)
        if facts.api == "openai.completions":  # Each prompt that it may have is answered.
            facts.choice_count *= body.count(b",") + 1
    facts.text_bytes = len(body)
    return facts


def _read_any(asked: dict[str, Any], facts: RequestFacts) -> None:
    model = asked.get("model") or asked.get("modelId")
    if not facts.model and isinstance(model, str):
        facts.model = model.removeprefix("models/")[:_MOST_CHARS]
    facts.stream = facts.stream or asked.get("stream") is True
    for options in (asked, *(asked.get(name) for name in _OPTIONS)):
        if isinstance(options, dict):
            _read_options(options, facts)
    facts.has_tools = any(asked.get(name) for name in ("tools", "toolConfig", "functions"))
    _read_text(asked, facts)
    facts.metadata = bounded_metadata(next((found for name in _METADATA if (found := asked.get(name))), None))
    facts.conversation_id = conversation_of(facts.metadata)
    for name in _OWNERS:
        if isinstance(owner := asked.get(name), str) and not facts.user:
            facts.user = owner[:512]
    facts.user = facts.user or facts.metadata.get("user_id", "")


def _read_options(options: dict[str, Any], facts: RequestFacts) -> None:
    attributes = facts.attributes
    for name in _CAPS:
        cap = options.get(name)
        if type(cap) is int and cap >= 0:
            facts.max_output_tokens = attributes["max_tokens"] = cap
            break
    for name, attribute in _NUMBERS.items():
        number = options.get(name)
        if type(number) in (int, float):
            attributes[attribute] = number
    for name in _CHOICES:
        choices = options.get(name)
        if type(choices) is int and 1 <= choices <= 1024:
            facts.choice_count = attributes["choice_count"] = choices
    for name in ("stop", "stopSequences", "stop_sequences"):
        if sequences := stop_sequences(options.get(name)):
            attributes["stop_sequences"] = sequences
    if options.get("responseMimeType") == "application/json":
        attributes["output_type"] = "json"
    if options.get("responseSchema") or options.get("responseJsonSchema"):
        facts.wants_json_schema = True


def _read_text(asked: dict[str, Any], facts: RequestFacts) -> None:
    """Add up all text below ``asked``, media left out; iterative, so depth does not matter."""
    waiting: list[Any] = [asked]
    size = 0
    while waiting:
        member = waiting.pop()
        if isinstance(member, str):
            size += len(member.encode("utf-8", "replace"))
        elif isinstance(member, list):
            if member and all(type(token) is int for token in member):
                size += 4 * len(member)  # A prompt of tokens.
            else:
                waiting += member
        elif isinstance(member, dict):
            for key, value in member.items():
                if key in _MEDIA_KEYS and isinstance(value, str | list):
                    facts.has_images = True
                    facts.has_remote_media |= isinstance(value, str) and value.startswith(
                        ("http://", "https://")
                    )
                else:
                    waiting.append(value)
    facts.text_bytes = size
