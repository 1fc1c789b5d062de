"""A usage as each dialect writes it; read back by :mod:`sidecar.wire.usage`, it is the same."""

from typing import Any

from collector.domain.usage import Usage


def _said(**counts: int) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number}


def chat_usage(usage: Usage) -> dict[str, Any]:
    """OpenAI chat's usage block: cached tokens are part of the prompt, reasoning of the completion."""
    block: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    prompt: dict[str, Any] = _said(
        cached_tokens=usage.cache_read_input_tokens,
        cache_write_tokens=usage.cache_write_input_tokens,
        audio_tokens=usage.audio_input_tokens,
        image_tokens=usage.image_input_tokens,
    )
    if usage.cache_write_1h_input_tokens:
        # litellm's name for what OpenAI has not.
        prompt["cache_creation_token_details"] = {
            "ephemeral_1h_input_tokens": usage.cache_write_1h_input_tokens,
            "ephemeral_5m_input_tokens": usage.cache_write_input_tokens - usage.cache_write_1h_input_tokens,
        }
    if usage.cache_read_audio_input_tokens:
        prompt["cached_tokens_details"] = {"audio_tokens": usage.cache_read_audio_input_tokens}
    completion = _said(
        reasoning_tokens=usage.reasoning_output_tokens,
        audio_tokens=usage.audio_output_tokens,
        image_tokens=usage.image_output_tokens,
    )
    if prompt:
        block["prompt_tokens_details"] = prompt
    if completion:
        block["completion_tokens_details"] = completion
    if usage.web_searches:
        block["server_tool_use"] = {"web_search_requests": usage.web_searches}
    return block


def messages_usage(usage: Usage) -> dict[str, Any]:
    """Anthropic's usage block: cached tokens stand beside the input."""
    read, written = usage.cache_read_input_tokens, usage.cache_write_input_tokens
    hour = usage.cache_write_1h_input_tokens
    block: dict[str, Any] = {
        "input_tokens": usage.input_tokens - read - written,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": usage.output_tokens,
    }
    if hour:
        block["cache_creation"] = {
            "ephemeral_1h_input_tokens": hour,
            "ephemeral_5m_input_tokens": written - hour,
        }
    if usage.reasoning_output_tokens:
        block["output_tokens_details"] = {"thinking_tokens": usage.reasoning_output_tokens}
    if usage.web_searches:
        block["server_tool_use"] = {"web_search_requests": usage.web_searches}
    return block


def responses_usage(usage: Usage) -> dict[str, Any]:
    """OpenAI responses' usage block."""
    prompt = {
        "cached_tokens": usage.cache_read_input_tokens,
        "cache_write_tokens": usage.cache_write_input_tokens,
    }
    prompt |= _said(audio_tokens=usage.audio_input_tokens)
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": prompt,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
