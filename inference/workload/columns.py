"""Which column of a trace means what.

Names are compared without case, spaces and punctuation, so ``ContextTokens``,
``context_tokens`` and ``Context Tokens`` are the same. The first name that a file has, wins.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KNOWN: Mapping[str, tuple[str, ...]] = {
    "time": (
        "ats", "ts", "timestampms", "timestamp", "arrivaltime", "arrivedat", "startedat",
        "starttime", "time",
    ),
    "input": (
        "inputtokens", "contexttokens", "inputlength", "prompttokens", "requesttokens",
        "prefilltokens", "numprefilltokens", "genaiusageinputtokens",
    ),
    "output": (
        "outputtokens", "generatedtokens", "outputlength", "completiontokens", "responsetokens",
        "decodetokens", "numdecodetokens", "genaiusageoutputtokens",
    ),
    "cache_read": ("cachereadinputtokens", "cachereadtokens", "cachedtokens", "cacheread"),
    "cache_write": ("cachewriteinputtokens", "cachecreationinputtokens", "cachewritetokens", "cachewrite"),
    "reasoning": ("reasoningoutputtokens", "reasoningtokens", "thinkingtokens"),
    "model": ("model", "requestmodel", "modelname", "modelid"),
    "api": ("api", "dialect"),
    "conversation": ("conversation", "conversationid", "sessionid", "chatid", "traceid", "session"),
    "agent": ("agent", "agentid", "agentname"),
    "team": ("team", "tenant", "project"),
    "user": ("user", "userid", "clientid"),
    "task": ("task", "taskid"),
    "stream": ("stream", "streamed", "kind"),
    "tools": ("tools", "toolnames"),
    "block_ranges": ("blockranges",),
    "block_size": ("blocksize",),
    "sub_start": ("subagentt0s",),
}  # fmt: skip

REQUIRED = ("input", "output")


class TraceError(ValueError):
    """A trace that cannot be read at all; the message names the file and what it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where each meaning stands in one file."""

    by_meaning: Mapping[str, str]
    """Column name by meaning; only those that the file has."""
    time_unit_s: float | None
    """Seconds in one unit of the time column; None where it must be told from the values."""

    def __contains__(self, meaning: str) -> bool:
        return meaning in self.by_meaning


def detect(names: Sequence[str], source: str) -> Columns:
    """The meaning of a file's columns.

    Raises:
        TraceError: token counts have no column; it lists the names that would do.
    """
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    found: dict[str, str] = {}
    for meaning, candidates in KNOWN.items():
        match = next((plain[candidate] for candidate in candidates if candidate in plain), None)
        if match is not None and match not in found.values():
            found[meaning] = match
    missing = [meaning for meaning in REQUIRED if meaning not in found]
    if missing:
        wanted = "; ".join(f"{meaning} tokens ({', '.join(KNOWN[meaning][:5])}, ...)" for meaning in missing)
        raise TraceError(f"{source}: no column for {wanted}. Columns here: {', '.join(names) or 'none'}")
    return Columns(by_meaning=found, time_unit_s=_time_unit(found, plain))


def _time_unit(found: Mapping[str, str], plain: Mapping[str, str]) -> float | None:
    name = found.get("time", "").lower()
    if name.endswith("ms"):
        return 0.001
    if name.endswith("_s"):
        return 1.0
    if name == "timestamp" and "inputlength" in plain and "outputlength" in plain:
        return 0.001  # the Mooncake traces: milliseconds since the start
    return None
