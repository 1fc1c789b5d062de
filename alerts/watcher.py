"""One look: read metrics, ask the detectors, move every alert, tell, act, write down. Then the next.

:class:`Watcher` is everything that `bursar alerts` does, without the clock: it is told the time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from alerts import incidents
from alerts.alertmanager import Alertmanagers
from alerts.audit import Audit, line
from alerts.detectors.finding import Finding
from alerts.directives import Controls, Done, Standing, logged, steps
from alerts.engine import Engine, Tracked
from alerts.grouping import leaders
from alerts.injection.watching import InjectionWatch
from alerts.rules import SEVERITIES
from alerts.samples import Samples
from alerts.scraping import Scraper
from alerts.settings import AlertsConfig
from alerts.signals import (
    WEEK_S,
    Labels,
    Listed,
    PagePolicy,
    Signal,
    escalations,
    grade,
    key_of,
    of_finding,
)
from alerts.transitions import Phase
from collector import logs

_log = logs.get("alerts")


class Learned(Protocol):
    """What detectors have to say; see :mod:`alerts.learning`."""

    async def findings(self, now: float) -> Sequence[Finding]:
        """Every incident that is open."""

    async def why(self, finding: Finding) -> Mapping[str, str]:
        """Annotations that explain one."""

    def trusted(self) -> Mapping[str, float]:
        """By kind, the severity from which a back-test on this history lets it page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a watcher works with."""

    engine: Engine
    samples: Samples
    scraper: Scraper
    alertmanagers: Alertmanagers
    controls: Controls
    audit: Audit
    incidents: Audit | None = None
    """Lines about alerts, for the ledger."""
    learned: Learned | None = None
    injection: InjectionWatch | None = None


class Watcher:
    """Alerting, one look at a time.

    Args:
        config: what was configured.
        parts: what it works with.
        dashboard: address for links; "" for none.
    """

    def __init__(self, config: AlertsConfig, parts: Parts, dashboard: str = "") -> None:
        self._config = config
        self._parts = parts
        self._dashboard = dashboard
        self._standing: dict[tuple[Labels, str, Labels], Standing] = {}
        self._said: dict[tuple[Labels, str, Labels], str] = {}
        self._paged_at: list[float] = []
        self._loudness: dict[str, str] = {}
        """By finding, how loud it has been: an incident never becomes quieter while it lasts."""
        self._explained: dict[str, dict[str, str]] = {}
        self._listed: list[Listed] = []
        self._asked_at = 0.0

    # -- looking

    async def look(self, now: float) -> list[Tracked]:
        """Everything, once; the alerts that moved."""
        parts = self._parts
        await parts.scraper.scrape(parts.samples, now)
        parts.samples.forget_before(now)
        if now - self._asked_at >= self._config.heartbeat and len(parts.alertmanagers):
            self._asked_at = now
            self._listed = await parts.alertmanagers.listed() or self._listed
        anomalies = await self._anomalies(now)
        pages = escalations(self._listed, now, self._config.escalate_after)
        bursts = parts.injection.signals(self._config.labels) if parts.injection is not None else []
        moved = parts.engine.look(parts.samples, now, [*anomalies, *bursts, *pages])
        self._note(moved, now)
        if len(parts.alertmanagers):
            await parts.alertmanagers.tell(parts.engine.alerts, now)
        await self._act(now)
        await parts.audit.deliver()
        if parts.incidents is not None:
            await parts.incidents.deliver()
        if parts.injection is not None:
            await parts.injection.deliver()
        return moved

    async def _anomalies(self, now: float) -> list[Signal]:
        learned = self._parts.learned
        if learned is None:
            return []
        policy = PagePolicy(
            page_usd_per_hour=Decimal(str(self._config.page_usd_per_hour)),
            min_usd_per_hour=Decimal(str(self._config.min_usd_per_hour)),
            pages_per_week=self._config.pages_per_week,
            trusted=learned.trusted(),
        )
        self._paged_at = [at for at in self._paged_at if now - at < WEEK_S]
        open_now = await learned.findings(now)
        loud = {name: len(SEVERITIES) - SEVERITIES.index(value) for name, value in self._loudness.items()}
        parts = leaders(open_now, loud)
        found = []
        # Leaders first: what belongs to one is no page of its own.
        for finding in sorted(open_now, key=lambda one: one.id in parts):
            # An incident is as severe as the view of it in which it shows most.
            views = [finding, *(one for one in open_now if parts.get(one.id) == finding.id)]
            worst = replace(finding, severity=max(one.severity for one in views))
            severity, held_back = grade(worst, policy, self._paged_at, now)
            if finding.id in parts:
                severity, held_back = "info", f"part of {parts[finding.id]}"
            before = self._loudness.get(finding.id, severity)
            if SEVERITIES.index(before) < SEVERITIES.index(severity):
                severity, held_back = before, ""
            louder = before != severity or finding.id not in self._loudness
            self._loudness[finding.id] = severity
            if louder and severity == "page":
                self._paged_at.append(now)
            if finding.id not in self._explained:
                self._explained[finding.id] = dict(await learned.why(finding))
            signal = of_finding(finding, severity, held_back, self._config.labels, self._dashboard)
            why = self._explained[finding.id]
            found.append(_with(signal, why))
        still = {finding.id for finding in open_now}
        self._loudness = {name: value for name, value in self._loudness.items() if name in still}
        self._explained = {name: value for name, value in self._explained.items() if name in still}
        return found

    def _note(self, moved: Iterable[Tracked], now: float) -> None:
        for tracked in moved:
            row = incidents.told(tracked, self._parts.engine.alerts, now)
            if row is not None and self._parts.incidents is not None:
                self._parts.incidents.note(row)
            if tracked.alert.phase is Phase.PENDING or tracked.labels.get("severity") == "none":
                continue
            write = _log.warning if tracked.alert.firing else _log.info
            write(
                tracked.annotations.get("summary", tracked.name),
                alert=tracked.name,
                state=str(tracked.alert.phase),
                after_s=round(now - tracked.began_at, 1),
            )

    # -- acting

    async def _act(self, now: float) -> None:
        silenced = {key_of(one.labels) for one in self._listed if one.silenced}
        todo = steps(
            self._parts.engine.alerts,
            self._config.actions,
            list(self._standing.values()),
            silenced=silenced,
            now=now,
            most=self._config.most_directives,
        )
        for step in todo:
            name = step.standing.name
            done = await self._parts.controls.do(step, now, self._standing.get(name))
            if done.standing is not None:
                self._standing[name] = done.standing
            elif step.kind != "refuse":
                self._standing.pop(name, None)
            self._write_down(name, done, now)
        wanted = {step.standing.name for step in todo} | set(self._standing)
        self._said = {name: said for name, said in self._said.items() if name in wanted}

    def _write_down(self, name: tuple[Labels, str, Labels], done: Done, now: float) -> None:
        """Log it and keep an audit line; what goes wrong the same way again and again, once."""
        said = "" if done.ok else f"{done.step.kind}: {done.detail}"
        if said and self._said.get(name) == said:
            return
        self._said[name] = said
        logged(done)
        self._parts.audit.note(line(done, now))

    # -- remembering

    def state(self) -> dict[str, Any]:
        """What a restart must not lose, as JSON holds it."""
        return {
            "alerts": [tracked.to_dict() for tracked in self._parts.engine.alerts],
            "standing": [standing.to_dict() for standing in self._standing.values()],
            "audit": self._parts.audit.waiting,
            "incidents": self._parts.incidents.waiting if self._parts.incidents is not None else [],
            "paged_at": self._paged_at,
            "loudness": self._loudness,
        }

    def restore(self, state: Mapping[str, Any], now: float) -> None:
        """Take up an earlier run's state; what cannot be read of it is left out and said."""
        alerts = []
        for given in state.get("alerts", ()):
            try:
                alerts.append(Tracked.from_dict(given))
            except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
                _log.error("an alert of the last run cannot be read", failure=error)
        self._parts.engine.restore(alerts, now)
        for given in state.get("standing", ()):
            try:
                standing = Standing.from_dict(given)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                _log.error("a directive of the last run cannot be read", failure=error)
                continue
            self._standing[standing.name] = standing
        for given in state.get("audit", ()):
            self._parts.audit.note(given)
        if self._parts.incidents is not None:
            for given in state.get("incidents", ()):
                self._parts.incidents.note(given)
        self._paged_at = [float(at) for at in state.get("paged_at", ())]
        self._loudness = {
            str(name): value for name, value in state.get("loudness", {}).items() if value in SEVERITIES
        }


def _with(signal: Signal, why: Mapping[str, str]) -> Signal:
    """``signal`` with what explains it."""
    return Signal(
        labels=signal.labels,
        annotations={**signal.annotations, **why},
        value=signal.value,
        since=signal.since,
        usd_per_hour=signal.usd_per_hour,
        timing=signal.timing,
    )
