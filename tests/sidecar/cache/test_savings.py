"""What an answer that is given again saves, worked out by hand."""

from collector.domain.usage import Usage
from sidecar.cache.savings import as_asked_again


def test_a_long_prompt_asked_again_soon_would_have_come_from_the_providers_cache() -> None:
    usage = Usage(input_tokens=2000, output_tokens=10)
    # 1,999 tokens are 15 whole blocks of 128 and a rest: 1,920 cached.
    assert as_asked_again(usage, "openai", 299.0).cache_read_input_tokens == 1920
    assert as_asked_again(usage, "openai", 300.0) == usage
    assert as_asked_again(usage, "anthropic", 1.0) == usage  # Caches only what it is asked to.
    short = Usage(input_tokens=1023)
    assert as_asked_again(short, "openai", 1.0) == short


def test_what_was_written_to_anthropics_cache_would_have_been_read_there() -> None:
    usage = Usage(input_tokens=5000, cache_read_input_tokens=1000, cache_write_input_tokens=3000)
    soon = as_asked_again(usage, "anthropic", 200.0)
    assert (soon.cache_read_input_tokens, soon.cache_write_input_tokens) == (4000, 0)
    assert as_asked_again(usage, "anthropic", 301.0) == usage
    lasting = Usage(input_tokens=5000, cache_write_input_tokens=3000, cache_write_1h_input_tokens=3000)
    assert as_asked_again(lasting, "anthropic", 3599.0).cache_read_input_tokens == 3000
