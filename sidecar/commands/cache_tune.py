"""``bursar cache tune``: saving against error, by distance, on one's own past days."""

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta

from sidecar.cache.tuning import Point, curve, steps_of, widest
from sidecar.commands.questions import ask
from sidecar.config import BursarConfig

WAYS = {"same": ("same",), "same or rephrased": ("same", "rephrased")}
"""In almost the same words, or in other words as well (``cache.similar.rephrased``)."""


def show(config: BursarConfig, arguments: argparse.Namespace) -> int:
    """Print a curve for each way, and the distance that keeps to the configured error.

    Raises:
        NoAnswer: the collector does not answer.
    """
    since = (datetime.now(UTC) - timedelta(days=arguments.days)).isoformat()
    rows = ask(config, "similar_curve", since=since, tenant=arguments.tenant)
    curves = {name: curve(steps_of(rows, likenesses)) for name, likenesses in WAYS.items()}
    max_error = float(config.cache.similar.max_error)
    if arguments.format == "json":
        told = {
            "max_error": max_error,
            "curves": {name: [_told(point) for point in points] for name, points in curves.items()},
            "widest": {
                name: point.distance if (point := widest(points, max_error)) is not None else None
                for name, points in curves.items()
            },
        }
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
        return 0
    if not rows:
        sys.stdout.write(
            f"Nothing similar was asked in the last {arguments.days} days, or no route has semantic: on.\n"
        )
        return 0
    for name, points in curves.items():
        sys.stdout.writelines(f"{line}\n" for line in _table(name, points, max_error))
    sys.stdout.write(
        f"Beyond {_farthest(config):.2f} nothing was looked for (cache.similar.distance, or a route's). "
        "A larger distance is safe to try: each step is compared first, and given only once it was right.\n"
    )
    return 0


def _table(name: str, points: list[Point], max_error: float) -> list[str]:
    lines = [f"{name}:", f"  {'distance':>8} {'near':>8} {'compared':>9} {'saving USD':>14}   wrong (95 %)"]
    for point in points:
        wrong = "unknown"
        if point.error is not None:
            wrong = f"{point.error:.2%} ({point.error_low:.2%} to {point.error_high:.2%})"
        lines.append(
            f"  {point.distance:>8.2f} {point.near:>8,} {point.compared:>9,} {point.saving_usd:>14f}"
            f"   {wrong}"
        )
    best = widest(points, max_error)
    if best is None:
        lines.append(f"  none has shown yet to be wrong at most {max_error:.2%} of the time")
    else:
        lines.append(f"  {best.distance:.2f} keeps to {max_error:.2%}, and saves {best.saving_usd:f} USD")
    return lines


def _farthest(config: BursarConfig) -> float:
    """The largest distance at which anything is looked for."""
    given = [route.distance for route in config.cache.routes if route.distance is not None]
    return max([config.cache.similar.distance, *given])


def _told(point: Point) -> dict[str, object]:
    return {**point._asdict(), "saving_usd": f"{point.saving_usd:f}"}
