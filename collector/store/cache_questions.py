# ruff: noqa: S608  (the catalogue is SQL of our own; values are bound)
"""Questions about answers that were given again."""

from typing import Final

from collector.store.question import Question

_Z: Final = 1.6448536269514722
"""95 % of a normal distribution lie below: each end of an interval holds at 95 %, as in the sidecar."""
_middle = f"(p + {_Z * _Z / 2} / n) / (1 + {_Z * _Z} / n)"
_half = f"{_Z} * sqrt(p * (1 - p) / n + {_Z * _Z / 4} / (n * n)) / (1 + {_Z * _Z} / n)"

SIMILAR_ERROR = Question(
    name="similar_error",
    help="How often similar answers were wrong, with Wilson intervals: where they are served, and elsewhere.",
    parameters=("since", "until", "tz", "tenant"),
    sql=f"""
        WITH counted AS (
            SELECT serving, likeness, count(*) AS compared,
                count(*) FILTER (WHERE NOT is_right) AS wrong,
                avg(CASE WHEN is_right THEN 0.0 ELSE 1.0 END) AS p, count(*)::DOUBLE AS n
            FROM similar_checks WHERE happened_at >= {{from}} AND happened_at < {{to}}{{narrowed}}
            GROUP BY ALL
        )
        SELECT serving, likeness, compared, wrong, p AS error,
            greatest(0.0, {_middle} - {_half}) AS error_low, least(1.0, {_middle} + {_half}) AS error_high
        FROM counted ORDER BY serving DESC, likeness DESC""",
)

CACHE_QUESTIONS: Final = (SIMILAR_ERROR,)
