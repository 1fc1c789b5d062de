"""The reply, decided before a byte is sent: text, tool calls, reasoning, usage, pace.

Everything follows from the request, its directives and one seed; no clock and no
dialect is known here. The dialects only put an :class:`Answer` into their shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from collector.domain.usage import Usage
from inference.simulator.directives import Directives
from inference.simulator.models import ModelProfile
from inference.simulator.prompt_cache import CacheFigures
from inference.simulator.tokens import BYTES_PER_TOKEN, count_tokens, prose

TEXT_LIMIT_TOKENS = 96
"""Text sent when the figures are dictated: a replay asks for sums, not for megabytes."""

CHUNK_TOKENS = 4
"""Tokens in one stream event."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the request offers."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the reply calls."""

    call_id: str
    name: str
    arguments: str
    """JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What any dialect's request comes down to."""

    model: str
    stream: bool
    prompt_tokens: int
    last_user_text: str
    answers_a_tool: bool
    output_cap: int | None
    """max_tokens and its kin."""
    tools: Sequence[Tool] = ()
    tool_choice: str = "auto"
    """``auto``, ``none``, ``required``, or the name of one tool."""
    json_schema: Mapping[str, Any] | None = None
    """The schema that the text must follow."""
    reasoning: bool | None = None
    """Whether reasoning was asked for; None leaves it to the model."""
    choices: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One whole reply."""

    key: str
    """Unique part of every id in the reply."""
    model: str
    texts: tuple[str, ...]
    """One for each choice; empty strings where tools are called."""
    tool_calls: tuple[ToolCall, ...]
    reasoning_text: str
    finish: str
    """``stop``, ``length`` or ``tools``."""
    usage: Usage
    first_token_s: float
    token_gap_s: float
    """Pause for each token that is really sent, so that the whole takes its due time."""

    def pieces(self, text: str) -> list[str]:
        """``text`` as a stream's events carry it."""
        step = CHUNK_TOKENS * BYTES_PER_TOKEN
        return [text[start : start + step] for start in range(0, len(text), step)]


def compose(
    asked: Asked, directives: Directives, cached: CacheFigures, profile: ModelProfile, seed: int, key: str
) -> Answer:
    """The answer to ``asked``; the same arguments give the same answer."""
    random = Random(seed)  # noqa: S311 (a simulation, not secrets)
    calls = _tool_calls(asked, directives, random, key)
    reasons = asked.reasoning if asked.reasoning is not None else profile.reasoning_share > 0
    share = (profile.reasoning_share or 0.4) if reasons else 0.0

    if calls:
        body_tokens = sum(count_tokens(call.name) + count_tokens(call.arguments) for call in calls)
        wanted = round(body_tokens / (1 - share))
        texts: tuple[str, ...] = ("",) * asked.choices
        finish = "tools"
    else:
        wanted = _wanted_tokens(asked, directives, profile, random)
        cap = asked.output_cap
        finish = "length" if cap is not None and wanted > cap else "stop"
        wanted = wanted if cap is None else min(wanted, cap)
        body_tokens = wanted - int(wanted * share)
        texts = ()
    reasoning = wanted - body_tokens

    dictated = directives.usage
    if dictated is not None:
        body_tokens = min(dictated.output_tokens - dictated.reasoning_output_tokens, TEXT_LIMIT_TOKENS)
        reasoning = dictated.reasoning_output_tokens
        if directives.output_tokens is None and not calls:
            finish = "stop"
    if not texts:
        texts = tuple(_text(asked, body_tokens, seed + choice) for choice in range(asked.choices))
        if asked.json_schema is not None and dictated is None:
            body_tokens = count_tokens(texts[0])

    usage = dictated or Usage(
        input_tokens=asked.prompt_tokens,
        output_tokens=(body_tokens + reasoning) * (1 if calls else asked.choices),
        cache_read_input_tokens=cached.read,
        cache_write_input_tokens=cached.write_5m + cached.write_1h,
        cache_write_1h_input_tokens=cached.write_1h,
        reasoning_output_tokens=reasoning * (1 if calls else asked.choices),
    )
    spoken = usage.output_tokens - usage.reasoning_output_tokens
    sent = max(1, sum(map(count_tokens, texts)) + sum(count_tokens(call.arguments) for call in calls))
    return Answer(
        key=key,
        model=asked.model,
        texts=texts,
        tool_calls=calls,
        reasoning_text=prose(min(reasoning, 24), seed, "[simulated reasoning] ") if reasoning else "",
        finish=finish,
        usage=usage,
        first_token_s=profile.first_token_s + usage.reasoning_output_tokens * profile.token_gap_s,
        token_gap_s=profile.token_gap_s * spoken / sent,
    )


def _wanted_tokens(asked: Asked, directives: Directives, profile: ModelProfile, random: Random) -> int:
    if directives.output_tokens is not None:
        return directives.output_tokens
    # Lengths of replies are close to log-normal; sigma 0.8 keeps 95 % within a factor of five.
    return max(1, min(8192, round(profile.typical_output_tokens * random.lognormvariate(-0.32, 0.8))))


def _text(asked: Asked, tokens: int, seed: int) -> str:
    if asked.json_schema is not None:
        return msgspec.json.encode(example_of(asked.json_schema, Random(seed))).decode()  # noqa: S311
    return prose(tokens, seed)


def _tool_calls(asked: Asked, directives: Directives, random: Random, key: str) -> tuple[ToolCall, ...]:
    """Tools are called when they are demanded, dictated, or named by a user who still waits for an answer."""
    if not asked.tools or asked.tool_choice == "none":
        return ()
    by_name = {tool.name: tool for tool in asked.tools}
    if asked.tool_choice in by_name:
        chosen = [by_name[asked.tool_choice]]
    elif directives.tools is not None:
        chosen = [asked.tools[index % len(asked.tools)] for index in range(min(directives.tools, 64))]
    elif asked.tool_choice == "required":
        chosen = [asked.tools[0]]
    elif asked.answers_a_tool:
        chosen = []
    else:
        chosen = [tool for tool in asked.tools if tool.name in asked.last_user_text]
    return tuple(
        ToolCall(
            call_id=f"{key}{index:02d}",
            name=tool.name,
            arguments=msgspec.json.encode(example_of(tool.schema, random)).decode(),
        )
        for index, tool in enumerate(chosen)
    )


def example_of(schema: Mapping[str, Any], random: Random, root: Mapping[str, Any] | None = None) -> object:
    """A small value that the JSON schema accepts, as far as schemas of tools go."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for name in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target.get(name, {})
        return example_of(target, random, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return random.choice(list(schema["enum"]))
    for variants in (schema.get("anyOf"), schema.get("oneOf"), schema.get("allOf")):
        if variants:
            return example_of(variants[0], random, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object":
            required = schema.get("required", list(schema.get("properties", {})))
            properties = schema.get("properties", {})
            return {name: example_of(properties.get(name, {}), random, root) for name in required}
        case "array":
            count = max(1, int(schema.get("minItems", 1)))
            return [example_of(schema.get("items", {}), random, root) for _ in range(count)]
        case "integer" | "number":
            low = int(schema.get("minimum", 1))
            return random.randint(low, max(low, int(schema.get("maximum", low + 9))))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "simulated"
