"""Similar answers: looked for, given within the error that is allowed, and compared with what the model says.

What was compared is kept in the data directory, and told to other sidecars through Redis where one is set, so
that neither a restart nor a new sidecar begins from nothing.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from collector.export.prometheus import CallMetrics
from collector.logs import get
from sidecar.cache.bound import Bin, Bound, Place, place_of
from sidecar.cache.entry import Entry
from sidecar.cache.key import Asked
from sidecar.cache.names import digest_of
from sidecar.cache.question import question_of
from sidecar.cache.said import text_of
from sidecar.cache.settings import CacheRouteConfig, SimilarConfig
from sidecar.cache.similar.asking import Near, Similar

if TYPE_CHECKING:
    from sidecar.cache.redis_store import RedisStore

log = get("bursar.cache")

SAVE_EVERY_S: Final = 5.0
HEAR_EVERY_S: Final = 30.0
MOST_COMPARING: Final = 32
"""Comparisons under way at one time; more are let go."""
_ENDS: Final = frozenset(("stop", "end_turn", "stop_sequence", "completed"))

Told = list[tuple[bytes, str, int, Bin]]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Told).decode


class Rule(NamedTuple):
    """What may be given for one call."""

    distance: float
    max_error: float
    verify: float
    rephrased: bool
    multi_turn: bool


class Question(NamedTuple):
    """What a call asks, and where a similar answer could be."""

    text: str
    scope: bytes
    """Stands for everything that must be the same to the letter."""
    owner: tuple[bytes, bytes]
    """Digests of tenant and model, for taking answers away."""


class Check(NamedTuple):
    """A similar answer that was not given: it is compared with what the model says."""

    entry: Entry
    place: Place
    max_error: float
    tenant: str
    call_id: str
    distance: float
    serving: bool
    """Whether it could have been given, and was left to be compared."""


def rule_for(config: SimilarConfig, route: CacheRouteConfig | None) -> Rule:
    """What may be given on ``route``."""
    distance = route.distance if route is not None else None
    max_error = route.max_error if route is not None else None
    return Rule(
        config.distance if distance is None else distance,
        float(config.max_error if max_error is None else max_error),
        float(config.verify),
        config.rephrased,
        config.multi_turn,
    )


def asks(asked: Asked, rule: Rule) -> Question | None:
    """What ``asked`` asks; None where no similar answer may be given to it."""
    call = asked.call
    facts = call.facts
    assert facts is not None
    found = question_of(facts.api, asked.body, multi_turn=rule.multi_turn)
    if found is None:
        return None
    text, around = found
    owner = (digest_of(call.caller.tenant), digest_of(facts.model))
    return Question(text, asked.digest(around, b"similar"), owner)


class Resemblance:
    """Finds similar answers, and knows how far they may be trusted.

    Args:
        folder: where what was compared is kept.
        who: tells this sidecar from others of this machine.
        more: what the finder is told besides the settings of the embedding.
        on_compared: told of each comparison, and whether the similar answer was right.
        on_used: told of tokens that an embeddings endpoint has read.
        on_edited: told of questions in Redis that somebody edited.
    """

    def __init__(
        self,
        config: SimilarConfig,
        folder: Path,
        who: str,
        metrics: CallMetrics,
        *,
        more: dict[str, Any] | None = None,
        redis: "RedisStore | None" = None,
        on_compared: Callable[[Check, bool], None] | None = None,
        on_used: Callable[[int], None] = lambda tokens: None,
        on_edited: Callable[[int], None] = lambda questions: None,
    ) -> None:
        self._config = config
        self._file = folder / f"cache-bound-{who}.msgpack"
        self._who = hashlib.blake2b(f"{socket.gethostname()}/{self._file.resolve()}".encode()).hexdigest()[
            :16
        ]
        self._metrics = metrics
        self._redis = redis
        self._on_compared = on_compared
        self.finder = Similar(config.embedding, more, on_used, on_edited)
        self.bound = Bound()
        self._comparing: set[asyncio.Task[None]] = set()
        self._saved = 0
        self.right = self.wrong = 0
        """Comparisons since the start, by how they came out."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Go on from what was known, and start the finder."""
        try:
            self.bound.recall(_decode(self._file.read_bytes()))
        except FileNotFoundError:
            pass  # The first start.
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("what was compared before is lost", file=str(self._file), reason=str(error))
        self.finder.start()
        self._task = asyncio.create_task(self._tend(), name="resemblance")

    async def close(self) -> None:
        """Keep what is known, and end the finder."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for task in list(self._comparing):
            task.cancel()
        await self.finder.close()
        await self._save()

    async def find(self, question: Question, rule: Rule) -> list[Near]:
        """Similar questions whose answers are kept, nearest first; none when they do not come in time."""
        found = await self.finder.near(question.scope, question.text, rule.distance)
        return [near for near in found if rule.rephrased or near.likeness == "same"]

    def serves(self, question: Question, near: Near, rule: Rule) -> bool:
        """Whether the answer to ``near`` may be given; if not, it is compared with the model's."""
        place = place_of(question.scope, near.likeness, near.distance)
        return self.bound.serves(place, rule.max_error, rule.verify)

    def check_of(self, question: Question, near: Near, rule: Rule, entry: Entry, call_id: str) -> Check:
        """What is to be compared once the model has answered."""
        place = place_of(question.scope, near.likeness, near.distance)
        serving = self.bound.is_open(place)
        return Check(entry, place, rule.max_error, entry.tenant, call_id, near.distance, serving)

    def add(self, question: Question, key: bytes, entry: Entry) -> None:
        """Find ``entry`` for similar questions from now on, if it is an answer in words."""
        if self._redis is not None and self._redis.full:
            return
        if not entry.tool_names and _ENDS.issuperset(entry.finish_reasons):
            self.finder.add(question.scope, question.owner, key, question.text, entry.expires_at)

    def compare(self, check: Check, entry: Entry) -> None:
        """Compare the similar answer with the model's, and learn from it; nobody waits."""
        if len(self._comparing) < MOST_COMPARING:
            task = asyncio.ensure_future(self._compare(check, entry))
            self._comparing.add(task)
            task.add_done_callback(self._comparing.discard)

    async def _compare(self, check: Check, entry: Entry) -> None:
        kept, said = text_of(check.entry), text_of(entry)
        if not kept or not said:
            return
        right = kept == said or await self.finder.agree(kept, said)
        if right is None:
            return
        self.bound.learn(check.place, check.max_error, right=right)
        self.right, self.wrong = self.right + right, self.wrong + (not right)
        self._metrics.add("bursar_cache_comparisons_total", {"result": "right" if right else "wrong"}, 1)
        if self._on_compared is not None:
            self._on_compared(check, right)

    def stats(self) -> dict[str, object]:
        """For people: what finds similar answers, and how right they are."""
        serving, learning = self.bound.counts()
        measured = self.bound.measured()
        finder = self.finder
        return {
            "found_by": finder.runner or "nothing yet",
            "problem": finder.problem,
            "late": finder.lates,
            "bins_serving": serving,
            "bins_learning": learning,
            "error": None if measured is None else measured.error,
            "error_low": None if measured is None else measured.low,
            "error_high": None if measured is None else measured.high,
            "compared": 0 if measured is None else measured.compared,
            "right": self.right,
            "wrong": self.wrong,
        }

    # -- keeping what is known

    async def _tend(self) -> None:
        hear_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            if self._redis is not None and self._redis.quick and loop.time() >= hear_at:
                hear_at = loop.time() + HEAR_EVERY_S
                await self._hear(self._redis)
            self._show()
            await asyncio.sleep(SAVE_EVERY_S)
            await self._save()

    async def _hear(self, redis: "RedisStore") -> None:
        for who, blob in await redis.notes("bound"):
            if who != self._who:
                with contextlib.suppress(msgspec.MsgspecError):
                    self.bound.hear(who, _decode(blob))

    async def _save(self) -> None:
        if self.bound.changes == self._saved:
            return
        self._saved = self.bound.changes
        blob = _encode(self.bound.told())
        if self._redis is not None:
            self._redis.keep_note("bound", self._who, blob)
        try:
            await asyncio.to_thread(_replace, self._file, blob)
        except OSError as error:
            log.warning("what was compared is not kept", file=str(self._file), reason=str(error))

    def _show(self) -> None:
        measured, metrics = self.bound.measured(), self._metrics
        if measured is not None:
            for name, value in (
                ("measured", measured.error), ("low", measured.low), ("high", measured.high)
            ):  # fmt: skip
                metrics.set_gauge("bursar_cache_similar_error_ratio", {"bound": name}, value)
        serving, learning = self.bound.counts()
        metrics.set_gauge("bursar_cache_similar_bins", {"state": "serving"}, serving)
        metrics.set_gauge("bursar_cache_similar_bins", {"state": "learning"}, learning)
        metrics.set_gauge("bursar_cache_similar_ready", {}, 1.0 if self.finder.quick else 0.0)


def _replace(file: Path, blob: bytes) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}.new")
    fresh.write_bytes(blob)
    fresh.replace(file)
