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
from sidecar.wire.strict import SaidTwice, decode_value, refuse_duplicates, top_level
from sidecar.wire.token_prompts import part_tokens
from sidecar.wire.twice import DEAREST_TIER, as_lenient, both_ways, dearer, dearest_tier, named_in

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
_HOLD_OPTIONS: Final = frozenset(_OPTIONS)
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
_MODELS: Final = ("model", "modelId")
_MOST_CHOICES: Final = 1024
_MOST_MODELS: Final = 16
_LONGEST_SKIMMED: Final = 4096
_MOST_READ_TWICE: Final = 1 << 20
"""Bytes of a body that says something twice; a longer one is looked through instead, for that takes long."""
_MOST_NAMES_READ_TWICE: Final = 8192
_skim: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Skimmed",
        [
            (name, Raw, Raw(b"null"))
            for name in dict.fromkeys(
                (
                    *(*_MODELS, "stream", "service_tier", *_OPTIONS, *_CAPS),
                    *(*_NUMBERS, *_CHOICES, *_METADATA, *_OWNERS),
                )
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
    if not _says_twice(body):
        return _read_once(api, path, body, content_type)
    is_long = len(body) > _MOST_READ_TWICE or body.count(b":") > _MOST_NAMES_READ_TWICE
    both = None if is_long else both_ways(body)
    if both is None:
        return _skimmed(body, RequestFacts(api, model_in(path), stream=streams(path)))
    first, last = (_read_once(api, path, one, content_type) for one in both)
    return dearer(first, last)


def _says_twice(body: bytes) -> bool:
    """Whether a name that may decide on costs stands twice in one object."""
    try:
        try:
            fields = top_level(body)
        except SaidTwice:
            return True
        except InvalidRequest:
            refuse_duplicates(body)  # It has other faults, which its provider may overlook.
            return False
        for name in fields.keys() & _HOLD_OPTIONS:
            if (options := bytes(fields[name])).startswith(b"{"):
                top_level(options)
    except SaidTwice:
        return True
    except ValueError:
        return False
    return False


def _read_once(api: str, path: str, body: bytes, content_type: str) -> RequestFacts:
    try:
        if api in REQUEST_READERS:
            fields = top_level(body)
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
        # Many providers read what is not quite JSON, as an emoji that was cut in two, and answer it.
        plain = as_lenient(body) if len(body) <= _MOST_READ_TWICE and body[:64].lstrip()[:1] == b"{" else None
        if plain is not None and isinstance(asked := _decoded(plain), dict):
            size = facts.text_bytes
            _read_any(asked, facts)
            facts.text_bytes = max(size, facts.text_bytes)
        return facts
    if isinstance(asked, dict):
        _read_any(asked, facts)
    return facts


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _skimmed(body: bytes, facts: RequestFacts) -> RequestFacts:
    """What a body of too many members says of its costs; all of it may be text that the model reads."""
    asks_path = bool(facts.model)
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
        _read_named(body, facts, asks_path=asks_path)
        if facts.api == "openai.completions":  # Each prompt that it may have is answered.
            facts.choice_count *= body.count(b",") + 1
    facts.text_bytes = len(body)
    return facts


def _read_named(body: bytes, facts: RequestFacts, *, asks_path: bool) -> None:
    """Where a body that is not decoded says something more than once, have the dearest of it hold."""
    said = named_in(body)

    def each(*names: str) -> list[Any] | None:
        """None where that cannot be told."""
        return None if said is None else [value for name in names for value in said.get(name, ())]

    caps, choices, tiers, streamed = each(*_CAPS), each(*_CHOICES), each("service_tier"), each("stream")
    if caps is None or len(caps) > 1:
        known = caps is not None and all(type(cap) is int and cap >= 0 for cap in caps)
        facts.max_output_tokens = max(caps) if caps is not None and known else None
    if choices is None or len(choices) > 1:
        every = [one for one in choices or () if type(one) is int and 1 <= one <= _MOST_CHOICES]
        facts.choice_count = _MOST_CHOICES if choices is None else max(every, default=facts.choice_count)
    if tiers is None or len(tiers) > 1:
        facts.attributes["service_tier"] = DEAREST_TIER if tiers is None else dearest_tier(tiers)
    if streamed is None or len(streamed) > 1:
        facts.stream = facts.stream and streamed is not None and all(one is True for one in streamed)
    if not asks_path:
        models = each(*_MODELS)
        others = {one[:_MOST_CHARS] for one in models or () if isinstance(one, str)} - {facts.model}
        if models is None or len(others) > _MOST_MODELS:
            facts.model = ""  # Priced as one that nobody knows.
        else:
            facts.other_models = tuple(sorted(others))


def _read_any(asked: dict[str, Any], facts: RequestFacts) -> None:
    model = asked.get("model") or asked.get("modelId")
    if not facts.model and isinstance(model, str):
        facts.model = model.removeprefix("models/")[:_MOST_CHARS]
    facts.stream = facts.stream or asked.get("stream") is True
    for options in (asked, *(asked.get(name) for name in _OPTIONS)):
        if isinstance(options, dict):
            _read_options(options, facts)
    if isinstance(tier := asked.get("service_tier"), str):
        facts.attributes["service_tier"] = tier[:64]
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
            # Its provider knows one of these names, and one of the places: whichever that is.
            facts.max_output_tokens = attributes["max_tokens"] = max(cap, facts.max_output_tokens or 0)
    for name, attribute in _NUMBERS.items():
        number = options.get(name)
        if type(number) in (int, float):
            attributes[attribute] = number
    for name in _CHOICES:
        choices = options.get(name)
        if type(choices) is int and 1 <= choices <= _MOST_CHOICES:
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
