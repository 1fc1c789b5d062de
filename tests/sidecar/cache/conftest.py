"""What tests of reuse share."""

import contextlib
from typing import Any

import pytest

# usearch shows its symbols to every library that is loaded after it, and onnxruntime does not survive them.
# The finder loads its runner first, too.
with contextlib.suppress(ImportError):
    import onnxruntime  # noqa: F401

from collector.domain.usage import Usage
from sidecar.cache.entry import Entry
from tests.sidecar.budgets.conftest import own_redis, redis, redis_program, shared_redis

__all__ = ["entry", "own_redis", "redis", "redis_program", "shared_redis"]


def entry_with(**changes: Any) -> Entry:
    facts: dict[str, Any] = {
        "content_type": b"application/json", "body": b'{"a":1}', "usage_event": b"", "usage_at": 0,
        "stored_at": 1000.0, "expires_at": 4600.0, "provider": "openai", "model": "m",
        "response_model": "m-1", "response_id": "r", "finish_reasons": ["stop"], "tool_names": [],
        "tool_call_hashes": [], "chunks": 0, "last_message_hash": 5,
        "usage": Usage(input_tokens=10, output_tokens=5), "service_tier": "", "cost_pico": 1000,
        "tenant": "acme", "request_model": "m", "tags": {"env": "prod"}, "last_asked_at": 1000.0,
    }  # fmt: skip
    return Entry(**(facts | changes))


@pytest.fixture
def entry() -> Entry:
    return entry_with()
