"""Alerts across looks: one for all processes, kept over a restart, bounded."""

import json
from decimal import Decimal

from alerts.engine import MOST_OF_A_RULE, Engine, Tracked
from alerts.rules import Rule, load_rules, needed
from alerts.samples import Samples
from alerts.signals import Signal
from alerts.transitions import Phase

RULES = {rule.name: rule for rule in load_rules()}


def fed(rules: list[Rule], *lines: tuple[str, dict[str, str], float], at: float = 0) -> Samples:
    samples = Samples(needed(rules))
    samples.take("t", at, [(name, tuple(sorted(labels.items())), value) for name, labels, value in lines])
    return samples


def memory(instance: str, value: float, job: str = "bursar-sidecar") -> tuple[str, dict[str, str], float]:
    return "bursar_process_memory_ratio", {"job": job, "instance": instance}, value


def test_several_processes_with_the_same_trouble_are_one_alert() -> None:
    rules = [RULES["MemoryHigh"]]
    engine = Engine(rules, {"cluster": "eu"})
    engine.look(fed(rules, memory("a", 0.9), memory("b", 0.95)), 0)
    (alert,) = engine.alerts
    assert dict(alert.labels) == {
        "alertname": "MemoryHigh", "severity": "page", "impact": "availability",
        "job": "bursar-sidecar", "cluster": "eu",
    }  # fmt: skip
    assert alert.alert.value == 0.95


def test_an_alert_is_the_same_whoever_sees_it() -> None:
    one, other = Engine([RULES["MemoryHigh"]]), Engine([RULES["MemoryHigh"]])
    one.look(fed(one.rules, memory("a", 0.9)), 0)
    other.look(fed(other.rules, memory("z", 0.99)), 7)
    assert one.alerts[0].key == other.alerts[0].key
    assert one.alerts[0].id == other.alerts[0].id


def test_after_a_restart_an_alert_is_not_ended_by_samples_that_are_not_there_yet() -> None:
    first = Engine([RULES["UnpricedCalls"]])
    seen = fed(first.rules, ("bursar_unpriced_calls_total", {"model": "m", "upstream": "u"}, 3.0))
    first.look(seen, 0)
    assert first.firing()
    saved = json.loads(json.dumps([one.to_dict() for one in first.alerts]))
    second = Engine([RULES["UnpricedCalls"]])
    second.restore([Tracked.from_dict(one) for one in saved], at=100)
    second.look(fed(second.rules), 101)
    assert [one.alert.fired_at for one in second.firing()] == [0]
    second.look(fed(second.rules), 100 + 300 + 600)
    assert [one.alert.phase for one in second.alerts] == [Phase.RESOLVED]


def test_an_alert_survives_json_whole() -> None:
    signal = Signal(labels={"alertname": "A", "severity": "page"}, usd_per_hour=Decimal("12.34"), since=5.0)
    engine = Engine([])
    engine.look(Samples({}), 10, [signal])
    (alert,) = engine.alerts
    assert Tracked.from_dict(json.loads(json.dumps(alert.to_dict()))) == alert
    assert alert.began_at == 5


def test_a_storm_of_label_sets_is_bounded_and_counted() -> None:
    rules = [RULES["UnpricedCalls"]]
    lines = [
        ("bursar_unpriced_calls_total", {"model": f"m{n:04}", "upstream": "u"}, 1.0)
        for n in range(MOST_OF_A_RULE + 50)
    ]
    engine = Engine(rules)
    engine.look(fed(rules, *lines), 0)
    assert len(engine.alerts) == MOST_OF_A_RULE
    assert engine.refused == 50
    engine.look(fed(rules, *lines, at=15), 15)
    assert len(engine.alerts) == MOST_OF_A_RULE


def test_without_a_gpu_its_rules_say_nothing_and_the_others_go_on() -> None:
    """H09: no driver, a lost GPU, no permission: the metrics are absent, and nothing else is."""
    engine = Engine(load_rules(settings={}))
    engine.look(fed(engine.rules, memory("a", 0.9), ("up", {"job": "bursar-sidecar"}, 1.0)), 0)
    names = {one.name for one in engine.alerts}
    assert "MemoryHigh" in names
    assert not [name for name in names if name.startswith("Gpu")]
