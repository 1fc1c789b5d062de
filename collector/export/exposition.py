"""The Prometheus text format (0.0.4), written fast.

The lines of one label set differ from those of another only in the labels and
the figures. So a family is cut once into the pieces between its labels, and a
label set is rendered by one ``join`` and one ``%``: about 2 µs for a histogram.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import accumulate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MICRO = 10**6
_PICO = 10**12

Number = int | float | Decimal


def escaped(value: str) -> str:
    """A label value as it stands between quotes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def label_text(names: Sequence[str], values: Sequence[str]) -> str:
    """``name="value",...`` without braces."""
    return ",".join([f'{name}="{escaped(value)}"' for name, value in zip(names, values, strict=True)])


def header(name: str, kind: str, text: str) -> str:
    """The HELP and TYPE lines of a family."""
    plain = text.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {plain}\n# TYPE {name} {kind}\n"


def number(value: Number) -> str:
    """A sample value; decimals keep every digit."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))
    return str(int(value))


class Lines:
    """Some lines of one family, for any labels.

    ``template`` has ``{}`` where labels go and ``%d`` where figures go.
    """

    __slots__ = ("_pieces",)

    def __init__(self, template: str) -> None:
        self._pieces = template.split("{}")

    def render(self, labels: str, figures: tuple[int, ...]) -> str:
        """The lines with ``labels`` (percent signs doubled) and ``figures`` filled in."""
        return labels.join(self._pieces) % figures


def counter_lines(name: str, label: str = "", values: Iterable[str] = ()) -> Lines:
    """A counter; with ``label``, one line for each of its ``values``."""
    if not label:
        return Lines(f"{name}{{{{}}}} %d\n")
    return Lines("".join([f'{name}{{{{}},{label}="{value}"}} %d\n' for value in values]))


def money_lines(name: str) -> Lines:
    """A counter in USD, kept in pico-USD and written exactly."""
    return Lines(f"{name}{{{{}}}} %d.%012d\n")


def money_figures(pico: int) -> tuple[int, int]:
    """What :func:`money_lines` wants."""
    return divmod(pico, _PICO)


class HistogramLines(Lines):
    """A histogram whose figures are kept as ``[count per bucket..., sum]``."""

    __slots__ = ("_in_micros",)

    def __init__(self, name: str, bounds: Sequence[float], *, in_micros: bool) -> None:
        buckets = "".join([f'{name}_bucket{{{{}},le="{_bound(bound)}"}} %d\n' for bound in bounds])
        total = "%d.%06d" if in_micros else "%d"
        super().__init__(
            f'{buckets}{name}_bucket{{{{}},le="+Inf"}} %d\n'
            f"{name}_sum{{{{}}}} {total}\n{name}_count{{{{}}}} %d\n"
        )
        self._in_micros = in_micros

    def histogram(self, labels: str, figures: list[int]) -> str:
        """The buckets, cumulative, then sum and count."""
        *counts, total = figures
        cumulative = tuple(accumulate(counts))
        if self._in_micros:
            return self.render(labels, (*cumulative, *divmod(total, _MICRO), cumulative[-1]))
        return self.render(labels, (*cumulative, total, cumulative[-1]))


def _bound(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(value)
