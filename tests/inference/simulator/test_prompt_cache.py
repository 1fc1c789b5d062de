from inference.simulator.prompt_cache import CacheFigures, PromptCache
from inference.simulator.prompts import Prompt, of_chat, of_messages


class FixedClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def chat(*texts: str) -> Prompt:
    roles = ("user", "assistant")
    return of_chat(
        {"messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]}
    )


def marked(*blocks: tuple[str, str | None]) -> Prompt:
    """Blocks of one system prompt; the second of a pair is the ttl of its breakpoint."""
    system = [
        {"type": "text", "text": text} | ({"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {})
        for text, ttl in blocks
    ]
    return of_messages({"system": system, "messages": [{"role": "user", "content": "go on"}]})


def test_the_next_turn_of_a_conversation_reads_the_last_one_in_steps_of_128() -> None:
    cache = PromptCache(FixedClock())
    first = chat("a" * 8000)
    assert cache.automatic("m", first) == CacheFigures()

    # "user: " + 8000 + newline = 8007 bytes, 15 whole steps of 512 bytes, 1,920 tokens
    assert cache.automatic("m", chat("a" * 8000, "yes", "more")) == CacheFigures(read=1920)


def test_a_prompt_below_1024_tokens_is_never_cached() -> None:
    cache = PromptCache(FixedClock())
    short = chat("a" * 4000)
    cache.automatic("m", short)
    assert cache.automatic("m", short) == CacheFigures()


def test_another_beginning_or_another_model_reads_nothing() -> None:
    cache = PromptCache(FixedClock())
    cache.automatic("m", chat("a" * 8000))
    assert cache.automatic("m", chat("b" + "a" * 8000)).read == 0
    assert cache.automatic("other", chat("a" * 8000)).read == 0


def test_a_prefix_unused_for_ten_minutes_is_forgotten() -> None:
    clock = FixedClock()
    cache = PromptCache(clock)
    cache.automatic("m", chat("a" * 8000))
    clock.now = 599
    assert cache.automatic("m", chat("a" * 8000)).read == 1920  # and is good for ten minutes more
    clock.now = 1198
    assert cache.automatic("m", chat("a" * 8000)).read == 1920
    clock.now = 1798
    assert cache.automatic("m", chat("a" * 8000)).read == 0


def test_the_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    cache = PromptCache(FixedClock(), entries=20)
    cache.automatic("m", chat("a" * 8000))  # 15 entries
    cache.automatic("m", chat("b" * 8000))
    assert cache.automatic("m", chat("b" * 8000)).read == 1920
    assert cache.automatic("m", chat("a" * 8000)).read == 0


def test_anthropic_writes_up_to_its_breakpoint_and_reads_that_next_time() -> None:
    cache = PromptCache(FixedClock())
    prompt = marked(("a" * 8000, "5m"))
    # "system: " + 8000 + newline = 8009 bytes, 2,002 whole tokens
    assert cache.marked("m", prompt) == CacheFigures(write_5m=2002)
    assert cache.marked("m", prompt) == CacheFigures(read=2002)


def test_a_second_breakpoint_writes_only_what_lies_behind_the_first() -> None:
    cache = PromptCache(FixedClock())
    cache.marked("m", marked(("a" * 8000, "1h")))
    figures = cache.marked("m", marked(("a" * 8000, "1h"), ("b" * 4000, "5m")))
    # 8,009 + 4,009 bytes: 3,004 tokens, of which 2,002 were known
    assert figures == CacheFigures(read=2002, write_5m=1002)


def test_one_hour_and_five_minute_writes_are_told_apart() -> None:
    figures = PromptCache(FixedClock()).marked("m", marked(("a" * 8000, "1h"), ("b" * 4000, "5m")))
    assert figures == CacheFigures(write_1h=2002, write_5m=1002)


def test_five_minute_writes_expire_before_one_hour_writes() -> None:
    clock = FixedClock()
    cache = PromptCache(clock)
    prompt = marked(("a" * 8000, "1h"), ("b" * 4000, "5m"))
    cache.marked("m", prompt)
    clock.now = 301
    assert cache.marked("m", prompt) == CacheFigures(read=2002, write_5m=1002)


def test_without_breakpoints_anthropic_caches_nothing() -> None:
    cache = PromptCache(FixedClock())
    prompt = marked(("a" * 8000, None))
    cache.marked("m", prompt)
    assert cache.marked("m", prompt) == CacheFigures()


def test_a_marked_prompt_below_the_minimum_is_not_written() -> None:
    cache = PromptCache(FixedClock())
    assert cache.marked("m", marked(("a" * 2000, "5m"))) == CacheFigures()
    assert cache.marked("m", marked(("a" * 8000, "5m")), minimum_tokens=4096) == CacheFigures()
