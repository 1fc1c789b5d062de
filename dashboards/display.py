"""Numbers and names as people read them.

Everything that came with a call (names, ids, models) is data. It is shown through
widgets that show text, after :func:`plain`; where only a widget that reads Markdown
will do, after :func:`escaped`.
"""

import re
import unicodedata
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal

from dashboards.scope import NONE, Bucket

_MARKUP = set("\\`*_{}[]()<>#+-.!|~$:&")
_UNSEEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Unicode categories that draw nothing, or change how their neighbours are drawn."""

_JOINER = "\u2060"
_COMES_ALIVE = re.compile(
    r"(?i:(?<=:)(?=//|material/|streamlit:)|(?<=www)(?=\.))|(?<=\S)(?=@\w)|(?<=[-<>~])(?=[-=>])"
)
"""Where Streamlit makes links, mail addresses, icons and arrows of text, however it is escaped."""

_PICO_DIGITS = 12


def plain(text: object, limit: int = 160) -> str:
    """``text`` on one line, with everything invisible made visible.

    Bidirectional controls, zero-width and control characters are written as ``⟨U+202E⟩``:
    what is read is what is there. Longer than ``limit`` characters, it ends in an ellipsis.
    """
    if text is None or text == "":
        return NONE
    shown = "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _UNSEEN else c for c in str(text)[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def escaped(text: object, limit: int = 600) -> str:
    """``text`` for a widget that reads Markdown: it comes out as the characters it is.

    What would be made a link or a sign of is held together by word joiners, which draw nothing.
    """
    kept = _COMES_ALIVE.sub(_JOINER, plain(text, limit))
    return "".join("\\" + c if c in _MARKUP else c for c in kept)


def usd_exact(amount: Decimal) -> str:
    """Every digit there is, at least to the pico-dollar: ``1,234.500000000001``."""
    exponent = amount.as_tuple().exponent
    digits = max(_PICO_DIGITS, -exponent if isinstance(exponent, int) else 0)
    return f"{amount:,.{digits}f}"


def usd(amount: Decimal) -> str:
    """An amount at a glance, to three or more significant digits: ``$1,234.57``, ``$0.0123``."""
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    if size >= 100_000:
        return f"{sign}${size:,.0f}"
    if size >= 1 or size == 0:
        return f"{sign}${size:,.2f}"
    digits = min(_PICO_DIGITS, 2 - size.adjusted())
    return f"{sign}${size:.{digits}f}"


def count(number: int) -> str:
    """A count at a glance: ``9,876``, ``12.3 k``, ``4.56 M``."""
    for floor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**4, "k")):
        if abs(number) >= floor:
            scaled = number / (1000 if unit == "k" else floor)
            return f"{scaled:,.{2 if scaled < 10 else 1}f} {unit}"
    return f"{number:,}"


def counted(number: int, thing: str) -> str:
    """A number of things: ``1 call``, ``12,345 calls``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def share(part: int | Decimal, whole: int | Decimal) -> str:
    """A part of a whole in per cent; a dash when there is no whole.

    A part that is there never reads as 0 %, nor one that is not all as 100 %.
    """
    if not whole:
        return "–"
    percent = 100 * Decimal(part) / Decimal(whole)
    if 0 < percent < Decimal("0.1"):
        return "< 0.1 %"
    if Decimal("99.9") < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def change(current: int | Decimal, earlier: int | Decimal) -> str | None:
    """By how much ``current`` differs from ``earlier``, in per cent; ``None`` without an earlier figure."""
    if not earlier:
        return None
    percent = 100 * (Decimal(current) - Decimal(earlier)) / abs(Decimal(earlier))
    if abs(percent) >= 1000:
        return f"{percent / 100 + 1:,.0f}×"
    return f"{percent:+.0f} %" if abs(percent) >= 100 else f"{percent:+.1f} %"


def points(current: Decimal | None, earlier: Decimal | None) -> str | None:
    """By how many percentage points a share differs from an earlier one; both between 0 and 1."""
    if current is None or earlier is None:
        return None
    return f"{100 * (current - earlier):+.1f} pts"


def duration(milliseconds: float | Decimal | None) -> str:
    """A length of time at a glance: ``12 ms``, ``1.53 s``, ``2 min 5 s``."""
    if milliseconds is None:
        return "–"
    value = float(milliseconds)
    if not value:
        return "0 ms"
    if value < 1000:
        return f"{value:.0f} ms" if value >= 10 else f"{value:.2f} ms"
    if value < 60_000:
        return f"{value / 1000:.2f} s"
    minutes, seconds = divmod(round(value / 1000), 60)
    return f"{minutes} min {seconds} s"


def percent(part: Decimal) -> str:
    """A share between 0 and 1 as it was written: ``80 %``, ``0.5 %``."""
    return f"{(100 * part).normalize():f} %"


def wait(length: timedelta) -> str:
    """How long it is until something, roughly: ``12 min``, ``3.5 h``, ``2.1 days``."""
    minutes = length / timedelta(minutes=1)
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"


def utc(instant: datetime) -> datetime:
    """A time of the ledger, which keeps UTC with or without saying so."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def moment(instant: datetime | None, zone: tzinfo) -> str:
    """A point in time in the reader's zone, with the zone's name; the ledger's own times are UTC."""
    if instant is None:
        return "–"
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return instant.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def span(length: timedelta) -> str:
    """A range's length in words: ``24 hours``, ``7 days``."""
    hours = length / timedelta(hours=1)
    if hours <= 48:
        return f"{hours:.0f} hour{'' if hours == 1 else 's'}"
    return f"{hours / 24:.0f} days"


def step(start: datetime, bucket: Bucket, zone: tzinfo) -> str:
    """A bucket's name on an axis."""
    form = {"minute": "%H:%M", "hour": "%a %d %H:00", "day": "%d %b"}[bucket]
    return start.astimezone(zone).strftime(form)
