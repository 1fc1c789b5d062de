"""Which call of ours a span tells of, what bypassed us, and what the spans around a call say of it."""

from collections.abc import Callable
from typing import Any

import pytest

from collector.ingest.otlp.batch import span_batch
from collector.ingest.otlp.linking import Linker
from collector.ingest.otlp.normalise import Spans
from collector.ingest.otlp.protobuf import SpanDecoder
from collector.ingest.otlp.table import LedgerSink

SECOND = 1_000_000


class Scene:
    """A ledger, spans that arrive in it, and a linker whose clock is ours."""

    def __init__(self, ledger: Any, maker: Any, call: Callable[..., Any], now_us: int) -> None:
        self.ledger = ledger
        self.maker = maker
        self._call = call
        self.noon = now_us
        self.now = now_us
        self.lag = 0.0
        self._sink = LedgerSink(lambda: ledger.database)
        self.linker = self.new_linker()

    def new_linker(self) -> Linker:
        return Linker(lambda: self.ledger.database, journal_lag_s=lambda: self.lag, now_us=lambda: self.now)

    def arrive(self, *spans: Any) -> None:
        self.arrive_raw(self.maker.request(*spans))

    def arrive_raw(self, body: bytes) -> None:
        made = Spans(self.now)
        SpanDecoder().read(body, made)
        self._sink.accept([span_batch(made.rows, self.now)])

    def call(
        self, *, trace: int = 0, parent: int = 0, at: float = 0.1, lasts: float = 0.8, **about: Any
    ) -> str:
        """A call of ours; its id."""
        about.setdefault("response_id", "")
        if trace:
            about["trace_id"] = f"{trace:032x}"
        if parent:
            about["parent_span_id"] = f"{parent:016x}"
        made = self._call(
            started_at_us=self.noon + int(at * SECOND), duration_us=int(lasts * SECOND), attempts=(), **about
        )
        self.ledger.book(made)
        return str(made.call_id)

    def link(self, later: float = 30.0) -> None:
        self.now += int(later * SECOND)
        while self.linker.step():
            pass

    def links(self) -> dict[int, tuple[str, str]]:
        rows = self.ledger.rows("SELECT span_id, call_id, matched_by FROM span_calls")
        return {int(span, 16): (call, by) for span, call, by in rows}

    def context(self, call_id: str) -> dict[str, str]:
        names = ("agent", "tool", "task", "step", "conversation_id", "user_id")
        rows = self.ledger.rows(f"SELECT {', '.join(names)} FROM call_contexts WHERE call_id = $1", [call_id])
        assert len(rows) == 1
        return dict(zip(names, rows[0], strict=True))


@pytest.fixture
def scene(ledger: Any, maker: Any, call: Callable[..., Any], now_us: int) -> Scene:
    return Scene(ledger, maker, call, now_us)


def test_a_span_tells_of_the_call_with_its_response(scene: Scene) -> None:
    ours = scene.call(response_id="chatcmpl-7")
    scene.arrive(scene.maker.model(span=5, gen_ai__response__id="chatcmpl-7"))
    scene.link()

    assert scene.links() == {5: (ours, "response")}
    assert scene.linker.counts.bypassed == 0


def test_a_span_tells_of_the_call_below_it_in_the_trace(scene: Scene) -> None:
    # The agent's call, its HTTP client's span, and our own below both.
    ours = scene.call(trace=3, parent=51)
    scene.arrive(
        scene.maker.model(trace=3, span=5, gen_ai__response__id="another-words"),
        scene.maker.span("POST", trace=3, span=51, parent=5),
    )
    scene.link()

    assert scene.links() == {5: (ours, "trace")}


def test_a_model_servers_span_tells_of_the_call_above_it(scene: Scene) -> None:
    ours = scene.call(trace=3, gen_ai_span_id=f"{0x77:016x}")
    scene.arrive(
        scene.maker.span("llm_request", trace=3, span=5, parent=0x77, kind=2, gen_ai__usage__prompt_tokens=9)
    )
    scene.link()

    assert scene.links() == {5: (ours, "server")}


def test_without_an_id_or_a_trace_the_figures_and_the_time_tell(scene: Scene) -> None:
    figures = {"gen_ai__usage__input_tokens": 1200, "gen_ai__usage__output_tokens": 300}
    near = scene.call(at=0.1)
    scene.call(at=0.1, output_tokens=299)
    scene.call(at=50.0)
    scene.arrive(
        scene.maker.model(span=5, trace=9, **figures), scene.maker.model(span=6, trace=8, at=20.0, **figures)
    )
    scene.link()

    assert scene.links() == {5: (near, "figures"), 6: ("", "")}


def test_a_call_that_no_record_knows_has_bypassed_the_sidecar(scene: Scene) -> None:
    scene.call(response_id="chatcmpl-7")
    scene.arrive(scene.maker.model(span=5, gen_ai__response__id="chatcmpl-8", gen_ai__usage__input_tokens=40))
    scene.link()

    assert scene.links() == {5: ("", "")}
    assert scene.linker.counts.bypassed == 1
    assert scene.ledger.one("SELECT span_id, input_tokens, request_model FROM bypass_calls") == {
        "span_id": f"{5:016x}",
        "input_tokens": 40,
        "request_model": "gpt-5-mini",
    }


def test_nothing_is_called_a_bypass_before_its_record_can_be_there(scene: Scene) -> None:
    scene.arrive(scene.maker.model(span=5, gen_ai__response__id="chatcmpl-7"))
    scene.lag = 600.0
    scene.link(later=60.0)
    assert scene.links() == {}

    ours = scene.call(response_id="chatcmpl-7")
    scene.lag = 0.0
    scene.link()
    assert scene.links() == {5: (ours, "response")}


def test_a_call_that_two_libraries_tell_of_is_one_call(scene: Scene, recordings: dict[str, bytes]) -> None:
    scene.now = scene.noon = 1_795_390_000_000_000  # When the recordings were made.
    scene.arrive_raw(recordings["genai"])
    scene.link()

    # Of the instrumentation's span around the SDK's own, or of the one beside it, not both.
    found = scene.ledger.rows(
        "SELECT producer FROM bypass_calls WHERE response_id = 'msg_01Recorded' ORDER BY producer"
    )
    assert found == [("com.anthropic.sdk.python",)]


def test_litellms_own_id_is_seen_through(scene: Scene, recordings: dict[str, bytes]) -> None:
    scene.arrive_raw(recordings["litellm"])
    row = scene.ledger.one("SELECT min(epoch_us(started_at)) AS at FROM spans_received")
    scene.noon = row["at"]
    plain = scene.call(response_id="chatcmpl-plain", at=0.0)
    hidden = scene.call(response_id="msg_01Recorded", at=0.0)
    scene.link()

    assert sorted(scene.links().values()) == sorted([(plain, "response"), (hidden, "response")])


def test_links_are_made_once_also_by_a_linker_that_begins_anew(scene: Scene) -> None:
    scene.arrive(scene.maker.model(span=5, gen_ai__response__id="x"))
    scene.link()
    scene.linker = scene.new_linker()
    scene.arrive(scene.maker.model(span=6, gen_ai__response__id="y"))
    scene.link()

    assert scene.ledger.rows("SELECT count(*) FROM span_calls") == [(2,)]


def test_a_call_is_told_what_it_was_for_by_the_spans_above_it(scene: Scene) -> None:
    ours = scene.call(trace=3, parent=5)
    scene.arrive(
        scene.maker.model(trace=3, span=5, parent=4),
        scene.maker.span(
            "step", trace=3, span=4, parent=3, gen_ai__operation__name="plan", graph__node__name="draft"
        ),
        scene.maker.span(
            "look",
            trace=3,
            span=3,
            parent=2,
            gen_ai__operation__name="execute_tool",
            gen_ai__tool__name="look",
        ),
        scene.maker.span(
            "helper",
            trace=3,
            span=2,
            parent=1,
            gen_ai__operation__name="invoke_agent",
            gen_ai__agent__name="helper",
        ),
        scene.maker.span(
            "boss",
            trace=3,
            span=1,
            gen_ai__operation__name="invoke_agent",
            gen_ai__agent__name="boss",
            session__id="talk-1",
            bursar__task="T-1",
        ),
    )
    scene.link()

    assert scene.context(ours) == {
        "agent": "helper",
        "tool": "look",
        "task": "T-1",
        "step": "draft",
        "conversation_id": "talk-1",
        "user_id": "",
    }


def test_an_agents_span_that_ends_long_after_its_call_still_tells(scene: Scene) -> None:
    ours = scene.call(trace=3, parent=5)
    scene.arrive(scene.maker.model(trace=3, span=5, parent=2))
    scene.link()
    assert scene.context(ours)["agent"] == ""

    scene.now += 600 * SECOND
    agent = {"gen_ai__operation__name": "invoke_agent", "gen_ai__agent__name": "slow"}
    scene.arrive(scene.maker.span("slow", trace=3, span=2, lasts=600.0, **agent))
    scene.link()
    assert scene.context(ours)["agent"] == "slow"


def test_a_call_found_by_its_response_is_told_what_its_span_stands_in(scene: Scene) -> None:
    # Nobody passed the trace on: the call of ours is in another one.
    ours = scene.call(response_id="chatcmpl-7")
    agent = {"gen_ai__operation__name": "invoke_agent", "gen_ai__agent__name": "planner"}
    scene.arrive(
        scene.maker.model(trace=3, span=5, parent=2, gen_ai__response__id="chatcmpl-7"),
        scene.maker.span("planner", trace=3, span=2, **agent),
    )
    scene.link()

    assert scene.context(ours)["agent"] == "planner"


def test_no_span_adds_a_token_or_a_cent(scene: Scene) -> None:
    scene.call(response_id="chatcmpl-7", cost=5_000)
    sums = "SELECT count(*), sum(input_tokens), sum(list_cost_usd), sum(effective_cost_usd) FROM calls"
    before = scene.ledger.rows(sums)
    scene.arrive(
        scene.maker.model(span=5, gen_ai__response__id="chatcmpl-7", gen_ai__usage__cost=0.5),
        scene.maker.model(span=6, gen_ai__response__id="chatcmpl-8", gen_ai__usage__cost=0.5),
    )
    scene.link()

    assert scene.ledger.rows(sums) == before


def test_spans_in_a_ring_are_climbed_to_an_end(scene: Scene) -> None:
    ours = scene.call(trace=3, parent=1)
    agent = {"gen_ai__operation__name": "invoke_agent", "gen_ai__agent__name": "round"}
    scene.arrive(
        scene.maker.span("a", trace=3, span=1, parent=2, **agent),
        scene.maker.span("b", trace=3, span=2, parent=1, **agent),
    )
    scene.link()

    assert scene.context(ours)["agent"] == "round"
