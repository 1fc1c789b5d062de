"""Scores what calls offer, in a thread of its own, on a copy, within a share of one processor.

A call offers its texts and goes on: nothing waits, and what does not fit is dropped and counted. The
thread reads one window of a text (well under a millisecond) and then rests nine times as long, so the event
loop beside it never waits for the interpreter longer than that, and all scoring together has a tenth of one
processor. It is not given a lower priority at the operating system: a thread that was set aside there while
it held the interpreter would hold up every call.

Texts live here until they are scored and go nowhere: what is kept is the call's id, the score, and which
message it was.
"""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from alerts.detectors.finding import Subject
from alerts.injection.bursts import Burst, Bursts
from alerts.injection.model import Model, built_in, windows

SUSPICIOUS: Final = 0.5
"""Score that 9 % of harmless texts full of trigger words reach, and 6 % of ordinary questions."""
HIGH: Final = 0.8
"""Score that 1 % of ordinary questions reach; these make bursts."""

TEXTS_PER_CALL: Final = 16
"""The last so many texts of a call are read: what came newest."""
CPU_PER_CALL_S: Final = 0.015
"""What scoring one call may take; the rest of its texts goes unread then, and is counted."""
SUBJECTS: Final = 1000
"""Subjects whose usual share of high scores is kept; of more, the longest unseen are forgotten."""

Change = tuple[str, Mapping[str, str], int]
"""(counter, its labels, by how much it rose), as ``CallMetrics.add`` takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A call with a high score. Holds no text."""

    call_id: str
    at: float
    """When it was scored, seconds since 1970."""
    score: float
    """0 to 1."""
    text: int
    """Which of the offered texts it was, from 0."""
    labels: Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offered:
    call_id: str
    labels: Subject
    texts: Sequence[tuple[int, str]]


@dataclass(slots=True)
class _Minute:
    at: int
    scored: int = 0
    high: int = 0


class Injections:
    """Takes copies of texts and scores them when there is time for it.

    Args:
        limit_per_s: calls a second that are taken, over a second; further ones are dropped.
        characters_per_text: of a longer text the beginning and the end are read, half of this each.
        waiting: calls that may wait to be scored; further ones are dropped.
        share: part of one processor that scoring may take, above 0 and up to 1.
        kept: high scores that :meth:`recent` remembers.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        limit_per_s: float = 50.0,
        characters_per_text: int = 8192,
        waiting: int = 128,
        share: float = 0.1,
        kept: int = 200,
        model: Model | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not (limit_per_s > 0 and characters_per_text > 0 and waiting > 0 and 0 < share <= 1):
            raise ValueError("limits must be above 0, and the share of a processor at most 1")
        self._model = built_in() if model is None else model
        self._limit = limit_per_s
        self._credit = max(1.0, limit_per_s)
        self._credit_at = clock()
        self._half = max(1, characters_per_text // 2)
        self._waiting: deque[_Offered] = deque()
        self._most_waiting = waiting
        self._rest = 1 / share - 1
        self._clock = clock
        self._lock = threading.Lock()
        self._changes: Counter[tuple[str, str]] = Counter()
        self._recent: deque[Seen] = deque(maxlen=kept)
        self._minutes: dict[Subject, _Minute] = {}
        self._watched: OrderedDict[Subject, Bursts] = OrderedDict()
        self._open: dict[Subject, Burst] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="injection-scores", daemon=True)

    def start(self) -> None:
        """Begin to score. Once."""
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread; what waits is forgotten."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._waiting.clear()
        self._busy = False

    def offer(self, call_id: str, labels: Mapping[str, str], texts: Sequence[str]) -> bool:
        """Have ``texts`` scored, oldest first, if there is room; never waits. Whether they were taken.

        ``labels`` say whose they are, with few values each (tenant, agent). Takes microseconds. Always
        from the same thread.
        """
        if not texts:
            return False
        if not self._admit():
            return False
        first = max(0, len(texts) - TEXTS_PER_CALL)
        cut = [(index, self._cut(texts[index])) for index in range(first, len(texts))]
        self._waiting.append(_Offered(call_id=call_id, labels=tuple(sorted(labels.items())), texts=cut))
        self._wake.set()
        return True

    def changes(self) -> list[Change]:
        """What the counters rose by since this was last asked; for the metrics at each scrape."""
        with self._lock:
            rose, self._changes = self._changes, Counter()
        found: list[Change] = []
        for (kind, value), amount in rose.items():
            if kind == "bucket":
                found.append(("bursar_injection_scores_total", {"bucket": value}, amount))
            else:
                found.append(("bursar_dropped_total", {"stage": "injection", "reason": value}, amount))
        return found

    def recent(self) -> list[Seen]:
        """The calls with a high score, newest first."""
        with self._lock:
            return list(reversed(self._recent))

    def bursts(self) -> list[Burst]:
        """The bursts that are open, of each subject, by the minutes that are over."""
        with self._lock:
            self._close_minutes(int(self._clock()) // 60 * 60)
            return list(self._open.values())

    @property
    def idle(self) -> bool:
        """Whether everything that was taken is scored."""
        return not self._waiting and not self._busy

    def _admit(self) -> bool:
        now = self._clock()
        earned = max(0.0, now - self._credit_at) * self._limit
        self._credit = min(max(1.0, self._limit), self._credit + earned)
        self._credit_at = now
        reason = "full" if len(self._waiting) >= self._most_waiting else "rate" if self._credit < 1 else ""
        if reason:
            with self._lock:
                self._changes["dropped", reason] += 1
            return False
        self._credit -= 1
        return True

    def _cut(self, text: str) -> str:
        if len(text) <= 2 * self._half:
            return text
        return f"{text[: self._half]}\n{text[-self._half :]}"

    # ---- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._busy = True
            while self._waiting and not self._stop.is_set():
                offered = self._waiting.popleft()
                try:
                    self._score(offered)
                except Exception:  # whatever a text does to the model, the next text is another
                    with self._lock:
                        self._changes["dropped", "error"] += 1
            self._busy = False
            self._wake.wait()

    def _score(self, offered: _Offered) -> None:
        """Score one call, resting after each window. The newest text is read first."""
        worst, where, used, cut = 0.0, 0, 0.0, False
        for index, text in reversed(offered.texts):
            for window in windows(text):
                if cut := used >= CPU_PER_CALL_S:
                    break
                began = time.thread_time()
                score = self._model.score_window(window)
                took = time.thread_time() - began
                used += took
                if score > worst:
                    worst, where = score, index
                if self._rest and self._stop.wait(took * self._rest):
                    return
            if cut:
                break
        self._book(offered, worst, where, cut)

    def _book(self, offered: _Offered, score: float, where: int, cut: bool) -> None:
        now = self._clock()
        bucket = "high" if score >= HIGH else "suspicious" if score >= SUSPICIOUS else "low"
        minute = int(now) // 60 * 60
        with self._lock:
            self._changes["bucket", bucket] += 1
            if cut:
                self._changes["dropped", "time"] += 1
            self._close_minutes(minute)
            count = self._minutes.setdefault(offered.labels, _Minute(minute))
            count.scored += 1
            if bucket == "high":
                count.high += 1
                self._recent.append(
                    Seen(call_id=offered.call_id, at=now, score=score, text=where, labels=offered.labels)
                )

    def _close_minutes(self, now: int) -> None:
        """Show the detectors the minutes that are over. Under the lock."""
        over = [subject for subject, minute in self._minutes.items() if minute.at < now]
        for subject in over:
            minute = self._minutes.pop(subject)
            self._observe(subject, minute.at, minute.scored, minute.high)
        last = now - 60
        for subject in [subject for subject, burst in self._open.items() if burst.at < last]:
            self._observe(subject, last, 0, 0)

    def _observe(self, subject: Subject, at: int, scored: int, high: int) -> None:
        watch = self._watched.setdefault(subject, Bursts(subject))
        self._watched.move_to_end(subject)
        burst = watch.observe(at, scored, high)
        if burst:
            self._open[subject] = burst
        else:
            self._open.pop(subject, None)
        for forgotten in list(islice(self._watched, max(0, len(self._watched) - SUBJECTS))):
            del self._watched[forgotten]
            self._open.pop(forgotten, None)
