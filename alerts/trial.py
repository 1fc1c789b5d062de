"""Trying out who is told: the routing tree in force, and an alert that says it is only a test."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import httpx

from alerts.alertmanager import TIMEOUT_S, Alertmanagers
from alerts.engine import Tracked
from alerts.settings import AlertsConfig
from alerts.transitions import Alert, Phase

SHIPPED = Path(__file__).parent / "alertmanager.yml"
LASTS_S = 60.0


class NoAlertmanager(Exception):
    """None is configured, or none answers."""


def tree_of(config: AlertsConfig, file: Path | None) -> tuple[str, str]:
    """Where the routing tree was found, and its text: the file, a running Alertmanager, the shipped one.

    Raises:
        OSError: the file cannot be read.
    """
    if file is not None:
        return str(file), file.read_text(encoding="utf-8")
    for url in config.alertmanager:
        found = asyncio.run(_configuration(config, url))
        if found is not None:
            return f"the configuration of {url}", found
    return "the shipped alertmanager.yml", SHIPPED.read_text(encoding="utf-8")


def send_trial(config: AlertsConfig, labels: Mapping[str, str]) -> int:
    """Send an alert with ``labels`` that ends after a minute; how many Alertmanagers took it.

    Raises:
        NoAlertmanager: none is configured or none took it.
    """
    if not config.alertmanager:
        raise NoAlertmanager("no Alertmanager is configured (alerts.alertmanager)")
    sent = asyncio.run(_send(config, labels))
    if not sent:
        raise NoAlertmanager(f"none of {', '.join(config.alertmanager)} took it")
    return sent


def _client(config: AlertsConfig) -> httpx.AsyncClient:
    from alerts.run import clients

    return clients(config, None)[1]


async def _configuration(config: AlertsConfig, url: str) -> str | None:
    async with _client(config) as client:
        try:
            reply = await client.get(f"{url.rstrip('/')}/api/v2/status", timeout=TIMEOUT_S)
            return str(reply.json()["config"]["original"]) if reply.status_code == 200 else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None


async def _send(config: AlertsConfig, labels: Mapping[str, str]) -> int:
    now = time.time()
    trial = Tracked(
        labels=labels,
        annotations={"summary": "A test of who is told; nothing is wrong"},
        alert=Alert(phase=Phase.FIRING, fired_at=now, active_at=now),
    )
    async with _client(config) as client:
        told = Alertmanagers(config.alertmanager, client, heartbeat_s=LASTS_S / 3)
        return await told.tell([replace(trial, began_at=now)], now)
