"""The sidecar's side of the ledger: it opens a call with an intent and closes it with one record."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from collector.domain.price import TokenPrice
from collector.domain.record import Intent, PriceGrade
from collector.domain.usage import Usage, UsageGrade
from collector.export.prometheus import CallMetrics
from collector.journal import JournalWriter
from collector.journal_room import JournalFull
from collector.pricing.book import PriceBook, Quote
from collector.pricing.regions import is_same_elsewhere
from sidecar.accounting import (
    FREE_APIS,
    Known,
    charges_of,
    cost_of,
    hold_of,
    is_priced_by_stand_in,
    output_hold,
    quote_for,
    tier_of,
    usage_of,
)
from sidecar.call import Attempt, Call
from sidecar.copies import Copies
from sidecar.errors import JournalUnavailable
from sidecar.records import record_of
from sidecar.stitching import Stitching
from sidecar.unread import tell_unread
from sidecar.wire import Meter, ReplyFacts, RequestFacts, TokenRatios, place_of

if TYPE_CHECKING:
    from sidecar.providers.native import Upstream

LEARN_ALL = 500
"""So many calls teach how many bytes a token of their model takes; after them one in ``LEARN_EACH``."""
LEARN_EACH = 8

_REPORTED = UsageGrade.REPORTED
_tuple = tuple.__new__


def facts_of(meter: Meter) -> ReplyFacts:
    """What the reply said, also where our own reader failed of it: then that is told."""
    try:
        facts = meter.facts()
    except Exception as error:
        facts = ReplyFacts(usage_flags=("unread",), unread=place_of(error))
    if facts.unread:
        tell_unread(facts.unread)
    return facts


class Books:
    """Writes the journal, keeps the counters, and learns what a token of each model weighs."""

    def __init__(
        self,
        journal: JournalWriter,
        metrics: CallMetrics,
        prices: PriceBook,
        *,
        refuse_when_full: bool = False,
        capture_bytes: int = 16 << 10,
        input_ratios: TokenRatios | None = None,
        output_ratios: TokenRatios | None = None,
    ) -> None:
        self.journal = journal
        self.metrics = metrics
        self.prices = prices
        self.stitching: Stitching | None = None
        """Told how each call ended."""
        self.copies: Copies | None = None
        """Given what each call asked, once it has ended."""
        self.on_end: Callable[[Call], None] | None = None
        """Told after it."""
        self.measured: Mapping[str, TokenPrice] = {}
        """By upstream: what a token of our own servers costs at present."""
        self.tells_a_store = False
        """Whether what calls cost is told to a store that outlives this process."""
        self.running = 0
        self._settled = 0
        self._refuse_when_full = refuse_when_full
        self._capture_bytes = capture_bytes
        self._input_ratios = input_ratios or TokenRatios()
        self._output_ratios = output_ratios or TokenRatios()

    # -- before

    def quote(self, call: Call, upstream: "Upstream", model: str) -> Quote:
        """The price of ``model`` at ``upstream`` for this call: the same for as long as it lasts.

        Where an upstream is a pool of our own it comes with what its tokens were measured to cost of late.
        """
        facts = call.facts
        region = facts.region if facts is not None and facts.region else upstream.region
        quote = self.prices.quote(upstream.provider, model, call.started_at_us, region)
        if call.measured is None:
            call.measured = self.measured
        measured = call.measured.get(upstream.name) if call.measured else None
        return quote if measured is None else replace(quote, measured=measured)

    def dearest(self, call: Call, upstream: "Upstream") -> str:
        """Which of the models that ``call`` names may cost most at ``upstream``."""
        facts = call.facts
        assert facts is not None
        held: dict[str, int] = {}
        for model in (facts.model, *facts.other_models):
            quote = self.quote(call, upstream, model)
            reads = self._input_ratios.estimate(model, facts.text_bytes) if facts.text_bytes else 0
            writes = output_hold(facts.max_output_tokens, facts.choice_count, quote)
            held[model] = hold_of(reads, writes, quote, tier_of(facts))
        return max(held, key=lambda model: held[model])

    def open(self, call: Call, attempt: Attempt, *, later: bool = False) -> None:
        """Write down that ``attempt`` may now spend up to its hold.

        ``later``: as the journal's, for a request that leaves only after it is flushed.

        Raises:
            JournalUnavailable: the journal is full and the configuration says to refuse then.
        """
        facts = call.facts
        assert facts is not None
        quote, text_bytes = attempt.quote, facts.text_bytes
        tenant, team, user, agent, conversation, source, task, tags, key_id, _, _, _ = call.caller
        reads = self._input_ratios.estimate(attempt.model, text_bytes) if text_bytes else 0
        writes = output_hold(facts.max_output_tokens, facts.choice_count, quote)
        if call.api == "openai.embeddings":
            writes = 0
        attempt.hold_input, attempt.hold_output = reads, writes
        hold = hold_of(reads, writes, quote, tier_of(facts))
        if call.hold is not None:
            # What the budgets hold is what is charged should we crash, so that ledger and budgets agree.
            reads, writes, hold = call.hold
        elif len(call.attempts) > 1:
            # The newer intent takes the older one's place, and so has to tell of what was spent before it.
            hold += sum([before.cost_pico for before in call.attempts[:-1]])
        try:
            self.journal.intent(
                _tuple(
                    Intent,
                    (
                        call.call_id,
                        call.started_at_us,
                        tenant,
                        team,
                        user,
                        agent,
                        conversation,
                        source,
                        task,
                        tags,
                        key_id,
                        call.trace_id,
                        call.span_id,
                        call.parent_span_id,
                        call.gen_ai_span_id,
                        call.api,
                        facts.stream,
                        facts.model,
                        attempt.provider,
                        attempt.upstream,
                        reads,
                        writes,
                        quote.grade,
                        quote.version,
                        hold,
                        call.route.template,
                    ),
                ),
                later=later and not self._refuse_when_full,
            )
        except JournalFull as error:
            self.metrics.add("bursar_dropped_total", {"stage": "journal", "reason": "full"}, 1)
            if self._refuse_when_full:
                raise JournalUnavailable(
                    "this call cannot be written down: the journal is full", code="journal_full"
                ) from error

    def hold_more(self, call: Call, output_tokens: int, cost_pico: int) -> None:
        """Write down that the running attempt of ``call`` may now spend more than it was opened with."""
        if call.hold is None or not call.attempts:
            return
        call.hold = (call.hold[0], output_tokens, cost_pico)
        with contextlib.suppress(JournalUnavailable):
            self.open(call, call.attempts[-1])

    def input_tokens(self, model: str, text_bytes: int) -> tuple[int, bool]:
        """Tokens in so many bytes of prompt, and whether that was learned from calls of this model."""
        if not text_bytes:
            return 0, True
        return self._input_ratios.estimate(model, text_bytes), self._input_ratios.knows(model)

    def output_ratio(self, model: str) -> float:
        """Bytes that a token of output shows, for this model."""
        return self._output_ratios.ratio(model)

    # -- after

    def settle(self, call: Call, attempt: Attempt, *, sent: bool) -> None:
        """Work out what ``attempt`` used and costs, from all that is known of it now."""
        facts = call.facts
        assert facts is not None
        reply = call.reply_facts = facts_of(call.meter) if call.meter is not None else None
        usage, grade = self._used(call, attempt, reply, sent=sent)
        attempt.usage, attempt.grade = usage, grade
        if not grade:
            attempt.price_grade = attempt.price_version = ""
            return
        tier = ""
        quote = attempt.quote
        if reply is not None:
            region = reply.region or quote.region
            if region != quote.region:
                # The provider says that it was elsewhere than we thought.
                there = self.prices.quote(attempt.provider, attempt.model, attempt.started_at_us, region)
                quote = attempt.quote = replace(there, measured=quote.measured)
            if (
                reply.response_model
                and reply.response_model != attempt.model
                and not is_same_elsewhere(attempt.provider, attempt.model, reply.response_model)
            ):
                answered = self.prices.quote(
                    attempt.provider, reply.response_model, attempt.started_at_us, region
                )
                quote = attempt.quote = replace(quote_for(quote, answered), measured=quote.measured)
            tier = reply.service_tier
        tier = tier or tier_of(facts)
        attempt.price_grade, attempt.price_version = quote.grade, quote.version
        attempt.list_pico, attempt.cost_pico = cost_of(usage, quote, tier)
        if (
            quote.elsewhere is not None
            or quote.price.per_request
            or usage.web_searches
            or usage.image_input_tokens
            or usage.image_output_tokens
            or usage.audio_input_tokens
            or usage.audio_output_tokens
        ):
            attempt.charges = charges_of(usage, quote, tier)
            if is_priced_by_stand_in(usage, quote):
                attempt.price_grade = PriceGrade.PRIOR
        self._settled += 1
        if self._settled >= LEARN_ALL and self._settled % LEARN_EACH:
            return
        if reply is not None and grade is _REPORTED:
            self._learn(attempt, facts, reply)

    def _used(
        self, call: Call, attempt: Attempt, reply: ReplyFacts | None, *, sent: bool
    ) -> tuple[Usage, UsageGrade | Literal[""]]:
        """What ``attempt`` consumed, and how that is known; no grade when that was nothing."""
        if (
            reply is not None
            and reply.complete
            and reply.usage is not None
            and sent
            and attempt.status is not None
            and call.api not in FREE_APIS
        ):
            return reply.usage, _REPORTED  # as `usage_of` would say
        facts = call.facts
        assert facts is not None
        output_bytes = reply.output_text_bytes if reply is not None else 0
        told = reply is not None and reply.complete and reply.usage is not None
        seen = self._output_ratios.estimate(attempt.model, output_bytes) if output_bytes and not told else 0
        usage, grade = usage_of(
            Known(
                call.api,
                sent,
                attempt.status,
                call.meter.streaming or (facts.stream and not call.meter.whole)
                if call.meter is not None
                else facts.stream,
                reply,
                attempt.hold_input,
                seen,
                attempt.hold_input,
                attempt.hold_output,
                facts.background,
            )
        )
        return usage, grade or ""

    def _learn(self, attempt: Attempt, facts: RequestFacts, reply: ReplyFacts) -> None:
        """See how many bytes a token of this model took, coming and going."""
        usage, output_bytes = attempt.usage, reply.output_text_bytes
        if facts.text_bytes and usage.input_tokens and not facts.has_images:
            self._input_ratios.learn(attempt.model, facts.text_bytes, usage.input_tokens)
        hidden = 0 if reply.reasoning_text_bytes else usage.reasoning_output_tokens
        spoken = usage.output_tokens - hidden
        if output_bytes and spoken > 0:
            self._output_ratios.learn(attempt.model, output_bytes, spoken)

    def close(self, call: Call, status: int, response_bytes: int, *, later: bool = False) -> None:
        """Write the call's one record. A second call of this does nothing.

        ``later``: as the journal's, for a reply that leaves only after it is flushed.
        """
        if call.recorded:
            return
        call.recorded = True
        self.running -= 1
        for attempt in call.attempts:
            if not attempt.ended_ns:
                # Something failed on the way back that nobody foresaw: what may have been spent is charged.
                attempt.ended_ns = time.monotonic_ns()
                self.settle(call, attempt, sent=attempt.sent_ns > 0)
        sequence = 0
        if call.metered:
            record = record_of(call, status, response_bytes, time.monotonic_ns(), self._capture_bytes)
            # What a store elsewhere is told must not be ahead of the journal, should we crash in between.
            told = self.tells_a_store and call.settle_credit is not None
            self.journal.record(record, later=later and not told)
            self.metrics.observe(record)
            sequence = self.journal.sequence
        if call.settle_credit is not None:
            call.settle_credit(call, sequence)
        if self.stitching is not None:
            self.stitching.settle(call)
        if self.on_end is not None:
            self.on_end(call)
        if call.on_close is not None:
            call.on_close(call)
        if self.copies is not None and call.metered:
            self.copies.offer(call)
        if call.cut is not None or call.watch is not None:
            call.let_go()
