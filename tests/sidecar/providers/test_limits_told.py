"""Rate limits as providers tell them."""

import pytest

from sidecar.providers.limits_told import Told, limits_told, retry_after_s, span_s, wait_of

NOW = 1_735_689_600.0  # 2025-01-01T00:00:00Z


def test_openai_tells_requests_and_tokens() -> None:
    told = limits_told(
        [
            (b"x-ratelimit-limit-requests", b"60"),
            (b"x-ratelimit-remaining-requests", b"0"),
            (b"x-ratelimit-reset-requests", b"1m2.5s"),
            (b"x-ratelimit-remaining-tokens", b"149984"),
            (b"x-ratelimit-reset-tokens", b"6ms"),
        ],
        NOW,
    )

    assert told["requests"] == Told(60, 0, 62.5)
    assert told["tokens"].remaining == 149_984
    assert wait_of(told) == 62.5


def test_anthropic_tells_when_it_is_full_again() -> None:
    told = limits_told(
        [
            (b"anthropic-ratelimit-input-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-input-tokens-reset", b"2025-01-01T00:00:07Z"),
            (b"anthropic-ratelimit-requests-remaining", b"49"),
        ],
        NOW,
    )

    assert wait_of(told) == 7
    assert told["requests"].remaining == 49


def test_nothing_is_waited_for_while_something_is_left() -> None:
    assert wait_of(limits_told([(b"x-ratelimit-remaining-requests", b"1")], NOW)) == 0
    assert wait_of(limits_told([(b"x-ratelimit-remaining-requests", b"0")], NOW)) == 0  # until when?


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2), ("0.5", 0.5), ("120ms", 0.12), ("6m0s", 360), ("1h2m", 3600),
        ("Wed, 01 Jan 2025 00:00:09 GMT", 9), ("-4", None), ("soon", None), ("", None), ("1e9", None),
        ("nan", None), ("99999999", 3600),
    ],
)  # fmt: skip
def test_times_are_read_in_every_way_they_are_written(text: str, seconds: float | None) -> None:
    assert span_s(text, NOW) == seconds


def test_retry_after_in_milliseconds_is_the_more_exact_one() -> None:
    assert retry_after_s([(b"retry-after", b"1"), (b"retry-after-ms", b"250")], NOW) == 0.25
    assert retry_after_s([], NOW) is None
