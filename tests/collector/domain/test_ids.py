"""Identifiers follow their standards."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.domain.ids import TraceParent, format_traceparent, parse_traceparent, uuid7

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**200))
def test_a_call_id_is_a_version_7_uuid_that_sorts_by_time(unix_ms: int, bits: int) -> None:
    made = uuid.UUID(uuid7(unix_ms, bits))

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == unix_ms


def test_a_valid_traceparent_is_read() -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-01") == TraceParent(TRACE, SPAN, True)
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-03") == TraceParent(TRACE, SPAN, True)
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-00") == TraceParent(TRACE, SPAN, False)
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-01-more") == TraceParent(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
    ],
)
def test_an_invalid_traceparent_is_as_good_as_none(header: str) -> None:
    assert parse_traceparent(header) is None


def test_what_is_sent_on_is_read_the_same() -> None:
    assert parse_traceparent(format_traceparent(TRACE, SPAN, True)) == TraceParent(TRACE, SPAN, True)
