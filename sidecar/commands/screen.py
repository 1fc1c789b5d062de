"""What ``bursar top`` shows: figures in, a page of text out. Pure; nothing is told by colour alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

DIMENSIONS = ("agent", "team", "request_model", "upstream", "tenant", "key_id")
"""What the table can be told by, in the order of key ``b``."""
SORTS = ("spend", "calls", "failed", "tokens", "p95", "name")
"""What it can be sorted by, in the order of key ``s``; the largest first, names by the alphabet."""

KEYS = "q quit   s sort   r reverse   b by what   p pause"
BAR_CELLS = 16
MOST_BUDGETS, MOST_GPUS, MOST_ALERTS = 6, 4, 5
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was asked of the collector and the sidecar, at one moment; money is exact text."""

    at: datetime
    window: str
    """How the user wrote the window of the table, such as ``1h``."""
    by: str = DIMENSIONS[0]
    """What ``rows`` are told by."""
    recent: Row = field(default_factory=dict)
    """Totals of the last five minutes."""
    before: Row = field(default_factory=dict)
    """Totals of the five minutes before."""
    today: Row = field(default_factory=dict)
    """Totals since midnight, UTC."""
    caches: Sequence[Row] = ()
    """Calls of the last five minutes by what our cache said."""
    rows: Sequence[Row] = ()
    budgets: Sequence[Row] = ()
    gpus: Sequence[Row] = ()
    incidents: Sequence[Row] = ()
    troubles: Sequence[str] = ()
    """Who did not answer."""


@dataclass(slots=True, kw_only=True)
class Choices:
    """What the user chose by keys."""

    by: int = 0
    sort: int = 0
    reversed: bool = False
    paused: bool = False

    def press(self, key: str) -> bool:
        """Take a key; returns whether the figures must be asked for anew."""
        match key.lower():
            case "s":
                self.sort = (self.sort + 1) % len(SORTS)
            case "r":
                self.reversed = not self.reversed
            case "b":
                self.by = (self.by + 1) % len(DIMENSIONS)
                return True
            case "p" | " ":
                self.paused = not self.paused
                return not self.paused
        return False


def page(figures: Figures, choices: Choices, height: int) -> RenderableType:
    """The whole screen, ``height`` lines of it at most."""
    head = [*heading(figures, choices), *(Text(f"! {printable(one)}") for one in figures.troubles)]
    foot = [*budgets(figures), *gpus(figures), *incidents(figures)]
    left = max(3, height - len(head) - len(foot) - 3)
    return Group(*head, table(figures, choices, left), *foot, Text(KEYS, style="reverse"))


def heading(figures: Figures, choices: Choices) -> list[Text]:
    """How much, how often, how well cached."""
    recent, before = figures.recent, figures.before
    spent, earlier = money(recent), money(before)
    lines = [
        Text(f"bursar top   {figures.at.astimezone():%H:%M:%S}" + ("   PAUSED" if choices.paused else ""))
    ]
    rate = f"{usd(spent * 12)}/h{change(spent, earlier)}"
    calls, failed = number(recent, "calls"), number(recent, "failed_calls")
    lines.append(
        Text(
            f"spend {rate}   today {usd(money(figures.today))}   calls {calls / 300:.2f}/s"
            f"   failed {share(failed, calls)}   (last 5 min)"
        )
    )
    hits = sum(number(row, "calls") for row in figures.caches if row.get("cache") in ("hit", "semantic"))
    read = share(number(recent, "cache_read_input_tokens"), number(recent, "input_tokens"))
    lines.append(
        Text(
            f"answers reused {share(hits, calls)}, saving {usd(money(recent, 'avoided_cost_usd'))}"
            f"   providers' caches {read} of input"
            f"   tokens {number(recent, 'input_tokens'):,} in, {number(recent, 'output_tokens'):,} out"
        )
    )
    return lines


def table(figures: Figures, choices: Choices, most: int) -> Table:
    """Who spends, sorted as the user chose."""
    sort = SORTS[choices.sort]
    arrow = "^" if choices.reversed != (sort == "name") else "v"
    made = Table(box=None, expand=True, padding=(0, 1), header_style="bold", show_edge=False)
    titles = {"name": f"{figures.by} (last {figures.window})", "p95": "p95"}
    for name in ("name", "spend", "calls", "failed", "tokens", "p95"):
        title = titles.get(name, name) + (f" {arrow}" if name == sort else "")
        made.add_column(
            title, justify="left" if name == "name" else "right", ratio=1 if name == "name" else None,
            no_wrap=True, overflow="ellipsis",
        )  # fmt: skip
    rows = ordered(figures.rows, figures.by, sort, backwards=choices.reversed)
    for row in rows[: max(1, most - (len(rows) > most))]:
        made.add_row(
            Text(printable(str(row.get(figures.by) or "-"))),
            usd(money(row)),
            f"{number(row, 'calls'):,}",
            f"{number(row, 'failed_calls'):,}",
            f"{tokens(row):,}",
            "-" if row.get("p95_ms") is None else f"{float(row['p95_ms']):,.0f} ms",
        )
    if len(rows) > most:
        made.add_row(Text(f"and {len(rows) - most + 1} more"))
    if not rows:
        made.add_row(Text("no calls in this time"))
    return made


def ordered(rows: Sequence[Row], by: str, sort: str, *, backwards: bool) -> list[Row]:
    """The rows, largest first (names by the alphabet), or the other way about."""
    if sort == "name":
        return sorted(rows, key=lambda row: str(row.get(by) or ""), reverse=backwards)
    measures = {
        "spend": money,
        "calls": lambda row: Decimal(number(row, "calls")),
        "failed": lambda row: Decimal(number(row, "failed_calls")),
        "tokens": lambda row: Decimal(tokens(row)),
        "p95": lambda row: Decimal(str(row.get("p95_ms") or 0)),
    }
    measure = measures[sort]
    ranked = sorted(rows, key=lambda row: str(row.get(by) or ""))
    return sorted(ranked, key=measure, reverse=not backwards)


def budgets(figures: Figures) -> list[Text]:
    """The counters that are used up most, with a bar each."""
    known = sorted(figures.budgets, key=lambda row: -used(row))[:MOST_BUDGETS]
    lines = [Text("")] if known else []
    for row in known:
        part = used(row)
        filled = min(BAR_CELLS, int(part * BAR_CELLS))
        bar = "#" * filled + "." * (BAR_CELLS - filled)
        name = printable(f"{row['name']} {row.get('subject') or ''}".strip())[:34]
        lines.append(Text(f"budget {name:<34} [{bar}] {part * 100:3.0f} %  {row['spent']} of {row['limit']}"))
    return lines


def used(row: Row) -> Decimal:
    """How much of a counter's limit is spent or held; 1 where nothing may be."""
    limit = Decimal(row["limit"])
    return (Decimal(row["spent"]) + Decimal(row["held"])) / limit if limit else Decimal(1)


def gpus(figures: Figures) -> list[Text]:
    """The last sample of each GPU."""
    latest = {str(row["gpu"]): row for row in sorted(figures.gpus, key=lambda row: str(row["bucket"]))}
    lines = [Text("")] if latest else []
    for row in list(latest.values())[:MOST_GPUS]:
        busy = (
            f"{float(row['utilisation_ratio']) * 100:3.0f} %" if row["utilisation_ratio"] is not None else "-"
        )
        memory = (
            f"{(row['memory_used_bytes'] or 0) / _GIB:.0f}/{(row['memory_total_bytes'] or 0) / _GIB:.0f} GiB"
        )
        watts = f"{float(row['power_watts']):.0f} W" if row["power_watts"] is not None else "-"
        name = printable(f"{row['host']} {row['name']}")[:40]
        lines.append(Text(f"gpu    {name:<40} busy {busy}   memory {memory}   {watts}"))
    return lines


def incidents(figures: Figures) -> list[Text]:
    """What alerts said last, the open ones first."""
    shown = figures.incidents[:MOST_ALERTS]
    lines = [Text("")] if shown else []
    for row in shown:
        since = datetime.fromisoformat(str(row["since_at"] or row["detected_at"]))
        since = since if since.tzinfo else since.replace(tzinfo=UTC)
        try:
            said = json.loads(row["detail"] or "{}")
            why = said.get("summary") or row["signal"]
        except (ValueError, AttributeError):
            why = row["signal"]
        told = f"{row['state']:<6} {row['severity']:<4} {since.astimezone():%H:%M} {row['alertname']}: {why}"
        lines.append(Text(printable(told), no_wrap=True, overflow="ellipsis"))
    return lines


# ---- one figure -----------------------------------------------------------------------------


def money(row: Row, column: str = "effective_cost_usd") -> Decimal:
    """An amount in USD."""
    return Decimal(str(row.get(column) or 0))


def number(row: Row, column: str) -> int:
    """A count."""
    return int(row.get(column) or 0)


def tokens(row: Row) -> int:
    """Input and output; cached ones are a part of the input."""
    return number(row, "input_tokens") + number(row, "output_tokens")


def usd(amount: Decimal) -> str:
    """At a glance: cents, or three digits of less."""
    if abs(amount) >= 1 or not amount:
        return f"${amount:,.2f}"
    return f"${amount:.{min(12, 2 - amount.adjusted())}f}"


def share(part: int, whole: int) -> str:
    """A part in per cent; a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def change(now: Decimal, before: Decimal) -> str:
    """By how much it differs from the five minutes before."""
    return f" ({100 * (now - before) / before:+.0f} %)" if before else ""


def printable(text: str) -> str:
    """``text`` with control characters spelled out: a name never steers the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
