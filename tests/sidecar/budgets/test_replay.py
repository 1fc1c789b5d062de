"""What journals settle, cut at every byte, and with a source that cannot be read."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector import journal_reading
from collector.domain.credit import Claim, Counter, Unit
from collector.domain.record import CallRecord, Intent
from collector.journal import FrameKind, JournalWriter, frame_bytes, segments
from sidecar.budgets.keeper.tally import Tally
from sidecar.budgets.memory import MemoryStore
from sidecar.budgets.replay import JournalReader
from sidecar.budgets.store import ENDED
from tests.sidecar.budgets.past_frames import call_record, intent

COUNTER = Counter("b", "", "", "total", Unit.USD, 10**12, 0, None)


def charges(item: CallRecord | Intent) -> list[Claim]:
    cost = item.hold_cost_pico if isinstance(item, Intent) else item.effective_cost_pico
    return [Claim(COUNTER, cost)]


def written(folder: Path, source: str, costs: range, held: int = 1000) -> None:
    """Calls that were held at ``held`` and cost ``costs``."""
    writer = JournalWriter(folder, source)
    for cost in costs:
        writer.intent(intent(f"{source}{cost}", held))
        writer.record(call_record(f"{source}{cost}", cost))
    writer.close()


def spent_after_a_start(folder: Path) -> int:
    store = MemoryStore("now", directory=folder, charges=charges)
    store.rebuild(None, _no_truth())
    return store.ledger.account(COUNTER).spent


def spent_by_tally(folder: Path) -> int:
    tally = Tally(folder, charges)
    tally.count()
    return tally.ledger.account(COUNTER).spent


def _no_truth() -> Any:
    from sidecar.budgets.store import Truth

    return Truth()


WAYS = pytest.mark.parametrize("spent", [spent_after_a_start, spent_by_tally])


@WAYS
def test_a_journal_cut_at_any_byte_charges_what_it_tells_and_holds_what_it_does_not(
    tmp_path: Path, spent: Callable[[Path], int]
) -> None:
    written(tmp_path, "a", range(1, 3))
    (segment,) = segments(tmp_path)
    whole = segment.path.read_bytes()
    ends = [frame.end for frame in journal_reading.frames_in(segment.path)]
    by_frames = [0, 1000, 1, 1001, 3]
    for cut in range(len(whole)):
        segment.path.write_bytes(whole[:cut])
        assert spent(tmp_path) == by_frames[sum(end <= cut for end in ends)]


def test_a_page_ends_where_the_journal_is_cut_and_the_next_goes_on_when_it_has_grown(tmp_path: Path) -> None:
    written(tmp_path, "a", range(1, 4))
    (segment,) = segments(tmp_path)
    whole = segment.path.read_bytes()
    for cut in range(len(whole)):
        reader = JournalReader(tmp_path, charges)
        segment.path.write_bytes(whole[:cut])
        first, end = reader.history("a", 0, 100)
        segment.path.write_bytes(whole)
        second, last = reader.history("a", end, 100)
        assert [item.sequence for item in first + second] == [2, 4, 6]
        assert last == 6


@WAYS
@pytest.mark.parametrize("payload", [b"\xc1", b"\x80", b"\x91" * 4000, b"\x92\x01\x02"])
@pytest.mark.parametrize("kind", [*FrameKind, 9])
def test_a_frame_that_cannot_be_told_costs_only_itself(
    tmp_path: Path, spent: Callable[[Path], int], payload: bytes, kind: int
) -> None:
    written(tmp_path, "a", range(1, 3))
    written(tmp_path, "b", range(10, 11))
    first, _ = segments(tmp_path)
    with first.path.open("ab") as file:
        file.write(frame_bytes(5, kind, payload))

    assert spent(tmp_path) == 13
    assert JournalReader(tmp_path, charges).history("a", 0, 100)[1] == 5


@WAYS
def test_a_copy_of_a_segment_is_not_charged_again(tmp_path: Path, spent: Callable[[Path], int]) -> None:
    written(tmp_path, "a", range(1, 3))
    (segment,) = segments(tmp_path)
    (tmp_path / "a-000002.seg").write_bytes(segment.path.read_bytes())

    assert spent(tmp_path) == 3


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of segments that cannot be read."""
    read, named = journal_reading.read_frames, list[str]()

    def refused(path: Path, *args: Any) -> Any:
        if path.name in named:
            raise OSError(errno.EMFILE, "Too many open files")
        return read(path, *args)

    monkeypatch.setattr(journal_reading, "read_frames", refused)
    return named


def test_a_source_that_cannot_be_read_is_counted_at_a_later_start_and_the_others_now(
    tmp_path: Path, unreadable: list[str]
) -> None:
    written(tmp_path, "a", range(1, 3))
    written(tmp_path, "b", range(10, 11))
    unreadable.append("a-000001.seg")
    store = MemoryStore("now", directory=tmp_path, charges=charges)
    store.rebuild(None, _no_truth())
    assert store.ledger.account(COUNTER).spent == 10
    assert store.ledger.marks.get("a", 0) == 0
    assert store.ledger.marks["b"] == ENDED
    store._checkpoint()

    unreadable.clear()
    later = MemoryStore("later", directory=tmp_path, charges=charges)
    from sidecar.budgets import checkpoint

    later.rebuild(checkpoint.read(tmp_path / checkpoint.FILE), _no_truth())
    assert later.ledger.account(COUNTER).spent == 13


def test_a_tally_waits_for_a_source_that_cannot_be_read(tmp_path: Path, unreadable: list[str]) -> None:
    written(tmp_path, "a", range(1, 3))
    written(tmp_path, "b", range(10, 11))
    unreadable.append("a-000001.seg")
    tally = Tally(tmp_path, charges)
    tally.count()
    assert tally.ledger.account(COUNTER).spent == 10

    unreadable.clear()
    tally.count()
    assert tally.ledger.account(COUNTER).spent == 13
    assert tally.ledger.marks["a"] == ENDED


def test_a_page_of_what_cannot_be_read_is_empty(tmp_path: Path, unreadable: list[str]) -> None:
    written(tmp_path, "a", range(1, 3))
    unreadable.append("a-000001.seg")
    assert JournalReader(tmp_path, charges).history("a", 0, 100) == ([], 0)
