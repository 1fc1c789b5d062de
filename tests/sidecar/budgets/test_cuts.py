"""A cut is noted where a stream was cut, and nowhere else."""

from pathlib import Path

import pytest

from collector.domain.policy import Policy, State
from collector.domain.record import EventKind
from collector.export.prometheus import CallMetrics
from collector.journal import FrameKind, JournalWriter, decode_event, read_frames, segments
from collector.pricing.book import PriceBook
from sidecar.books import Books
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.memory import MemoryStore
from sidecar.call import Call
from sidecar.http import Request
from sidecar.routes import route_of


@pytest.mark.parametrize("is_cut", [True, False])
async def test_a_stream_whose_last_bytes_came_first_is_not_noted_as_cut(tmp_path: Path, is_cut: bool) -> None:
    """A rule that cuts can come after a reply's last bytes, which wait for their turn: nothing ends then."""
    journal, metrics = JournalWriter(tmp_path, "s-1"), CallMetrics()
    control = CreditControl(
        State(Policy()),
        MemoryStore("s-1"),
        Books(journal, metrics, PriceBook.load({})),
        longest_call_s=60,
    )
    request = Request("POST", "/v1/chat/completions", "", [])
    request.client_address, request.received_ns = "127.0.0.1", 1
    call = Call(request, None, route_of(request.path, frozenset()))  # type: ignore[arg-type]
    reasons = []

    def cut(reason: str) -> bool:
        reasons.append(reason)
        return is_cut

    call.cut = cut
    control.cut(call, "team", "budget_exceeded")
    journal.close()

    assert reasons == ["budget_exceeded: team"]
    frames, _ = read_frames(segments(tmp_path)[0].path)
    events = [decode_event(frame.payload) for frame in frames if frame.kind == FrameKind.EVENT]
    assert [(event.kind, event.call_id) for event in events] == [(EventKind.BUDGET, call.call_id)] * is_cut
    assert (b"bursar_budget_actions_total{" in metrics.render()) is is_cut
