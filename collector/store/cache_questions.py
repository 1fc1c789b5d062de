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

SIMILAR_CURVE = Question(
    name="similar_curve",
    help="Similar answers by likeness and distance, in steps of 0.01: how many were compared with the model's"
    " and what asking cost, how many of those were wrong; how many were given, and what that saved.",
    parameters=("since", "until", "tz", "tenant"),
    # A call that was compared comes into the ledger when it ends, which may be after the comparison.
    sql="""
        WITH asked AS (
            SELECT call_id, effective_cost_usd FROM calls
            WHERE started_at >= {from} - INTERVAL 1 DAY AND started_at < {to}{narrowed}
        ),
        compared AS (
            SELECT likeness, greatest(1, ceil(distance * 100 - 1e-6))::INTEGER AS step, count(*) AS compared,
                count(*) FILTER (WHERE NOT is_right) AS wrong, sum(effective_cost_usd) AS asked_usd
            FROM (
                SELECT call_id, likeness, distance, is_right FROM similar_checks
                WHERE happened_at >= {from} AND happened_at < {to}{narrowed}
            ) LEFT JOIN asked USING (call_id)
            GROUP BY ALL
        ),
        given AS (
            SELECT said[2] AS likeness,
                greatest(1, ceil(said[3]::DOUBLE * 100 - 1e-6))::INTEGER AS step,
                count(*) AS given, sum(avoided_cost_usd) AS saved_usd
            FROM (
                SELECT string_split(outcome_reason, ' ') AS said, avoided_cost_usd FROM calls
                WHERE started_at >= {from} AND started_at < {to} AND cache = 'semantic'
                    AND outcome_reason LIKE 'similar %'{narrowed}
            )
            GROUP BY ALL
        )
        SELECT likeness, step / 100 AS distance,
            coalesce(compared, 0) AS compared, coalesce(wrong, 0) AS wrong,
            coalesce(asked_usd, 0) AS asked_usd,
            coalesce(given, 0) AS given, coalesce(saved_usd, 0) AS saved_usd
        FROM compared FULL JOIN given USING (likeness, step) ORDER BY likeness DESC, step""",
)

CACHE_QUESTIONS: Final = (SIMILAR_ERROR, SIMILAR_CURVE)
