"""The process of `bursar alerts`: puts the parts together, and looks every few seconds."""

import asyncio
import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from alerts.alertmanager import Alertmanagers
from alerts.audit import Audit
from alerts.backtest import Episode, Tuning
from alerts.detectors.finding import State, Subject
from alerts.directives import Controls
from alerts.engine import Engine, Tracked
from alerts.injection.watching import InjectionWatch
from alerts.learning import Learning, Single
from alerts.rules import InvalidRule, Rule, load_rules, needed
from alerts.samples import Samples
from alerts.scraping import Scraper, targets_of
from alerts.settings import AlertsConfig
from alerts.state import AlertFolder
from alerts.transitions import Phase
from alerts.watcher import Learned, Parts, Watcher
from collector import logs

NICENESS = 10
SAVE_EVERY_S = 60.0

_log = logs.get("alerts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where everything else is."""

    data_dir: Path
    control_url: str
    """The sidecar's control plane."""
    collector_url: str
    control_key: str | None = None
    vllm: Mapping[str, str] = field(default_factory=dict)
    """Base address of every vLLM replica, by any name."""
    dashboard_url: str = ""


class AlreadyRunning(Exception):
    """Another process alerts from this data directory."""


class Lock:
    """One alerter to a data directory: two would tell the same twice and act twice."""

    def __init__(self, folder: AlertFolder) -> None:
        folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = (folder.path / "lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise AlreadyRunning(f"another bursar alerts runs on {folder.path}") from error

    def release(self) -> None:
        """Let another one begin."""
        self._file.close()


def rules_of(config: AlertsConfig) -> list[Rule]:
    """The rules in force.

    Raises:
        InvalidRule: a threshold or a disabled alert names none.
    """
    return load_rules(
        thresholds=config.thresholds,
        disabled=config.disabled,
        settings={"cache_hit_target": config.cache_hit_target},
    )


def clients(config: AlertsConfig, key: str | None) -> tuple[httpx.AsyncClient, ...]:
    """A client for our own processes, one for Alertmanager, one for strangers: each with the credentials
    of its own and no other's."""
    own = {"authorization": f"Bearer {key}"} if key else {}
    theirs = {"authorization": f"Bearer {config.token.reveal()}"} if config.token else {}
    auth = (config.username, config.password.reveal()) if config.username and config.password else None
    # httpx tells every request, address and all, at the level that we tell what happened.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # One context for all: reading the certificates takes a tenth of a second. And nothing of the
    # environment: a proxy meant for the internet is not for loopback.
    trusted = httpx.create_ssl_context(trust_env=False)
    return (
        httpx.AsyncClient(headers=own, verify=trusted, trust_env=False),
        httpx.AsyncClient(headers=theirs, auth=auth, verify=trusted, trust_env=False),
        httpx.AsyncClient(verify=trusted, trust_env=False),
    )


def run(
    config: AlertsConfig,
    around: Surroundings,
    *,
    stop: asyncio.Event | None = None,
    clock: Callable[[], float] = time.time,
    learned: Learned | None = None,
) -> int:
    """Alert until ``stop`` or SIGTERM.

    Returns:
        0 when told to stop, 1 when another alerter has the data directory, 2 for a configuration that
        cannot be.
    """
    try:
        rules = rules_of(config)
    except InvalidRule as error:
        _log.error("the alerts cannot be used", reason=str(error))
        return 2
    folder = AlertFolder(around.data_dir)
    try:
        lock = Lock(folder)
    except AlreadyRunning as error:
        _log.error(str(error))
        return 1
    with suppress(OSError):
        os.nice(max(0, NICENESS - os.getpriority(os.PRIO_PROCESS, 0)))
    try:
        asyncio.run(_serve(config, around, rules, folder, stop, clock, learned))
    finally:
        lock.release()
    return 0


async def _serve(
    config: AlertsConfig,
    around: Surroundings,
    rules: list[Rule],
    folder: AlertFolder,
    stop: asyncio.Event | None,
    clock: Callable[[], float],
    learned: Learned | None,
) -> None:
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
    own, alertmanager, stranger = clients(config, around.control_key)
    async with own, alertmanager, stranger:
        samples = Samples({**needed(rules), "up": 0.0})
        parts = Parts(
            engine=Engine(rules, config.labels),
            samples=samples,
            scraper=Scraper(
                targets_of(around.control_url, around.collector_url, around.vllm, config.targets),
                own,
                stranger,
            ),
            alertmanagers=Alertmanagers(
                config.alertmanager,
                alertmanager,
                heartbeat_s=float(config.heartbeat),
                generator=config.dashboard or around.dashboard_url,
            ),
            controls=Controls(config.sidecars or (around.control_url,), own),
            audit=Audit(around.collector_url, own),
            incidents=Audit(around.collector_url, own, kind="anomalies"),
            learned=learned or (learning(config, around, own, folder) if config.detectors else None),
            injection=InjectionWatch(around.collector_url, own) if config.injection else None,
        )
        if parts.injection is not None:
            await parts.injection.start(folder.path)
        watcher = Watcher(config, parts, config.dashboard or around.dashboard_url)
        watcher.restore(folder.load("state"), clock())
        _log.info("watching", interval_s=float(config.interval), count=len(rules))
        try:
            await _watch(watcher, folder, stop, clock, float(config.interval))
        finally:
            if parts.injection is not None:
                parts.injection.close()
        if isinstance(parts.learned, Learning) and parts.learned.shown_until:
            parts.learned.save()


def learning(
    config: AlertsConfig, around: Surroundings, client: httpx.AsyncClient, folder: AlertFolder
) -> Learning:
    """The detectors of every subject of the ledger."""
    # Not at the top: a configuration without detectors needs none of it.
    from alerts.detectors.signals import Sensitivity
    from alerts.detectors.watch import SubjectWatch
    from alerts.explaining import Explainer
    from alerts.ledger import Collector, LedgerMinutes

    collector = Collector(around.collector_url, client)
    sensitivity = Sensitivity(min_usd_per_hour=config.min_usd_per_hour)

    def make(subject: Subject) -> Single:
        return Single(SubjectWatch(subject, sensitivity))

    def remake(subject: Subject, state: State) -> Single:
        return Single(SubjectWatch.from_dict(state, sensitivity))

    return Learning(LedgerMinutes(collector), make, remake, Explainer(collector), folder, config)


async def back_test(
    config: AlertsConfig, around: Surroundings, *, days: float, pages_per_week: float, now: float
) -> tuple[Tuning, list[Episode]] | None:
    """What fresh detectors would have said of the past ``days``; None when the ledger does not answer."""
    own, theirs, stranger = clients(config, around.control_key)
    async with own, theirs, stranger:
        trial = learning(config, around, own, AlertFolder(around.data_dir))
        tuning = await trial.back_test(now, days, pages_per_week)
        return None if tuning is None else (tuning, trial.episodes)


def adopt(data_dir: Path, tuning: Tuning, now: float) -> None:
    """Let anomalies page as ``tuning`` allows; a running `bursar alerts` takes it up.

    Raises:
        OSError: it cannot be written.
    """
    AlertFolder(data_dir).save("tuned", {**tuning.to_dict(), "made_at": now})


async def _watch(
    watcher: Watcher, folder: AlertFolder, stop: asyncio.Event, clock: Callable[[], float], every_s: float
) -> None:
    """Look every ``every_s`` until ``stop``. One look that fails does not end the watch."""
    loop = asyncio.get_running_loop()
    due, saved = loop.time(), -SAVE_EVERY_S
    trouble = logs.StateLog(_log, "looking")
    saving = logs.StateLog(_log, "saving the state")
    before: Any = None
    while not stop.is_set():
        moved: list[Tracked] = []
        try:
            moved = await watcher.look(clock())
            trouble.enter("ok")
        except Exception as error:  # whatever it is, the next look may be well, and silence is worst
            if trouble.enter("failed", error_type=type(error).__name__):
                _log.error("a look failed", failure=error)
        state = watcher.state()
        acted = before is None or state["standing"] != before["standing"] or state["audit"] != before["audit"]
        if moved or acted or loop.time() - saved >= SAVE_EVERY_S:
            saved, before = loop.time(), state
            _save(folder, state, saving)
        due = max(due + every_s, loop.time())
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), due - loop.time())
    _save(folder, watcher.state(), saving)


def _save(folder: AlertFolder, state: Mapping[str, Any], saving: logs.StateLog) -> None:
    try:
        folder.save("state", state)
        saving.enter("ok")
    except OSError as error:
        saving.enter("failed", reason=str(error))


def saved_alerts(data_dir: Path) -> list[Tracked]:
    """The alerts that the last run, or the one at work, wrote down: firing ones first."""
    found = []
    for given in AlertFolder(data_dir).load("state").get("alerts", ()):
        with suppress(KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
            found.append(Tracked.from_dict(given))
    order = (Phase.FIRING, Phase.PENDING, Phase.RESOLVED, Phase.INACTIVE)
    return sorted(found, key=lambda tracked: (order.index(tracked.alert.phase), tracked.name, tracked.id))
