"""Whether a model server answers, and what it serves."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 3.0
_MOST_BYTES = 1 << 20


async def is_ready(url: str) -> bool:
    """Whether the server at ``url`` is healthy and serves a model; never raises."""
    return await asyncio.to_thread(_is_ready, url)


def _is_ready(url: str) -> bool:
    return _get(f"{url}/health") is not None


def _get(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:  # noqa: S310
            return bytes(reply.read(_MOST_BYTES)) if reply.status == 200 else None
    except (OSError, ValueError, urllib.error.URLError):
        return None


async def models(url: str) -> list[str]:
    """What the server says it serves; nothing where it does not answer."""
    told = await asyncio.to_thread(_get, f"{url}/v1/models")
    try:
        listed: Any = json.loads(told or b"{}")
        return [str(one["id"]) for one in listed.get("data", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


async def version(url: str) -> str:
    """The server's own version; empty where it does not say."""
    told = await asyncio.to_thread(_get, f"{url}/version")
    try:
        return str(json.loads(told or b"{}").get("version", ""))
    except (ValueError, AttributeError):
        return ""
