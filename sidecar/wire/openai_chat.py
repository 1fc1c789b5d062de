"""OpenAI chat completions, completions and embeddings, and all who copied them: what a reply says.

Azure, Groq, OpenRouter, xAI, DeepSeek, Mistral, Together, Perplexity, vLLM and others
differ in where they put usage, cost and errors, in whether tool calls are numbered,
and in what they send before and after the text.
"""

from collections.abc import Mapping
from typing import Any

from sidecar.wire.jsonstream import decode_event
from sidecar.wire.reading import Reading


def read_chat_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one chunk; true when it carries nothing but usage."""
    read_chat_body(event, reading, streamed=True)
    if event.get("choices") == [] and isinstance(event.get("usage"), dict) and not event.get("error"):
        return True
    if name == "error" and not event.get("error"):
        reading.fail(event)
    return False


def read_chat_body(body: Mapping[str, Any], reading: Reading, *, streamed: bool = False) -> None:
    """Read a chat completion, a completion, an embedding, or one chunk of these."""
    begun = streamed and (reading.text_bytes > 0 or bool(reading.tools))
    reading.identify(body.get("id"), body.get("model"))
    if isinstance(tier := body.get("service_tier"), str):
        reading.service_tier = tier[:64]
    if isinstance(fingerprint := body.get("system_fingerprint"), str):
        reading.system_fingerprint = fingerprint[:128]
    if type(created := body.get("created")) is int and created:
        reading.scratch.setdefault("created", created)
    choices = body.get("choices")
    for place, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            _read_choice(choice, place, reading, streamed=streamed, begun=begun)
    groq = body.get("x_groq")
    groq = groq if isinstance(groq, dict) else {}
    usage = body.get("usage") or groq.get("usage")
    if isinstance(usage, dict):
        reading.use(_with_cache_of(body, usage))
        read_cost(usage, reading)
    elif reading.usage_block is reading.scratch.get("usage_of_choice"):
        _read_usage_of_choice(choices, reading)
    reading.fail(body.get("error") or groq.get("error"))


def _read_usage_of_choice(choices: object, reading: Reading) -> None:
    """Take the usage that Moonshot keeps in the last chunk's choice, where none stands where it belongs."""
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and isinstance(usage := choice.get("usage"), dict) and usage:
            reading.use(usage)
            reading.scratch["usage_of_choice"] = usage
            return


def _with_cache_of(body: Mapping[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    """``usage``, with the cached tokens that llama.cpp told beside it before it told them inside."""
    timings = body.get("timings")
    if isinstance(timings, dict) and "prompt_tokens_details" not in usage:
        return {**usage, "prompt_tokens_details": {"cached_tokens": timings.get("cache_n")}}
    return usage


def read_cost(usage: Mapping[str, Any], reading: Reading) -> None:
    """The provider's own figure: OpenRouter and Perplexity in USD, xAI in ticks of 1e-10 USD."""
    cost = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    ticks = usage.get("cost_in_usd_ticks")
    if type(ticks) is int and 0 <= ticks < 10**16:
        reading.cost_pico = ticks * 100
    elif cost is not None:
        reading.cost(cost)


def _read_choice(
    choice: dict[str, Any], place: int, reading: Reading, *, streamed: bool, begun: bool
) -> None:
    index = choice.get("index")
    index = index if type(index) is int else place
    reading.finished(choice.get("finish_reason") or choice.get("stop_reason"), index)
    reading.fail(choice.get("error"))
    message, delta = choice.get("message"), choice.get("delta")
    if not message or (streamed and isinstance(delta, dict) and delta):
        # Chunks of Perplexity have all text so far beside what is new, its whole replies an empty delta.
        message, begun = delta, False
    if not isinstance(message, dict):
        reading.say(choice.get("text"), index)
        return
    _read_citations(message, reading)
    if begun:  # MiniMax ends a stream with the whole message.
        _read_tools_again(message, index, reading)
        return
    _read_text(message, index, reading)
    calls = message.get("tool_calls")
    for order, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            _read_call(call, (index, order), reading)
    if isinstance(legacy := message.get("function_call"), dict):
        _read_call({"index": 0, "function": legacy}, (index, 0), reading)


def _read_citations(message: dict[str, Any], reading: Reading) -> None:
    """Note that the web was searched, where the reply cites what was found.

    OpenAI's search models (``gpt-4o-search-preview``, ``gpt-5-search-api``) search once for each call, charge
    that and count it nowhere; where a usage block counts searches, its number stands. OpenRouter cites too,
    for whatever model. Its own figure for the call, which has the search in it, is kept beside ours and never
    added to it, so nothing is charged twice; as long as the price book states no price of searches there, our
    figure is graded ``prior``.
    """
    cited = message.get("annotations")
    for annotation in cited if isinstance(cited, list) else ():
        if isinstance(annotation, dict) and annotation.get("type") == "url_citation":
            reading.searches = 1
            return


def _read_tools_again(message: dict[str, Any], index: int, reading: Reading) -> None:
    """Read the tool calls of a message that repeats what a stream has said, those that are new."""
    known = set(reading.tools)
    calls = message.get("tool_calls")
    for order, call in enumerate(calls if isinstance(calls, list) else ()):
        if not isinstance(call, dict):
            continue
        function = call.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        mark = str(call.get("id") or ""), name if isinstance(name, str) else ""
        if mark not in known:
            _read_call({**call, "index": None}, (index, len(known) + order), reading)


def _read_text(message: dict[str, Any], index: int, reading: Reading) -> None:
    reading.think(message.get("reasoning_content") or message.get("reasoning"))
    content = message.get("content")
    if isinstance(content, list):  # Mistral's reasoning models send parts.
        for part in content:
            if isinstance(part, dict) and part.get("type") == "thinking":
                thoughts = part.get("thinking")
                for thought in thoughts if isinstance(thoughts, list) else [thoughts]:
                    reading.think(thought.get("text") if isinstance(thought, dict) else thought)
            elif isinstance(part, dict):
                reading.say(part.get("text"), index)
    else:
        reading.say(content, index)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        reading.argue(refusal)


def _read_call(call: dict[str, Any], place: tuple[int, int], reading: Reading) -> None:
    """Read a tool call, or the next fragment of one.

    A fragment belongs to the call of the same index, unless it brings an id of its own, or a name once the
    call of that index is whole: Gemini gives every parallel call index 0, and no id; Mistral gives no index.
    """
    function = call.get("function")
    function = function if isinstance(function, dict) else call.get("custom")
    function = function if isinstance(function, dict) else {}
    call_id, name = call.get("id") or "", function.get("name") or ""
    index = call.get("index")
    key = (place[0], index) if type(index) is int else place
    arguments = function.get("arguments") if "arguments" in function else function.get("input")
    whole = reading.scratch.setdefault("whole_calls", set())
    known = reading.tool_places.get(key)
    if known is not None and known < len(reading.tools):
        known_id = reading.tools[known][0]
        other_id = call_id and known_id and call_id != known_id
        begins = name and (
            type(index) is not int or (known in whole and not (call_id and call_id == known_id))
        )
        if other_id or begins:
            known = None
        elif arguments:
            whole.discard(known)
    if known is None and (call_id or name):
        known = reading.tool_places[key] = reading.call_tool(call_id, name)
        if type(index) is int and _is_object(arguments):
            whole.add(known)
    elif known is not None and known < len(reading.tools) and (call_id or name):
        old_id, old_name = reading.tools[known]
        reading.tools[known] = (old_id or str(call_id)[:256], old_name or str(name)[:256])
    reading.argue(arguments, known)


def _is_object(arguments: object) -> bool:
    """Whether ``arguments``, which begin a call, are already all of it."""
    if not isinstance(arguments, str) or not arguments.rstrip().endswith("}"):
        return False
    try:
        return isinstance(decode_event(arguments.encode("utf-8", "replace")), dict)
    except (ValueError, RecursionError):
        return False
