"""The parts of a period: which tables answer for which stretch of it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from typing import Any

from collector.store import levels, rollups
from collector.store.asking import Asked
from collector.store.days import day_start, step_us
from collector.store.levels import DAY_US, HOUR_US, MINUTE_US, TALK_DAYS, Level
from collector.store.rollups import Mark, Piece

_MOST_AROUND_US = 4 * DAY_US
"""Around whole days of conversations."""


def pieces_of(asked: Asked, marks: dict[str, Mark]) -> list[Piece]:
    """The period asked about, cut into what answers for it; never empty."""
    chain = levels.chain(asked.dimensions) or ()
    widest = DAY_US
    if asked.bucket == "minute":
        widest = MINUTE_US
    elif asked.bucket == "hour" or (asked.bucket == "day" and asked.zone is not UTC):
        widest = HOUR_US
    chain = tuple(level for level in chain if level.width_us <= widest)
    if widest == HOUR_US and asked.bucket == "day" and step_us(asked) != HOUR_US:
        return _of_days(asked, marks, chain)
    found = rollups.pieces(asked.since_us, asked.until_us, marks, chain)
    return found or [Piece("calls", asked.since_us, asked.since_us)]


def _of_days(asked: Asked, marks: dict[str, Mark], chain: tuple[Level, ...]) -> list[Piece]:
    """Days that begin inside of hours: of those hours, one for each day, the calls are looked at."""
    hours, start = [], day_start(asked.since_us, asked.zone)
    while start < asked.until_us:
        hours.append(start // HOUR_US * HOUR_US)
        start = day_start(start + DAY_US + DAY_US // 2, asked.zone)
    found: list[Piece] = []
    for piece in rollups.pieces(asked.since_us, asked.until_us, marks, chain):
        inside = tuple(hour for hour in hours if piece.since_us <= hour < piece.until_us)
        if not inside or piece.table in (levels.MINUTE.table, "calls"):
            found.append(piece)
        else:
            found.append(piece._replace(hours=inside))
            found.append(Piece("calls", inside[0], inside[-1] + HOUR_US, inside))
    return found or [Piece("calls", asked.since_us, asked.since_us)]


def by_table(pieces: Iterable[Piece]) -> Iterator[tuple[str, list[Piece]]]:
    """The pieces by their table: to plan a part of a statement takes as long as to answer it."""
    found: dict[str, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.table, []).append(piece)
    yield from found.items()


def spans(pieces: Sequence[Piece], name: str, values: dict[str, Any]) -> str:
    """The condition that a row of one table lies in one of its pieces; adds to ``values``."""
    column = "started_at" if pieces[0].table == "calls" else "bucket"
    spans = [_span(piece, column, f"{name}_{place}", values) for place, piece in enumerate(pieces)]
    return spans[0] if len(spans) == 1 else f"(({') OR ('.join(spans)}))"


def _span(piece: Piece, column: str, name: str, values: dict[str, Any]) -> str:
    values[f"from_{name}"], values[f"to_{name}"] = piece.since_us, piece.until_us
    span = f"{column} >= make_timestamp($from_{name}) AND {column} < make_timestamp($to_{name})"
    if not piece.hours:
        return span
    hours = ", ".join(f"make_timestamp({hour}::BIGINT)" for hour in piece.hours)
    if piece.table == "calls":
        # The hours of the day first: to tell them is a quarter of the work.
        of_day = ", ".join(sorted({str(hour // HOUR_US % 24) for hour in piece.hours}))
        return f"{span} AND hour({column}) IN ({of_day}) AND date_trunc('hour', {column}) IN ({hours})"
    return f"{span} AND {column} NOT IN ({hours})"


def talk_pieces(asked: Asked, marks: dict[str, Mark]) -> list[Piece]:
    """As `pieces_of`, by the levels that know conversations.

    Days of conversations come only where their rows are counted for what is asked, and where so little of
    the period lies around them that what is there can be told apart.
    """
    known = asked.dimensions <= set(levels.TALKS_HOUR.dimensions)
    chain = (levels.TALKS_HOUR,) if known else ()
    if asked.dimensions <= set(TALK_DAYS.dimensions) and any(by.name == "agent" for by in asked.by):
        found = rollups.pieces(asked.since_us, asked.until_us, marks, (TALK_DAYS, *chain))
        days = sum(piece.until_us - piece.since_us for piece in found if piece.table == TALK_DAYS.table)
        if days and asked.until_us - asked.since_us - days <= _MOST_AROUND_US:
            return found
    found = rollups.pieces(asked.since_us, asked.until_us, marks, chain)
    return found or [Piece("calls", asked.since_us, asked.since_us)]
