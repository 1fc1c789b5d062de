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

KEYS_AT_LEAST = ("q quit   s sort   r reverse   b by what   p pause", "q s r b p: quit sort reverse by pause")
"""In a wide window and in a narrow one."""
GAP = "   "
BAR_CELLS = 16
WIDE = 80
NEARLY = Decimal("0.8")
LEAST_TABLE = 5
"""Lines of the table, however much there is to say below it."""
LEAST_WIDTHS = {"name": 0, "spend": 0, "calls": 36, "failed": 48, "tokens": 60, "p95": 72}
"""From how wide a window on there is a column; the one that is sorted by always is."""
MOST_BUDGETS, MOST_GPUS, MOST_ALERTS = 6, 4, 5
SEVERITIES = {"page": 0, "warn": 1, "info": 2}
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


def page(figures: Figures, choices: Choices, height: int, width: int = 100) -> RenderableType:
    """The whole screen: ``height`` lines of it at most, none of which is wider than ``width``."""
    head = heading(figures, choices, width)
    head += [line(f"! {one}", style="bold") for one in figures.troubles]
    sections = [budgets(figures, width), gpus(figures), incidents(figures)]
    room = height - len(head) - LEAST_TABLE - 1  # the line of keys
    while sum(len(section) + 1 for section in sections if section) > max(0, room):
        max(sections, key=len).pop()  # The longest gives way; what is left is its most important part.
    foot = [shown for section in sections if section for shown in (Text(""), *section)]
    left = max(3, height - len(head) - len(foot) - 1)
    keys = next((keys for keys in KEYS_AT_LEAST if len(keys) <= width), KEYS_AT_LEAST[-1])
    return Group(*head, table(figures, choices, left, width), *foot, line(keys, style="reverse"))


def line(text: str, style: str = "") -> Text:
    """One line, cut off with an ellipsis where it is longer than the screen is wide."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def packed(parts: Sequence[str], width: int) -> list[Text]:
    """The parts in as few lines as they fit in, none broken."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}{GAP}{part}" if lines[-1] else part
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return [line(text) for text in lines]


def heading(figures: Figures, choices: Choices, width: int = 100) -> list[Text]:
    """How much, how often, how well cached."""
    recent, before = figures.recent, figures.before
    spent, earlier = money(recent), money(before)
    calls, failed = number(recent, "calls"), number(recent, "failed_calls")
    hits = sum(number(row, "calls") for row in figures.caches if row.get("cache") in ("hit", "semantic"))
    read = share(number(recent, "cache_read_input_tokens"), number(recent, "input_tokens"))
    state = "   PAUSED, p goes on" if choices.paused else ""
    if DIMENSIONS[choices.by] != figures.by:
        state += f"   asking by {DIMENSIONS[choices.by]} ..."
    title = line(f"bursar top   {figures.at.astimezone():%H:%M:%S}   last 5 min{state}", style="bold")
    if not recent:
        return [title]  # Nobody answered: a zero would be a figure.
    return [
        title,
        *packed(
            [
                f"spend {usd(spent * 12)}/h{change(spent, earlier)}",
                f"today {usd(money(figures.today))}",
                f"calls {calls / 300:.2f}/s",
                f"failed {share(failed, calls)}",
                f"answers reused {share(hits, calls)}, saving {usd(money(recent, 'avoided_cost_usd'))}",
                f"providers' caches {read} of input",
                f"tokens {short(number(recent, 'input_tokens'))} in, "
                f"{short(number(recent, 'output_tokens'))} out",
            ],
            width,
        ),
    ]


def table(figures: Figures, choices: Choices, most: int, width: int = 100) -> Table:
    """Who spends, sorted as the user chose; a narrow screen has the columns that matter most."""
    sort = SORTS[choices.sort]
    arrow = "^" if choices.reversed != (sort == "name") else "v"
    made = Table(box=None, expand=True, padding=(0, 1), header_style="bold", show_edge=False)
    kept = [name for name, least in LEAST_WIDTHS.items() if width >= least or name == sort]
    titles = {"name": f"{figures.by} (last {figures.window})"}
    for name in kept:
        title = titles.get(name, name) + (f" {arrow}" if name == sort else "")
        made.add_column(
            title, justify="left" if name == "name" else "right", ratio=1 if name == "name" else None,
            no_wrap=True, overflow="ellipsis",
        )  # fmt: skip
    rows = ordered(figures.rows, figures.by, sort, backwards=choices.reversed)
    shown = rows[: max(1, most - 1 - (len(rows) > most - 1))]
    for row in shown:
        cells: dict[str, Text | str] = {
            "name": Text(printable(str(row.get(figures.by) or "(none)"))),
            "spend": usd(money(row)),
            "calls": f"{number(row, 'calls'):,}",
            "failed": f"{number(row, 'failed_calls'):,}",
            "tokens": short(tokens(row)),
            "p95": "-" if row.get("p95_ms") is None else f"{float(row['p95_ms']):,.0f} ms",
        }
        made.add_row(*(cells[name] for name in kept))
    if len(rows) > len(shown):
        made.add_row(Text(f"and {len(rows) - len(shown)} more"))
    if not rows:
        made.add_row(Text("no calls in this time" if figures.recent else "no figures"))
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


def budgets(figures: Figures, width: int = 100) -> list[Text]:
    """The counters that are used up most, with a bar each."""
    known = sorted(figures.budgets, key=lambda row: -used(row))[:MOST_BUDGETS]
    names = [printable(f"{row['name']} {row.get('subject') or ''}".strip()) for row in known]
    wide = max((len(name) for name in names), default=0)
    cells = BAR_CELLS if width >= WIDE else BAR_CELLS // 2
    lines = []
    for name, row in zip(names, known, strict=True):
        part = used(row)
        filled = min(cells, int(part * cells))
        bar = "#" * filled + "." * (cells - filled)
        column = min(wide, 34, max(8, width - cells - 36))
        shown = name if len(name) <= column else f"{name[: column - 3]}..."
        told = f"budget {shown:<{column}} [{bar}] {part * 100:3.0f} %  {amounts(row)}"
        lines.append(line(told, style="red" if part >= 1 else "yellow" if part >= NEARLY else ""))
    return lines


def amounts(row: Row) -> str:
    """What is spent of a limit, in the budget's unit."""
    unit = str(row.get("unit") or "usd")
    beware = "" if row.get("exact", True) else "  its store is lost: what one sidecar knows"
    if unit == "usd":
        return f"{usd(Decimal(row['spent']))} of {usd(Decimal(row['limit']))}{beware}"
    return f"{Decimal(row['spent']):,.0f} of {Decimal(row['limit']):,.0f} {unit}{beware}"


def used(row: Row) -> Decimal:
    """How much of a counter's limit is spent or held; 1 where nothing may be."""
    limit = Decimal(row["limit"])
    return (Decimal(row["spent"]) + Decimal(row["held"])) / limit if limit else Decimal(1)


def gpus(figures: Figures) -> list[Text]:
    """The last sample of each GPU."""
    latest = {str(row["gpu"]): row for row in sorted(figures.gpus, key=lambda row: str(row["bucket"]))}
    lines = []
    for row in list(latest.values())[:MOST_GPUS]:
        busy = (
            f"{float(row['utilisation_ratio']) * 100:3.0f} %" if row["utilisation_ratio"] is not None else "-"
        )
        memory = (
            f"{(row['memory_used_bytes'] or 0) / _GIB:.0f}/{(row['memory_total_bytes'] or 0) / _GIB:.0f} GiB"
        )
        watts = f"{float(row['power_watts']):.0f} W" if row["power_watts"] is not None else "-"
        name = printable(f"{row['host']} {row['name']}")[:40]
        lines.append(line(f"gpu    {name:<40} busy {busy}   memory {memory}   {watts}"))
    return lines


def incidents(figures: Figures) -> list[Text]:
    """What alerts say: the open ones first, of these the severest, of these the newest."""

    def rank(row: Row) -> tuple[bool, int]:
        return row["state"] != "open", SEVERITIES.get(str(row["severity"]), len(SEVERITIES))

    ranked = sorted(sorted(figures.incidents, key=since, reverse=True), key=rank)
    lines = []
    for row in ranked[:MOST_ALERTS]:
        try:
            said = json.loads(row["detail"] or "{}")
            why = said.get("summary") or row["signal"]
        except (ValueError, AttributeError):
            why = row["signal"]
        begun = since(row).astimezone()
        why = str(why).removesuffix(f" ({whose(row).replace('=', ' ')})")
        what = f"{row['alertname']} {whose(row)}".strip()
        told = f"{row['state']:<6} {row['severity']:<4} {begun:%H:%M} {what}: {why}"
        pages = row["state"] == "open" and row["severity"] == "page"
        lines.append(line(told, style="red" if pages else ""))
    still = sum(row["state"] == "open" for row in ranked[MOST_ALERTS:])
    return [*lines, line(f"and {still} more open")] if still else lines


def whose(row: Row) -> str:
    """The labels of an incident: ``agent=planner, team=search``."""
    return ", ".join(f"{name}={value}" for name, value in sorted(dict(row.get("scope") or {}).items()))


def since(row: Row) -> datetime:
    """Since when an incident is one."""
    at = datetime.fromisoformat(str(row["since_at"] or row["detected_at"]))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


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


def short(number: int) -> str:
    """A count at a glance: ``9,876``, ``12.3 k``, ``4.56 M``."""
    for floor, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= floor:
            scaled = number / (1000 if unit == "k" else floor)
            return f"{scaled:,.{2 if scaled < 10 else 1}f} {unit}"
    return f"{number:,}"


def share(part: int, whole: int) -> str:
    """A part in per cent; a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def change(now: Decimal, before: Decimal) -> str:
    """By how much it differs from the five minutes before."""
    return f" ({100 * (now - before) / before:+.0f} %)" if before else ""


def printable(text: str) -> str:
    """``text`` with control characters spelled out: a name never steers the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
