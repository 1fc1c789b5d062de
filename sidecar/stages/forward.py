"""The innermost step: choose an upstream, write down the intent, ask it, and relay the answer."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from collector.domain.record import Outcome
from inference.pool.retrying import TURNED_AWAY_STATUS
from sidecar.books import Books
from sidecar.budgets.again import Readmission
from sidecar.budgets.guard import StreamGuard
from sidecar.call import Attempt, Call, Reply
from sidecar.errors import InvalidCall, NotAllowed, UpstreamFailed
from sidecar.http import HeaderList, Outbox, UpstreamError, UpstreamReply
from sidecar.providers.native import Upstream, returned_headers, translated_headers
from sidecar.providers.pool_settings import FallbackConfig
from sidecar.providers.replicas import Replica
from sidecar.relay import Relay, read_at_once
from sidecar.routes import joined, joined_raw
from sidecar.routing import Routing, Target
from sidecar.stages.fetched import FetchedStream
from sidecar.stages.persist import Persist
from sidecar.stages.streamed import ForwardedStream, note_end
from sidecar.wire import (
    InvalidRequest,
    Meter,
    meter_for,
    spends,
    with_include_usage,
    with_model,
)

if TYPE_CHECKING:
    from sidecar.wire.translate.meter import TranslatingMeter
    from sidecar.wire.translate.translation import Translation

USAGE_ON_REQUEST = frozenset({"openai.chat", "openai.completions"})
"""Dialects whose streams report usage only when asked to."""

_TIMEOUTS = frozenset({"timeout_connect", "timeout_first_byte", "timeout_idle", "timeout_total"})


OPENING_S = 60.0
"""How long the beginning of a stream is held back at most where another attempt could still be made: longer
than prompts wait and are read on a busy server, which sends its head before that."""


class Asked:
    """An attempt whose answer has begun."""

    __slots__ = ("answer", "attempt", "replica", "translation", "upstream", "withhold")

    def __init__(
        self,
        attempt: Attempt,
        upstream: Upstream,
        replica: Replica,
        answer: UpstreamReply,
        withhold: bool,
        translation: "Translation | None",
    ) -> None:
        self.attempt = attempt
        self.upstream = upstream
        self.replica = replica
        self.answer = answer
        self.withhold = withhold
        """Keep the usage chunk that we asked for from the agent."""
        self.translation = translation


class Forward:
    """Asks upstreams on behalf of calls."""

    def __init__(
        self,
        routing: Routing,
        books: Books,
        *,
        again: Readmission,
        cost_header_body: int,
        fallbacks: Sequence[FallbackConfig] = (),
        guard: StreamGuard | None = None,
        cut_with_error: bool = False,
        outbox: Outbox | None = None,
    ) -> None:
        self.outbox = outbox
        """What empties the journal before it lets requests out; None: nothing does."""
        self.routing = routing
        self.books = books
        self._cost_header_body = cost_header_body
        self._guard = guard
        self.cut_with_error = cut_with_error
        self._several = bool(fallbacks)
        self.persist = Persist(self, fallbacks, again)

    def __call__(self, call: Call) -> Awaitable[Reply]:
        """Answer ``call`` from an upstream.

        Raises:
            NoRoute: no upstream serves its model or dialect.
            NotAllowed: the path may spend money that nobody would see.
            UpstreamFailed: nobody answered.
        """
        # No coroutine of its own: each is one more between the socket and whoever waits for the answer.
        first = call.target or self.routing.target_of(call)
        upstream = first.upstream
        if call.facts is None:
            return self._fetch(call, upstream)
        if upstream.is_plain and not upstream.is_held and not self._several:
            return self._plainly(call, first)
        return self.persist.answer(call, first)

    async def _plainly(self, call: Call, target: Target) -> Reply:
        """Answer from the only server that there is, which is asked again only if it turns the call away."""
        upstream = target.upstream
        if upstream.starts_late:
            await upstream.ready()
        upstream.pool.calls += 1
        asked = await self.ask(call, upstream, target.model, upstream.replicas[0])
        if asked.answer.status in TURNED_AWAY_STATUS and upstream.pool.retries:
            return await self.persist.answer(call, target, asked)
        return await self.reply(call, asked)

    async def ask(self, call: Call, upstream: Upstream, model: str, replica: Replica) -> Asked:
        """Ask ``replica``; its answer, as soon as the head of it is here.

        Raises:
            NotAllowed: the path may spend money that nobody would see.
            UpstreamFailed: it did not answer.
        """
        translation = upstream.speech.translation_for(call)
        target = self._target(call, upstream, replica, translation)
        body, withhold = self._body(call, upstream, model, translation)
        quote = self.books.quote(call, upstream, model)
        attempt = Attempt(upstream.name, replica.name, upstream.provider, model, quote)
        call.attempts.append(attempt)
        headers = upstream.head_for(call, translation.headers if translation is not None else None)
        self.books.open(call, attempt, later=replica.pool.outbox is self.outbox)
        try:
            answer = await replica.pool.request(
                call.request.method.encode(), target.encode(), headers, body, on_leaving=attempt.note_sent
            )
        except UpstreamError as error:
            # Who sends us elsewhere has done no work.
            self._failed(call, attempt, error, sent=error.sent and error.kind != "redirect")
            raise failure(upstream, error) from error
        except asyncio.CancelledError:
            self.settle(call, attempt, sent=attempt.sent_ns > 0)
            raise
        attempt.status = answer.status
        if upstream.tells_limits:
            upstream.note_limits(replica, answer.headers)
        return Asked(attempt, upstream, replica, answer, withhold, translation)

    def leave(self, call: Call, asked: Asked) -> None:
        """Close an answer that nobody reads, and book what it may have cost."""
        asked.answer.close()
        asked.attempt.status = None  # Nothing of the reply is known.
        self.settle(call, asked.attempt, sent=True)

    # -- what to ask

    def _target(
        self, call: Call, upstream: Upstream, replica: Replica, translation: "Translation | None"
    ) -> str:
        if call.route.api == "raw":
            self._check_raw(call, upstream)
            target = joined_raw(replica.base_path, call.route.path)
        else:
            path = translation.path if translation is not None else call.route.path
            target = joined(replica.base_path, path, upstream.kind)
        if call.request.query and translation is None:
            target = f"{target}?{call.request.query}"
        return target

    def _check_raw(self, call: Call, upstream: Upstream) -> None:
        request = call.request
        if spends(request.method, call.route.path) != "unmetered":
            return
        if any(call.route.path.startswith(allowed) for allowed in upstream.unmetered_paths):
            return
        raise NotAllowed(
            f"{request.method} {call.route.path[:200]} may spend money without saying how much; "
            f"list it under upstreams.{upstream.name}.unmetered_paths to allow it",
            code="unmetered_path",
        )

    def _body(
        self, call: Call, upstream: Upstream, model: str, translation: "Translation | None"
    ) -> tuple[bytes, bool]:
        facts, body = call.facts, call.request.body
        assert facts is not None
        if translation is not None:
            try:
                return translation.request(body, model), False
            except InvalidRequest as error:
                raise InvalidCall(str(error), code="untranslatable", param=error.param or None) from error
        if model != (call.downgraded_from or facts.model) and call.route.api != "raw":
            body = with_model(body, model)
        if (
            facts.stream
            and not facts.include_usage
            and upstream.inject_usage
            and facts.api in USAGE_ON_REQUEST
        ):
            return with_include_usage(body), True
        return body, False

    # -- the answer

    async def reply(self, call: Call, asked: Asked, *, opening: bool = False) -> Reply:
        """What the agent gets of an answer.

        With ``opening`` a stream is looked at until it is known whether it fails at once.

        Raises:
            UpstreamFailed: it broke off before it was whole.
        """
        attempt, upstream, answer, translation = (
            asked.attempt,
            asked.upstream,
            asked.answer,
            asked.translation,
        )
        facts = call.facts
        assert facts is not None
        headers = returned_headers(answer.headers)
        meter: Meter
        if translation is None:
            meter = meter_for(
                facts.api,
                path=call.route.path,
                status=answer.status,
                headers=answer.headers,
                request=facts,
                withhold_usage=asked.withhold,
            )
        else:
            created = call.started_at_us // 1_000_000
            meter = translated = translation.meter(answer.status, answer.headers, facts, created)
            headers = translated_headers(answer.headers, translated.content_type)
        call.meter = meter
        reuse = call.reuse
        if reuse is not None:
            reuse.as_sent = translation is None
        if call.caller.capture or (reuse is not None and reuse.keep):
            call.captured_output = bytearray()
        streams, captured = is_stream(answer.headers), call.captured_output
        if not streams:
            body = read_at_once(answer, meter, captured, self._cost_header_body)
            if body is not None:
                return self._whole(call, asked, body, headers)
        relay = Relay(answer, meter, call.responder, captured)
        try:
            if not streams or answer.broke_off:
                body = await relay.whole(self._cost_header_body)
                if body is not None:
                    return self._whole(call, asked, body, headers)
            elif answer.status < 400:
                if self._guard is not None:
                    self._guard.follow(call, meter)
                if opening:
                    await relay.opening(OPENING_S)
        except UpstreamError as error:
            self._failed(call, attempt, error, sent=True)
            raise failure(upstream, error) from error
        except asyncio.CancelledError:
            relay.close()
            self.settle(call, attempt, sent=True)
            raise
        relay.head = (answer.status, headers)
        ours = translation is not None or upstream.kind == "litellm"
        stream = ForwardedStream(self, call, attempt, relay, ends_broken=ours)
        return Reply(answer.status, headers, stream=stream)

    def _whole(self, call: Call, asked: Asked, body: bytes, headers: HeaderList) -> Reply:
        """The reply whose whole ``body`` the meter has read."""
        attempt, upstream, answer = asked.attempt, asked.upstream, asked.answer
        self.settle(call, attempt, sent=True)
        note_end(call, attempt)
        if asked.translation is not None and cast("TranslatingMeter", call.meter).broken:
            said = "answered with something that cannot be translated"
            raise UpstreamFailed(f"upstream {upstream.name!r} {said}", code="untranslatable_reply")
        if answer.status >= 400:
            body, headers = upstream.without_key(body, headers)
        return Reply(answer.status, headers, body)

    async def _fetch(self, call: Call, upstream: Upstream) -> Reply:
        """Answer a request that asks no model, such as the list of models."""
        await upstream.ready()
        replica = upstream.pool.pick(upstream.replicas, call) or upstream.replicas[0]
        target = self._target(call, upstream, replica, upstream.speech.translation_for(call))
        lines = upstream.head_for(call)
        call.outcome = Outcome.SERVED
        try:
            answer = await replica.pool.request(
                call.request.method.encode(), target.encode(), lines, call.request.body
            )
            headers = returned_headers(answer.headers)
            bodiless = call.request.method == "HEAD" or answer.status in (204, 304)
            if answer.status >= 400 and not bodiless:
                body, headers = upstream.without_key(await answer.read(ERROR_LIMIT), headers)
            elif bodiless or answer.length is None or answer.length > FETCHED_WHOLE:
                return Reply(answer.status, headers, stream=FetchedStream(call, answer, headers))
            else:
                body = await answer.read(FETCHED_WHOLE)
        except UpstreamError as error:
            raise failure(upstream, error) from error
        return Reply(answer.status, headers, body)

    # -- how it ended

    def settle(self, call: Call, attempt: Attempt, *, sent: bool) -> None:
        """Book an attempt that is over; ``sent``: it may have been seen."""
        attempt.ended_ns = time.monotonic_ns()
        self.books.settle(call, attempt, sent=sent)

    def _failed(self, call: Call, attempt: Attempt, error: UpstreamError, *, sent: bool) -> None:
        call.outcome, call.outcome_reason = Outcome.FAILED, error.message[:500]
        attempt.error_type = call.error_type = f"upstream_{error.kind}"
        self.settle(call, attempt, sent=sent)


FETCHED_WHOLE = 64 << 10
"""Largest reply that is taken whole where no model was asked, so that one that breaks off is an error."""
ERROR_LIMIT = 8 << 20
"""Largest error to such a request, in bytes: it is looked through for our key."""


def is_stream(headers: HeaderList) -> bool:
    """Whether a reply comes in events."""
    for name, value in headers:
        if name == b"content-type":
            return comes_in_events(value)
    return False


@lru_cache(maxsize=256)
def comes_in_events(content_type: bytes) -> bool:
    """Whether a body of this type is a sequence of events."""
    named = content_type.lower()
    return any(mark in named for mark in (b"event-stream", b"eventstream", b"ndjson"))


def failure(upstream: Upstream, error: UpstreamError) -> UpstreamFailed:
    """What the agent is told when an upstream did not answer; the origin and the key stay with us."""
    said = {
        "connect": "cannot be reached",
        "tls": "has no valid certificate",
        "reset": "broke the connection off",
        "redirect": "answered with a redirect, which is never followed",
        "protocol": "answered with something that is not HTTP",
        "pool_full": "has all its connections in use",
        "too_large": "answered with more than we take",
    }.get(error.kind, "did not answer in time")
    return UpstreamFailed(
        f"upstream {upstream.name!r} {said}", code=f"upstream_{error.kind}", timed_out=error.kind in _TIMEOUTS
    )
