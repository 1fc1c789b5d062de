"""What an answer that is given again saves: its price, less what the provider would have let off itself.

Had the call been made, the provider would have found its prompt in its own cache and charged that part
at the cached rate. So much is not our saving.
"""

from dataclasses import replace

from collector.domain.usage import Usage
from collector.pricing.book import Quote
from sidecar.accounting import cost_of

AUTOMATIC = frozenset({"openai", "azure.ai.openai", "azure.ai.inference", "deepseek", "groq", "x_ai"})
"""Providers that cache prompts without being asked to."""
LEAST_TOKENS = 1024
"""Shortest prompt that they cache (platform.openai.com/docs/guides/prompt-caching)."""
BLOCK_TOKENS = 128
"""They cache whole blocks of so many tokens."""
KEPT_S = 300.0
"""How long a prompt stays there unasked, at least; Anthropic's and OpenAI's shorter time."""
KEPT_LONG_S = 3600.0
"""Anthropic's longer time, for prompts written so."""


def as_asked_again(usage: Usage, provider: str, since_s: float) -> Usage:
    """What the provider would have counted, had the call been made ``since_s`` after the last like it."""
    written, read = usage.cache_write_input_tokens, usage.cache_read_input_tokens
    if written:
        lasting = KEPT_LONG_S if usage.cache_write_1h_input_tokens == written else KEPT_S
        if since_s < lasting:
            return replace(
                usage,
                cache_read_input_tokens=read + written,
                cache_write_input_tokens=0,
                cache_write_1h_input_tokens=0,
            )
        return usage
    if provider in AUTOMATIC and usage.input_tokens >= LEAST_TOKENS and since_s < KEPT_S:
        blocks = (usage.input_tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS
        return replace(usage, cache_read_input_tokens=max(read, blocks))
    return usage


def avoided_pico(usage: Usage, quote: Quote, service_tier: str, provider: str, since_s: float) -> int:
    """What is not owed because the answer was given again, in pico-USD."""
    return cost_of(as_asked_again(usage, provider, since_s), quote, service_tier).effective_pico
