"""The process that makes vectors and finds near texts; started by :mod:`sidecar.cache.similar.asking`.

It holds the questions of kept answers and their vectors, never the answers. What it names has passed the
guards (:mod:`sidecar.cache.guards`): what is slow about that is slow here, where no call waits past its
deadline.
"""

import os

# One thread: two of BLAS under load took 0.3 to 1.5 s for a vector that takes 12 ms.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sidecar.cache.guards import Told, judge, told_by
from sidecar.cache.similar.comparing import same_answer
from sidecar.cache.similar.frames import LENGTH_BYTES, MOST_FRAME, pack, unpack
from sidecar.cache.similar.index import Growing
from sidecar.cache.similar.runners import Endpoint, Runner, RunnerMissing, Vectors, distance_of, runner_of

if TYPE_CHECKING:
    from sidecar.cache.similar.shelf import Shelf

NEAREST: Final = 8
"""Near texts that the guards look at."""
LONGEST_READ: Final = 4_000
"""Characters of an answer that are made a vector of; no model reads more."""
REMEMBERED: Final = 512
"""Vectors of texts asked for lately: what was looked for in vain is added next."""
SETTLED_S: Final = 1.0
"""How often it is looked whether a scope has outgrown its products."""
SEARCH_SHARE: Final = 0.5
"""Part of the deadline that products may take; the rest is for the vector and the guards."""
AT_ONCE: Final = 32
"""Frames that wait for somebody else at one time."""


Found = tuple[bytes, float, str]
"""Key, distance and likeness."""
Owner = tuple[bytes, bytes]
"""Digests of a tenant and a model."""


class Kept(NamedTuple):
    """A text whose answer is kept."""

    key: bytes
    told: Told
    expires_at: float


class Scope:
    """The texts of one scope."""

    def __init__(self, owner: Owner, patience_s: float) -> None:
        self.owner = owner
        self.index = Growing(patience_s=patience_s)
        self.kept: dict[int, Kept] = {}
        self.numbers: dict[bytes, int] = {}

    def put(self, number: int, kept: Kept, vector: Vectors) -> None:
        """Find ``kept`` from now on."""
        self.drop(kept.key)
        self.kept[number], self.numbers[kept.key] = kept, number
        self.index.add(number, vector)

    def drop(self, key: bytes) -> int:
        """Find it no more; how many that were."""
        number = self.numbers.pop(key, None)
        if number is None:
            return 0
        del self.kept[number]
        self.index.drop(number)
        return 1


class Finder:
    """Answers frames.

    Args:
        most: texts that are held at most; those of the scope not used longest leave first.
        deadline_s: what a look-up may take in all.
    """

    def __init__(
        self,
        runner: Runner,
        most: int,
        shelf: "Shelf | None" = None,
        clock: Callable[[], float] = time.time,
        deadline_s: float = float("inf"),
    ) -> None:
        self._runner = runner
        self._most = most
        self._shelf = shelf
        self._clock = clock
        self._patience_s = SEARCH_SHARE * deadline_s
        self._scopes: dict[bytes, Scope] = {}
        self._size = self._number = 0
        self._vectors: dict[str, Vectors] = {}

    def __len__(self) -> int:
        return self._size

    async def answer(self, asked: list[Any]) -> Any:
        """What ``asked`` is answered with.

        Raises:
            OSError, ValueError: there are no vectors, or the frame is none of ours.
        """
        what, rest = asked[1], asked[2:]
        match what:
            case "find":
                scope, text, within, until = rest
                return await self._find(scope, text, within) if time.monotonic() < until else []
            case "compare":
                one, other = rest
                vectors = await self._embed([one[:LONGEST_READ], other[:LONGEST_READ]])
                return same_answer(one, other, distance_of(self._runner, *vectors))
            case "add":
                return await self._add(*rest)
            case "drop":
                return self._drop(*rest)
            case "forget":
                return self._forget(*rest)
            case "lose":
                return self._lose(*rest)
        raise ValueError(f"there is no {what!r}")

    async def settle(self) -> None:
        """Move vectors to where very many are searched, half of the time while there are any to be moved."""
        while True:
            began = time.monotonic()
            moved = any(scope.index.move() for scope in self._scopes.values())
            await asyncio.sleep(time.monotonic() - began if moved else SETTLED_S)

    async def _find(self, scope_name: bytes, text: str, within: float) -> list[Found]:
        shelf, now = self._shelf, self._clock()
        if shelf is not None and shelf.searches:
            return await self._found_by(shelf, scope_name, text, within)
        scope = await self._scope(scope_name)
        if scope is None:
            return []
        told = told_by(text)
        vector = (await self._embed([text]))[0]
        found: list[Found] = []
        for number, distance in scope.index.near(vector, within / self._runner.scale, NEAREST):
            kept = scope.kept[number]
            if kept.expires_at <= now:
                self._size -= scope.drop(kept.key)
                continue
            verdict = judge(told, kept.told)
            if verdict.likeness != "apart":
                found.append((kept.key, distance * self._runner.scale, verdict.likeness))
        return found

    async def _found_by(self, shelf: "Shelf", scope: bytes, text: str, within: float) -> list[Found]:
        """The same, searched by the server."""
        told, scale = told_by(text), self._runner.scale
        vector = (await self._embed([text]))[0]
        found: list[Found] = []
        for shelved, distance in await shelf.search(scope, vector, NEAREST):
            verdict = judge(told, told_by(shelved.text))
            if distance * scale <= within and verdict.likeness != "apart":
                found.append((shelved.key, max(0.0, distance) * scale, verdict.likeness))
        return found

    async def _scope(self, name: bytes) -> Scope | None:
        """The texts of a scope, with those that others have put on the shelf; it is the one used last now."""
        if self._shelf is not None:
            for kept in await self._shelf.news(name):
                self._put(name, kept.owner, Kept(kept.key, told_by(kept.text), kept.expires_at), kept.vector)
        scope = self._scopes.pop(name, None)
        if scope is not None:
            self._scopes[name] = scope
        return scope

    async def _add(self, scope: bytes, owner: Owner, key: bytes, text: str, expires_at: float) -> None:
        vector = (await self._embed([text]))[0]
        shelf = self._shelf
        if shelf is not None:
            shelf.put(scope, (owner[0], owner[1]), key, text, vector, expires_at)
        if shelf is None or not shelf.searches:
            self._put(scope, owner, Kept(key, told_by(text), expires_at), vector)

    def _put(self, name: bytes, owner: Owner, kept: Kept, vector: Vectors) -> None:
        scope = self._scopes.pop(name, None) or Scope((owner[0], owner[1]), self._patience_s)
        self._scopes[name] = scope
        self._size -= scope.drop(kept.key)
        self._number += 1
        scope.put(self._number, kept, vector)
        self._size += 1
        while self._size > self._most:
            # Of the scope not used longest, the text that came first.
            oldest = next(iter(self._scopes))
            left = self._scopes[oldest]
            self._size -= left.drop(next(iter(left.kept.values())).key)
            if not left.kept:
                del self._scopes[oldest]

    def _drop(self, name: bytes, owner: Owner, key: bytes) -> None:
        if self._shelf is not None:
            self._shelf.drop(name, (owner[0], owner[1]), key)
        scope = self._scopes.get(name)
        if scope is not None:
            self._size -= scope.drop(key)

    def _forget(self, tenant: bytes | None, model: bytes | None) -> None:
        wanted = (tenant, model)
        gone = [
            name
            for name, scope in self._scopes.items()
            if all(want in (None, owner) for want, owner in zip(wanted, scope.owner, strict=True))
        ]
        for name in gone:
            self._size -= len(self._scopes.pop(name).kept)
        self._vectors.clear()

    def _lose(self, keys: list[bytes]) -> None:
        for name, scope in list(self._scopes.items()):
            for key in scope.numbers.keys() & keys:
                self._size -= scope.drop(key)
            if not scope.kept:
                del self._scopes[name]
        self._vectors.clear()

    async def _embed(self, texts: list[str]) -> list[Vectors]:
        known = self._vectors
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            embed = self._runner.embed
            rows = await asyncio.to_thread(embed, missing) if self._runner.waits else embed(missing)
            while known and len(known) + len(missing) > REMEMBERED:
                del known[next(iter(known))]
            known.update(zip(missing, rows, strict=True))
        return [known[text] for text in texts]


async def serve(
    assignment: dict[str, Any], reader: asyncio.StreamReader, write: Callable[[bytes], Any]
) -> int:
    """Answer frames until there are no more."""
    try:
        runner, problem = runner_of(assignment)
        await asyncio.to_thread(runner.embed, ["warm"]) if not runner.waits else None
    except RunnerMissing as error:
        write(pack({"runner": "", "problem": str(error)}))
        return 1
    shelf = None
    if assignment.get("redis"):
        from sidecar.cache.similar.shelf import Shelf

        shelf = Shelf(
            assignment["redis"],
            assignment["secret"],
            runner.name,
            encrypt=assignment["encrypt"],
            on_edited=lambda: write(pack([0, "edited", 1])),
        )
        shelf.start()
    finder = Finder(runner, assignment["entries"], shelf, deadline_s=assignment["deadline_s"])
    write(pack({"runner": runner.name, "problem": problem}))
    settling = asyncio.create_task(finder.settle(), name="settling")
    running: set[asyncio.Task[None]] = set()
    room = asyncio.Semaphore(AT_ONCE)

    async def one(asked: list[Any]) -> None:
        try:
            said = [asked[0], await finder.answer(asked)]
        except (OSError, ValueError, TypeError) as error:
            said = [asked[0], None, f"{type(error).__name__}: {error}"[:300]]
        finally:
            room.release()
        if asked[0]:
            write(pack(said))
        if isinstance(runner, Endpoint) and (tokens := runner.used()):
            write(pack([0, "used", tokens]))

    while (body := await frame(reader)) is not None:
        await room.acquire()
        task = asyncio.ensure_future(one(unpack(body)))
        running.add(task)
        task.add_done_callback(running.discard)
    settling.cancel()
    return 0


async def frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame's body; None at the end."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        size = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
        if size <= MOST_FRAME:
            return await reader.readexactly(size)
    return None


async def run() -> int:
    """Serve on standard input and output."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2 * MOST_FRAME)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    body = await frame(reader)
    if body is None:
        return 2

    def write(said: bytes) -> None:
        # The sidecar reads without end; should it not, there is nobody to serve.
        sys.stdout.buffer.write(said)
        sys.stdout.buffer.flush()

    try:
        return await serve(unpack(body), reader, write)
    except (BrokenPipeError, msgspec.MsgspecError):
        return 2


if __name__ == "__main__":
    os.nice(5)
    sys.exit(asyncio.run(run()))
