"""What alerts may do: only by policy, never to everybody, never for ever, never too much."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alerting import http_server

from alerts.directives import Controls, Standing, Step, steps
from alerts.engine import Tracked
from alerts.settings import ActionPolicy
from alerts.transitions import Alert, Phase

NOW = 10_000.0
PAUSE = ActionPolicy(on="SpendAnomaly", do="pause", match=("agent",), dry_run=False, min_usd_per_hour=1.0)


def firing(
    agent: str = "crawler", usd: str = "10", since: float = NOW - 60, phase: Phase = Phase.FIRING
) -> Tracked:
    labels = {"alertname": "SpendAnomaly", "severity": "page", "impact": "cost", "agent": agent}
    alert = Alert(phase=phase, fired_at=since, active_at=since)
    return Tracked(labels=labels, alert=alert, usd_per_hour=Decimal(usd))


def planned(
    alerts: list[Tracked], standing: list[Standing] | None = None, *policies: ActionPolicy, **more: Any
) -> list[Step]:
    given: dict[str, Any] = {"silenced": set(), "now": NOW, "most": 20}
    return steps(alerts, policies or (PAUSE,), standing or [], **{**given, **more})


def standing_of(alerts: list[Tracked]) -> list[Standing]:
    return [step.standing for step in planned(alerts)]


def test_a_firing_alert_with_enough_at_stake_asks_for_what_its_policy_says() -> None:
    (step,) = planned([firing()])
    assert (step.kind, step.standing.do, step.standing.match) == ("raise", "pause", {"agent": "crawler"})
    assert step.standing.expires_at == NOW + 1800


@pytest.mark.parametrize(
    ("alert", "policy"),
    [
        (firing(usd="0.5"), PAUSE),
        (firing(phase=Phase.PENDING), PAUSE),
        (firing(phase=Phase.RESOLVED), PAUSE),
        (firing(), replace(PAUSE, on="LatencyAnomaly")),
        (firing(), replace(PAUSE, match=("agent", "team"))),
        (firing(agent=""), PAUSE),
        (firing(since=NOW - 60), replace(PAUSE, after=300.0)),  # type: ignore[arg-type]
    ],
)
def test_nothing_is_done_short_of_that(alert: Tracked, policy: ActionPolicy) -> None:
    assert planned([alert], None, policy) == []


def test_what_was_raised_is_withdrawn_when_its_alert_ends() -> None:
    standing = standing_of([firing()])
    assert planned([firing()], standing) == []
    assert [step.kind for step in planned([firing(phase=Phase.RESOLVED)], standing)] == ["withdraw"]
    assert [step.kind for step in planned([], standing, now=NOW + 9999)] == ["expire"]


def test_it_is_renewed_in_time_while_the_alert_lasts() -> None:
    standing = standing_of([firing()])
    assert planned([firing()], standing, now=NOW + 800) == []
    (step,) = planned([firing()], standing, now=NOW + 1000)
    assert (step.kind, step.standing.expires_at) == ("renew", NOW + 1000 + 1800)


def test_a_silence_keeps_new_ones_away_and_leaves_what_stands() -> None:
    alert = firing()
    assert planned([alert], silenced={alert.key}) == []
    assert planned([alert], standing_of([alert]), silenced={alert.key}) == []


def test_a_policy_that_leaves_paper_takes_the_paper_back_first() -> None:
    paper = [step.standing for step in planned([firing()], None, replace(PAUSE, dry_run=True))]
    assert [step.kind for step in planned([firing()], paper)] == ["withdraw", "raise"]


def test_a_storm_of_alerts_is_held_to_the_limit() -> None:
    kinds = [step.kind for step in planned([firing(f"a{n}") for n in range(30)])]
    assert (kinds.count("raise"), kinds.count("refuse")) == (20, 10)


@given(st.sets(st.integers(0, 12)), st.sets(st.integers(0, 12)), st.integers(1, 8))
def test_no_more_stand_than_may_and_all_of_them_for_alerts_that_fire(
    before: set[int], after: set[int], most: int
) -> None:
    standing: dict[Any, Standing] = {}
    for names in (before, after, after):
        alerts = [firing(f"a{n}") for n in sorted(names)]
        for step in planned(alerts, list(standing.values()), most=most):
            if step.kind in ("withdraw", "expire"):
                del standing[step.standing.name]
            elif step.kind != "refuse":
                standing[step.standing.name] = step.standing
    assert len(standing) == min(len(after), most)
    assert {one.match["agent"] for one in standing.values()} <= {f"a{n}" for n in after}


def test_a_match_for_everybody_cannot_be_configured() -> None:
    with pytest.raises(ValueError, match="every call"):
        ActionPolicy(on="SpendAnomaly", do="cut", match=())
    with pytest.raises(ValueError, match="per_minute"):
        ActionPolicy(on="SpendAnomaly", do="throttle")
    with pytest.raises(ValueError, match="agnet"):
        ActionPolicy(on="SpendAnomaly", do="cut", match=("agnet",))


async def test_a_control_plane_that_refuses_or_is_gone_is_said_and_tried_again() -> None:
    (step,) = planned([firing()])
    async with httpx.AsyncClient() as client:
        with http_server(lambda method, path, body: (401, b"send the control key")) as port:
            done = await Controls([f"http://127.0.0.1:{port}"], client).do(step, NOW, None)
        assert (done.ok, done.standing) == (False, None)
        assert "401 send the control key" in done.detail
        gone = await Controls([f"http://127.0.0.1:{port}"], client).do(step, NOW, None)
        assert not gone.ok
        assert f"127.0.0.1:{port}: " in gone.detail
        standing = replace(step.standing, ids={f"http://127.0.0.1:{port}": "d1"})
        undo = await Controls([], client).do(Step(kind="withdraw", standing=standing), NOW, standing)
    assert not undo.ok
    assert undo.standing == standing
