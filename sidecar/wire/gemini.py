"""Gemini, on the Developer API and on Vertex: what a reply says.

Every chunk of a stream is a whole reply with running totals. Streams come as
server-sent events or, without ``alt=sse``, as one JSON array written piece by piece.
"""

from collections.abc import Mapping
from typing import Any, Final

from sidecar.wire.reading import Reading

_TIERS: Final = {"ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority"}
"""Vertex's traffic types that have a price of their own."""


def read_gemini_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one chunk; never one of usage alone."""
    read_gemini_body(event, reading)
    if reading.finish:
        reading.complete = True
    return False


def read_gemini_body(body: Mapping[str, Any], reading: Reading) -> None:
    """Read a whole reply: generated content, embeddings, or an error."""
    inner = body.get("response")  # Code Assist wraps the reply once more.
    if isinstance(inner, dict) and "candidates" in inner:
        body = inner
    reading.identify(body.get("responseId"), body.get("modelVersion"))
    candidates = body.get("candidates")
    for place, candidate in enumerate(candidates if isinstance(candidates, list) else ()):
        if isinstance(candidate, dict):
            _read_candidate(candidate, place, reading)
    usage = body.get("usageMetadata")
    if isinstance(usage, dict):
        reading.use(usage)
        tier = usage.get("serviceTier") or _TIERS.get(str(usage.get("trafficType")))
        if isinstance(tier, str):
            reading.service_tier = tier[:64]
    predictions = body.get("predictions")
    if isinstance(predictions, list):
        _read_predictions(predictions, reading)
    reading.fail(body.get("error"))


def _read_candidate(candidate: dict[str, Any], place: int, reading: Reading) -> None:
    index = candidate.get("index")
    index = index if type(index) is int else place
    reading.finished(candidate.get("finishReason"), index)
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        if part.get("thought") is True:
            reading.think(part.get("text"))
        else:
            reading.say(part.get("text"), index)
        if isinstance(call := part.get("functionCall"), dict):
            reading.call_tool(call.get("id"), call.get("name"))
            reading.argue(str(call.get("args") or ""), -1)
        if isinstance(code := part.get("executableCode"), dict):
            reading.argue(code.get("code"))
    grounding = candidate.get("groundingMetadata")
    queries = grounding.get("webSearchQueries") if isinstance(grounding, dict) else None
    if isinstance(queries, list) and queries:
        # Gemini 3 bills each query, older models each grounded reply (ai.google.dev/gemini-api/docs/pricing).
        by_query = "gemini-2" not in reading.response_model and "gemini-1" not in reading.response_model
        reading.searches = len(queries) if by_query else 1


def _read_predictions(predictions: list[Any], reading: Reading) -> None:
    """Vertex's older embeddings keep a token count in each prediction."""
    total = 0
    for prediction in predictions:
        embedding = prediction.get("embeddings") if isinstance(prediction, dict) else None
        statistics = embedding.get("statistics") if isinstance(embedding, dict) else None
        tokens = statistics.get("token_count") if isinstance(statistics, dict) else None
        total += int(tokens) if isinstance(tokens, int | float) and tokens > 0 else 0
    if total:
        reading.use({"promptTokenCount": total})
