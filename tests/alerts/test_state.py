"""What is remembered: plain JSON, replaced whole; damage costs the memory and nothing else."""

import json
import pickle
from pathlib import Path

import pytest

from alerts.run import AlreadyRunning, Lock, saved_alerts
from alerts.state import AlertFolder


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    folder = AlertFolder(tmp_path)
    folder.save("state", {"alerts": [1, 2]})
    assert folder.load("state")["alerts"] == [1, 2]
    assert list(folder.path.glob("*.part")) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'{"version": 99}', b"\xff\xfe", pickle.dumps({"version": 1}), b"[" * 100_000],
    ids=["empty", "cut", "list", "newer", "not text", "a pickle", "deep"],
)
def test_a_damaged_file_is_set_aside_and_begun_afresh(tmp_path: Path, content: bytes) -> None:
    """H10: whatever lies there, it is not run, and static thresholds go on without it."""
    folder = AlertFolder(tmp_path)
    folder.path.mkdir()
    (folder.path / "state.json").write_bytes(content)
    assert folder.load("state") == {}
    assert (folder.path / "state.damaged").read_bytes() == content
    assert saved_alerts(tmp_path) == []
    folder.save("state", {"alerts": []})
    assert folder.load("state") == {"version": 1, "alerts": []}


def test_a_file_half_written_is_never_seen(tmp_path: Path) -> None:
    folder = AlertFolder(tmp_path)
    folder.save("state", {"alerts": []})
    (folder.path / "state.part").write_bytes(b'{"version": 1, "al')
    assert folder.load("state") == {"version": 1, "alerts": []}


def test_alerts_that_cannot_be_read_do_not_hide_the_others(tmp_path: Path) -> None:
    good = {
        "labels": {"alertname": "A"}, "annotations": {}, "phase": "firing", "active_at": 1, "fired_at": 1,
        "last_true_at": 1, "resolved_at": 0, "value": 1, "fired": 1, "timing": [0, 0, 900],
        "usd_per_hour": "1.5", "began_at": 1,
    }  # fmt: skip
    bad = [{**good, "phase": "maybe"}, {**good, "usd_per_hour": "much"}, {**good, "labels": 3}, {}]
    AlertFolder(tmp_path).save("state", {"alerts": [*bad, good]})
    assert [one.name for one in saved_alerts(tmp_path)] == ["A"]
    assert json.loads((tmp_path / "alerts" / "state.json").read_text())["version"] == 1


def test_two_alerters_on_one_folder_are_one_too_many(tmp_path: Path) -> None:
    folder = AlertFolder(tmp_path)
    lock = Lock(folder)
    with pytest.raises(AlreadyRunning):
        Lock(folder)
    lock.release()
    Lock(folder).release()
