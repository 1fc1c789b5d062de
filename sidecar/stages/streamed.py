"""A reply that is relayed while it comes, and how a reply's end is told in the record."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from collector.domain.record import Outcome
from collector.logs import Redactor, redact
from sidecar.call import Attempt, Call
from sidecar.http import UpstreamError
from sidecar.relay import Relay
from sidecar.stages.identify import credentials_of
from sidecar.wire import error_event, terminal_events

if TYPE_CHECKING:
    from sidecar.stages.forward import Forward


_SERVED = Outcome.SERVED


class ForwardedStream:
    """A reply that is relayed while it comes."""

    __slots__ = ("_attempt", "_call", "_ends_broken", "_forward", "_relay")

    def __init__(
        self, forward: "Forward", call: Call, attempt: Attempt, relay: Relay, *, ends_broken: bool
    ) -> None:
        self._ends_broken = ends_broken
        """A provider's own stream breaks off as it does; one that we write ends with an error of ours."""
        self._forward = forward
        self._call = call
        self._attempt = attempt
        self._relay = relay

    @property
    def failed(self) -> str:
        """Why nobody should see it, while it only began; empty when all is well."""
        return self._relay.failed

    @property
    def asked_s(self) -> float | None:
        """How long the error in it asks to wait."""
        wrong = self._call.meter.facts().error if self._call.meter is not None else None
        return wrong.retry_after_s if wrong is not None else None

    def seal(self) -> None:
        """It failed before it said anything: book it, and take no more of it, seen or not."""
        kind = self.failed
        self._relay.seal()
        self._settle()
        self._attempt.error_type = kind

    async def run(self, on_end: Callable[[], None]) -> None:
        """Relay until the end, the agent's leaving, or a cut."""
        call = self._call
        call.cut, call.go_on = self._cut, self._relay.go_on
        try:
            await self._relay.run(partial(self._finish, on_end), call.watch, call.watch_room)
        except asyncio.CancelledError:
            self._relay.close()
            self._call.outcome, self._call.outcome_reason = Outcome.ABANDONED, "client disconnected"
            self._settle()
            on_end()
            raise
        except BaseException:
            self._relay.close()
            self._settle()
            raise

    def _cut(self, reason: str) -> bool:
        if self._relay.is_over:
            return False
        call = self._call
        call.outcome, call.outcome_reason = Outcome.CUT, reason
        choices = call.facts.choice_count if call.facts is not None else 1
        facts = call.meter.facts() if call.meter is not None else None
        if self._forward.cut_with_error:
            message = f"the stream was cut: {reason}"
            ending = error_event(
                call.api,
                402,
                kind="insufficient_quota",
                code="stream_cut",
                message=message,
                facts=facts,
            )
        else:
            ending = terminal_events(call.api, facts, reason, choices=choices)
        return self._relay.cut(ending)

    def _finish(self, on_end: Callable[[], None]) -> None:
        self._settle()
        error = self._relay.error
        if error is not None:
            self._call.outcome, self._call.outcome_reason = Outcome.FAILED, error.message[:500]
            self._attempt.error_type = self._call.error_type = f"upstream_{error.kind}"
            if self._ends_broken:
                self._relay.last_words = self._error_event(error)
        elif self._call.outcome is not Outcome.CUT:
            note_end(self._call, self._attempt)
        on_end()

    def _error_event(self, error: UpstreamError) -> bytes:
        """The end of a stream whose bytes are ours and whose upstream broke off; nothing where it is none."""
        meter = self._call.meter
        if meter is None or not meter.streaming:
            return b""
        return error_event(
            self._call.api,
            502,
            kind="api_error",
            code=f"upstream_{error.kind}",
            message=f"upstream {self._attempt.upstream!r} broke the stream off",
            facts=meter.facts(),
        )

    def _settle(self) -> None:
        self._attempt.first_chunk_ns = self._relay.first_ns
        self._forward.settle(self._call, self._attempt, sent=True)


def note_end(call: Call, attempt: Attempt) -> None:
    """Name the outcome of a reply that came to its end."""
    reply = call.reply_facts
    wrong = reply.error if reply else None
    if wrong is not None or (attempt.status or 0) >= 400:
        call.outcome = Outcome.FAILED
        attempt.error_type = call.error_type = (wrong.error_class if wrong else "") or str(attempt.status)
        call.outcome_reason = reason_of(wrong.message, call) if wrong else ""
    else:
        call.outcome = _SERVED


def reason_of(message: str, call: Call) -> str:
    """What a provider said is wrong, for the record; without the keys that some of them repeat."""
    return Redactor(credentials_of(call.request.headers))(redact(message))[:500]
