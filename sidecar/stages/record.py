"""The outermost stage: whatever becomes of a call, it ends in exactly one record.

Our own errors become replies here, in the caller's dialect. The record is in the journal before
the last bytes of the reply are handed to the client's socket.
"""

import asyncio
from collections.abc import Mapping

from collector.domain.money import PICO_PER_NANO, usd_text
from collector.domain.record import CacheResult, Outcome
from sidecar.asker import dialect_of
from sidecar.books import Books
from sidecar.call import Call, Onward, Reply
from sidecar.errors import SidecarError
from sidecar.http import HeaderList, field_lines
from sidecar.wire import error_body, error_fields

CLIENT_LEFT = 499
"""What nginx calls the status of a reply that nobody waited for."""

_SERVED = Outcome.SERVED
_CACHE = {result: b"x-bursar-cache: %b\r\n" % result.value.encode() for result in CacheResult}


class Record:
    """Closes each call in the books, once.

    Args:
        books: where.
        kinds: of the configured upstreams, by name: what they speak, refusals of theirs are worded in.
    """

    def __init__(self, books: Books, kinds: Mapping[str, str]) -> None:
        self._books = books
        self._kinds = kinds

    async def __call__(self, call: Call, onward: Onward) -> Reply:
        """Go onward; then write down how it ended, now or when the stream does."""
        self._books.running += 1
        try:
            reply = await onward(call)
        except SidecarError as error:
            reply = refusal(call, error, self._kinds)
        except asyncio.CancelledError:
            call.outcome, call.outcome_reason = abandoned(call)
            self._books.close(call, CLIENT_LEFT, 0)
            raise
        except BaseException:
            self.broken(call)
            raise
        lines = own_lines(call)
        if reply.stream is None:
            self._books.close(call, reply.status, len(reply.body), later=True)
            tried = call.attempts
            if tried and call.outcome is _SERVED:
                cost = tried[0].cost_pico if len(tried) == 1 else sum([one.cost_pico for one in tried])
                lines = b"%bx-bursar-cost-usd: %b\r\n" % (lines, usd_text(cost).encode())
        call.responder.own_lines = lines
        return reply

    def broken(self, call: Call) -> None:
        """The reply of ``call`` failed on our side, in a way that nothing else took care of."""
        call.outcome, call.error_type = Outcome.FAILED, "internal"
        self._books.close(call, 500, call.responder.bytes_written)

    def closed(self, call: Call, status: int) -> None:
        """The stream of ``call`` is about to end."""
        # What breaks off leaves at once; what ends leaves with others, behind one write to the journal.
        later = call.outcome is not Outcome.FAILED
        self._books.close(call, status, call.responder.bytes_written, later=later)


def abandoned(call: Call) -> tuple[Outcome, str]:
    """How a cancelled call ended: by the agent leaving, unless we cut it ourselves."""
    if call.outcome is Outcome.CUT:
        return call.outcome, call.outcome_reason
    return Outcome.ABANDONED, "client disconnected"


def own_lines(call: Call) -> bytes:
    """What we say on every reply, as header lines."""
    lines = b"x-bursar-call-id: %b\r\n%b" % (call.call_id.encode(), _CACHE[call.cache])
    if call.room_nano is not None:
        room = usd_text(call.room_nano * PICO_PER_NANO)
        lines = b"%bx-bursar-budget-remaining-usd: %b\r\n" % (lines, room.encode())
    if call.notice:
        lines += field_lines([(b"x-bursar-runaway", call.notice)])
    if call.downgraded_from:
        lines += field_lines([(b"x-bursar-downgraded-from", call.downgraded_from.encode())])
    return lines


def refusal(call: Call, error: SidecarError, kinds: Mapping[str, str]) -> Reply:
    """Our own error as a reply in the caller's dialect."""
    sent = any(attempt.sent_ns for attempt in call.attempts)
    call.outcome = Outcome.FAILED if sent or error.http_status in (500, 502) else Outcome.REFUSED
    call.outcome_reason = str(error)[:500]
    call.error_type = error.code
    dialect = dialect_of(call.request.path, call.request.headers, kinds)
    headers: HeaderList = error_fields(dialect, error.status)
    if error.http_status == 405:
        headers.append((b"allow", b"POST"))
    if error.retryable:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    elif error.http_status != 502:
        headers.append((b"x-should-retry", b"false"))
    body = error_body(
        dialect, error.status, kind=error.kind, code=error.code, message=str(error), param=error.param
    )
    return Reply(error.status, headers, body)
