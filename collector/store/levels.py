"""The levels of the sums: how wide their buckets are, and what they tell apart.

Those of one *chain* answer the same questions, the coarsest first:

    plain    day, hour, minute               the thirteen dimensions
    agents   agents_day, agents_hour         tenant, team and agent alone: a tenth of the rows
    models   models_day, models_hour         what is bought and where, alone: a hundredth of the rows
    user     users_day, user_day, user_hour  of users alone, and beside the thirteen
    tags     tags_day, tags_hour             a call's whole set of tags beside the thirteen
    sets     sets_day, sets_hour             a call's whole set of tags alone
    talks    talks_hour                      conversation and task beside the thirteen

Beside them stand the days on which conversations had calls, talk_days, which are counted and not summed, what
each of them cost on a day, talk_sums, and what is only noted by the hour: traces_hour, foreign_hour and
reasons_hour.
"""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

DIMENSIONS = (
    "tenant",
    "team",
    "agent",
    "request_model",
    "response_model",
    "upstream",
    "provider_name",
    "api",
    "outcome",
    "cache",
    "key_id",
    "usage_grade",
    "price_grade",
)
"""What every level tells apart, but for one."""

SUMS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "reasoning_output_tokens",
    "list_cost_usd",
    "effective_cost_usd",
    "avoided_cost_usd",
)

LATENCY_BUCKETS = 42
"""Bucket n holds durations from 2^(n/2) ms on: 1 ms to 25 minutes, each 41 % wider than the last."""
LATENCY = tuple(f"latency_{bucket:02d}" for bucket in range(LATENCY_BUCKETS))
LATENCY_BUCKET = (
    f"CAST(least(greatest(floor(2 * log2(greatest(duration_ms, 1))), 0), {LATENCY_BUCKETS - 1}) AS INTEGER)"
)
"""The bucket of a call."""

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


class Level(NamedTuple):
    """One resolution."""

    name: str
    width_us: int
    table: str
    """Where its rows are."""
    finer: str
    """The table that it is summed from."""
    dimensions: tuple[str, ...] = DIMENSIONS
    listed: bool = False
    """Its rows stand for few calls each: they list the latency bucket of every call rather than count the
    calls of every bucket. Of a call that was taken out, the list has the bucket's complement, ``-1 - n``."""

    @property
    def unit(self) -> str:
        """The name of its width."""
        return {DAY_US: "day", HOUR_US: "hour", MINUTE_US: "minute"}[self.width_us]


_BY_USER, _BY_TAGS = (*DIMENSIONS, "user_id"), (*DIMENSIONS, "tags")
_BY_TALK = (*DIMENSIONS, "conversation_id", "task_id")
_ENDS = ("outcome", "usage_grade", "price_grade")
"""What questions tell apart by themselves."""
_USERS = ("user_id", *_ENDS)
_SETS = ("tags", *_ENDS)
_AGENTS = ("tenant", "team", "agent", *_ENDS)
_MODELS = ("request_model", "response_model", "upstream", "provider_name", "api", "cache", *_ENDS)

DAY = Level("day", DAY_US, "calls_by_day", "calls_by_hour")
HOUR = Level("hour", HOUR_US, "calls_by_hour", "calls_by_minute")
MINUTE = Level("minute", MINUTE_US, "calls_by_minute", "calls")
AGENTS_DAY = Level("agents_day", DAY_US, "agents_by_day", "agents_by_hour", _AGENTS)
AGENTS_HOUR = Level("agents_hour", HOUR_US, "agents_by_hour", "calls_by_hour", _AGENTS)
MODELS_DAY = Level("models_day", DAY_US, "models_by_day", "models_by_hour", _MODELS)
MODELS_HOUR = Level("models_hour", HOUR_US, "models_by_hour", "calls_by_hour", _MODELS)
USERS_DAY = Level("users_day", DAY_US, "users_by_day", "calls_by_user_day", _USERS)
USER_DAY = Level("user_day", DAY_US, "calls_by_user_day", "calls_by_user_hour", _BY_USER)
USER_HOUR = Level("user_hour", HOUR_US, "calls_by_user_hour", "calls", _BY_USER)
TAGS_DAY = Level("tags_day", DAY_US, "calls_by_tags_day", "calls_by_tags_hour", _BY_TAGS)
TAGS_HOUR = Level("tags_hour", HOUR_US, "calls_by_tags_hour", "calls", _BY_TAGS)
SETS_DAY = Level("sets_day", DAY_US, "tag_sets_by_day", "tag_sets_by_hour", _SETS)
SETS_HOUR = Level("sets_hour", HOUR_US, "tag_sets_by_hour", "calls_by_tags_hour", _SETS)
TALKS_HOUR = Level("talks_hour", HOUR_US, "calls_by_talk_hour", "calls", _BY_TALK, listed=True)
TALK_DAYS = Level("talk_days", DAY_US, "talks_by_day", "calls_by_talk_hour", ("tenant", "agent"))
"""No level of sums: see `collector.store.talks`."""
TALK_SUMS = Level("talk_sums", DAY_US, "talk_sums_by_day", "calls_by_talk_hour", ("conversation_id",))
"""Sums of calls and what they cost alone: see `collector.store.talk_sums`."""
TRACES_HOUR = Level("traces_hour", HOUR_US, "traces_by_hour", "calls", ("trace_id",))
ANSWERS_HOUR = Level("foreign_hour", HOUR_US, "foreign_ids_by_hour", "calls", ("response_id",))
REASONS_HOUR = Level("reasons_hour", HOUR_US, "reasons_by_hour", "calls", ("outcome_reason", "error_type"))
"""No levels of sums either: see `collector.store.noted`."""

LEVELS = (DAY, HOUR, MINUTE)
"""Coarse to fine; what most questions are answered from."""
ALL_LEVELS = (
    *(AGENTS_DAY, AGENTS_HOUR, MODELS_DAY, MODELS_HOUR, SETS_DAY, SETS_HOUR),
    *(USERS_DAY, USER_DAY, USER_HOUR, TAGS_DAY, TAGS_HOUR, TALKS_HOUR, *LEVELS),
)
"""Each before the one that it is summed from."""


def chain(wanted: AbstractSet[str]) -> tuple[Level, ...] | None:
    """The levels that tell ``wanted`` apart, coarse to fine; None where the calls must be looked at.

    Args:
        wanted: names of dimensions, ``tag`` for any tag.
    """
    # Those of a whole chain stand in for what its shorter rows have not summed yet.
    if wanted <= set(_MODELS):
        return MODELS_DAY, DAY, MODELS_HOUR, HOUR, MINUTE
    if wanted <= set(_AGENTS):
        return AGENTS_DAY, DAY, AGENTS_HOUR, HOUR, MINUTE
    if wanted <= set(DIMENSIONS):
        return LEVELS
    if wanted <= set(_USERS):
        return USERS_DAY, USER_HOUR
    if wanted <= set(_BY_USER):
        return USER_DAY, USER_HOUR
    if wanted <= {"tag", *_ENDS}:
        return SETS_DAY, TAGS_DAY, SETS_HOUR, TAGS_HOUR
    if wanted <= {*DIMENSIONS, "tag"}:
        return TAGS_DAY, TAGS_HOUR
    if wanted <= set(_BY_TALK):
        return (TALKS_HOUR,)
    return None
