"""A team's week as one HTML page that stands by itself: no script, nothing fetched, names escaped. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from html import escape
from typing import Any

Row = Mapping[str, Any]

OTHERS = "All others"
NOBODY = "(none)"
_HEIGHT, _WIDTH, _GAP = 120, 64, 16
"""Of a day's bar in the drawing, in its own units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is told of one team and one week; money as the ledger's exact text."""

    team: str
    first: date
    last: date
    written: str
    """When, in words."""
    total: Row
    """The ledger's sums over the team's calls of the week."""
    before: Row
    """Of the week before."""
    days: Sequence[tuple[date, Decimal]]
    """All seven."""
    agents: Sequence[Row]
    models: Sequence[Row]
    conversations: Sequence[Row]
    """The dearest."""
    only: str = ""
    """Which of the team's calls alone, in words; all of them without."""
    quality: Sequence[Row]
    """How tasks ended, by agent; empty where nobody said."""


def html(told: Statement) -> str:
    """The page."""
    team = escape(told.team or NOBODY)
    total, spent = told.total, money(told.total)
    week = f"{told.first:%d %B} to {told.last:%d %B %Y}"
    only = f" · <b>only calls of {escape(told.only)}</b>" if told.only else ""
    parts = [
        f"<h1>What {team} spent on models</h1>" if told.team else "<h1>What no team spent on models</h1>",
        f'<p class="sub">{week}, days in UTC · written {escape(told.written)}{only}</p>',
        '<section class="tiles">',
        _tile("Spent", usd(spent), _change(spent, money(told.before))),
        _tile("Calls", f"{count(total, 'calls'):,}", f"{count(total, 'failed_calls'):,} failed"),
        _tile("Tokens", f"{_tokens(total):,}", _share(total, "cache_read_input_tokens", "input_tokens")),
        _tile("Avoided by reuse", usd(money(total, "avoided_cost_usd")), "answers given again"),
        "</section>",
        f'<p class="exact">Exactly {spent:,.12f} USD, as the ledger has it'
        f" ({money(total, 'list_cost_usd'):,.12f} USD at list price).</p>",
        "<h2>Day by day</h2>",
        _days(told.days),
        _table("By agent", "Agent", "agent", told.agents, total),
        _table("By model", "Model", "request_model", told.models, total),
        _table("Dearest conversations", "Conversation", "conversation_id", told.conversations, total),
        _quality(told.quality),
        _certainty(total),
    ]
    return _PAGE.format(title=f"{team}, {week}", body="\n".join(part for part in parts if part))


def _tile(title: str, value: str, below: str) -> str:
    return f"<div><span>{escape(title)}</span><b>{escape(value)}</b><i>{escape(below)}</i></div>"


def _days(days: Sequence[tuple[date, Decimal]]) -> str:
    """Seven bars, each with its amount."""
    most = max((amount for _, amount in days), default=Decimal(0)) or Decimal(1)
    bars = []
    for place, (day, amount) in enumerate(days):
        height = max(1, int(_HEIGHT * amount / most)) if amount > 0 else 0
        left, top = place * (_WIDTH + _GAP), _HEIGHT - height + 20
        middle = left + _WIDTH // 2
        bars.append(
            f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{height}" rx="3"/>'
            f'<text x="{middle}" y="{top - 6}">{escape(usd(amount))}</text>'
            f'<text x="{middle}" y="{_HEIGHT + 38}">{day:%a %d}</text>'
        )
    width = max(1, len(days)) * (_WIDTH + _GAP) - _GAP
    named = ", ".join(f"{day:%A} {usd(amount)}" for day, amount in days)
    return (
        f'<svg viewBox="0 0 {width} {_HEIGHT + 46}" role="img" aria-label="{escape(named)}">'
        f"{''.join(bars)}</svg>"
    )


def _table(title: str, column: str, name: str, rows: Sequence[Row], total: Row) -> str:
    """Who spent what; what is not named is one row more, so that the rows sum to the total."""
    lines = [(str(row.get(name) or NOBODY), count(row, "calls"), _tokens(row), money(row)) for row in rows]
    rest = money(total) - sum((line[3] for line in lines), Decimal(0))
    calls = count(total, "calls") - sum(line[1] for line in lines)
    if rest or calls:
        lines.append((OTHERS, calls, _tokens(total) - sum(line[2] for line in lines), rest))
    lines.append(("Total", count(total, "calls"), _tokens(total), money(total)))
    body = "".join(
        f"<tr><td>{escape(who[:160])}</td><td>{number:,}</td><td>{tokens:,}</td><td>{amount:,.12f}</td></tr>"
        for who, number, tokens, amount in lines
    )
    return (
        f'<h2>{title}</h2><table class="sums"><thead><tr><th>{column}</th><th>Calls</th><th>Tokens</th>'
        f"<th>USD</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _quality(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    body = "".join(
        f"<tr><td>{escape(str(row.get('agent') or NOBODY)[:160])}</td><td>{count(row, 'tasks'):,}</td>"
        f"<td>{100 * float(row['success_rate']):.0f} % ({100 * float(row['success_rate_low']):.0f}–"
        f"{100 * float(row['success_rate_high']):.0f})</td><td>{_per_success(row)}</td></tr>"
        for row in rows
    )
    return (
        "<h2>Was it worth it?</h2><table><thead><tr><th>Agent</th><th>Tasks</th><th>Succeeded (95 %)</th>"
        f"<th>USD a success</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _per_success(row: Row) -> str:
    value = row.get("usd_per_success")
    return "–" if value is None else f"{Decimal(str(value)):,.6f}"


def _certainty(total: Row) -> str:
    """How sure the figures are."""
    calls = count(total, "calls")
    estimated, unpriced = count(total, "estimated_calls"), count(total, "unpriced_calls")
    return (
        f'<p class="sub">Of {calls:,} calls, {estimated:,} had their tokens estimated because the provider '
        f"did not report them, and {unpriced:,} went to models without a known price, charged at a "
        "conservative stand-in. Nothing is ever counted as 0 for want of knowledge.</p>"
    )


def money(row: Row, column: str = "effective_cost_usd") -> Decimal:
    """An amount in USD, exact."""
    return Decimal(str(row.get(column) or 0))


def count(row: Row, column: str) -> int:
    """A count."""
    return int(row.get(column) or 0)


def usd(amount: Decimal) -> str:
    """At a glance: cents, or three digits of less."""
    if abs(amount) >= 1 or not amount:
        return f"${amount:,.2f}"
    return f"${amount:.{min(12, 2 - amount.adjusted())}f}"


def _tokens(row: Row) -> int:
    return count(row, "input_tokens") + count(row, "output_tokens")


def _share(row: Row, part: str, whole: str) -> str:
    return f"{100 * count(row, part) / count(row, whole):.1f} % of input cached" if count(row, whole) else ""


def _change(now: Decimal, before: Decimal) -> str:
    return (
        f"{100 * (now - before) / before:+.1f} % against the week before"
        if before
        else "nothing the week before"
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ --ink: #17212b; --page: #fff; --faint: #5b6773; --line: #d9e0e6; --bar: #1e5790;
  color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6edf3; --page: #10171e; --faint: #9aa7b4; --line: #2f3d4a; --bar: #45a6f4; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem; }}
.sub, .exact {{ color: var(--faint); overflow-wrap: anywhere; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; }}
.tiles div {{ border: 1px solid var(--line); border-radius: 8px; padding: .6rem .9rem; }}
.tiles span, .tiles i {{ display: block; font-style: normal; font-size: .85rem; color: var(--faint); }}
.tiles b {{ font-size: 1.4rem; font-weight: 600; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--line); }}
th:first-child, td:first-child {{ text-align: left; overflow-wrap: anywhere; }}
.sums tbody tr:last-child {{ font-weight: 600; }}
svg {{ width: 100%; height: auto; }} rect {{ fill: var(--bar); }}
text {{ fill: var(--ink); font-size: 12px; text-anchor: middle; }}
@media (max-width: 40rem) {{
  /* Names have a line of their own, and their figures one below. */
  tr {{ display: grid; grid-template-columns: 1fr 1.3fr 1.7fr; border-bottom: 1px solid var(--line); }}
  th, td {{ border-bottom: 0; padding: .15rem .25rem; font-size: .82rem; overflow-wrap: anywhere; }}
  .tiles b {{ font-size: 1.15rem; }}
  text {{ font-size: 17px; }}
  th:first-child, td:first-child {{ grid-column: 1 / -1; }}
}}
@media print {{ body {{ margin: 0; max-width: none; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
