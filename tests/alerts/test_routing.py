"""Who would be told: our reading of the routing tree against Alertmanager's own."""

import subprocess

import pytest
from support.alerting import ALERTS, program

from alerts.routing import BadRouting, receivers

SHIPPED = ALERTS / "alertmanager.yml"

LABELS = [
    {"severity": severity, "impact": impact, "alertname": name}
    for severity in ("page", "warn", "info", "none")
    for impact in ("users", "cost", "availability", "ledger", "security")
    for name in ("SpendAnomaly", "Watchdog", "PageUnacknowledged")
    if (severity == "none") == (name == "Watchdog")
]


def test_alertmanager_takes_the_shipped_file() -> None:
    done = subprocess.run([program("amtool"), "check-config", str(SHIPPED)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_route_leads_where_alertmanager_says() -> None:
    told = {}
    for labels in LABELS[::4]:
        argv = [program("amtool"), "config", "routes", "test", f"--config.file={SHIPPED}"]
        done = subprocess.run(
            [*argv, *(f"{name}={value}" for name, value in labels.items())],
            capture_output=True,
            text=True,
            check=True,
        )
        told[tuple(labels.values())] = done.stdout.strip().split(",")
        assert receivers(SHIPPED.read_text(), labels) == told[tuple(labels.values())]
    assert len({tuple(names) for names in told.values()}) >= 4


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"severity": "page", "impact": "users"}, ["pager", "chat"]),
        ({"severity": "page", "impact": "cost"}, ["owners", "chat"]),
        ({"severity": "page", "impact": "security"}, ["security", "pager", "chat"]),
        ({"severity": "warn", "impact": "cost"}, ["chat"]),
        ({"severity": "info", "impact": "cost"}, ["nobody"]),
        ({"severity": "none", "alertname": "Watchdog"}, ["dead-man"]),
        ({"severity": "page", "alertname": "PageUnacknowledged"}, ["escalation"]),
    ],
)
def test_severity_and_impact_decide_who_is_told(labels: dict[str, str], names: list[str]) -> None:
    assert receivers(SHIPPED.read_text(), labels) == names


@pytest.mark.parametrize(
    "text", ["", "route: 3", "a: [", "route: {receiver: a, routes: [{matchers: ['a~b']}]}"]
)
def test_what_is_no_configuration_is_said_to_be_none(text: str) -> None:
    with pytest.raises(BadRouting):
        receivers(text, {"a": "b"})
