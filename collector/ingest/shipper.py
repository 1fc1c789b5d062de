"""Sends the journal of a machine that has no collector of its own to one that has.

    python -m collector.ingest.shipper --journal .bursar/journal --to http://books.internal:4010

A small process beside the sidecars, never inside them: it reads their segments, posts batches
of at most 1 MiB, and deletes what the collector has acknowledged, after a grace. It keeps no
state: asked for another sequence than it sends, it goes where it is told.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from collector import logs
from collector.ingest.archive import ArchiveConfig
from collector.ingest.archive import let_go as let_go_of_segments
from collector.ingest.pairing import Mark
from collector.ingest.remote import packed
from collector.journal import (
    BadSegment,
    Frame,
    ReadEnd,
    Segment,
    frame_bytes,
    read_frames,
    segment_header,
    segments,
    source_is_alive,
)

BATCH_BYTES = 768 << 10
"""Of frames in a batch: below 1 MiB however little they compress."""
_TIMEOUT_S = 30.0
_ROUNDS_APART = 60

_log = logs.get("collector.shipper")


class Refused(Exception):
    """The collector would not take a batch."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the collector said."""

    status: int
    fields: dict[str, object]


Post = Callable[[dict[str, str], bytes], Answer]


def poster(url: str, key: str | None) -> Post:
    """Posts batches to the collector at ``url``.

    Raises:
        ValueError: ``url`` is not an http address.
    """
    where = urlsplit(url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise ValueError(f"not an http address: {url!r}")
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    headers = {"content-type": "application/octet-stream", "content-encoding": "gzip"}
    if key:
        headers["authorization"] = f"Bearer {key}"

    def post(about: dict[str, str], body: bytes) -> Answer:
        connection = kind(where.hostname or "", where.port, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", f"/v1/journal?{urlencode(about)}", body, headers)
            reply = connection.getresponse()
            text = reply.read(65536)
        finally:
            connection.close()
        try:
            fields = json.loads(text)
        except ValueError:
            fields = {}
        return Answer(reply.status, fields if isinstance(fields, dict) else {})

    return post


class _Unsendable(Exception):
    """One source cannot be sent at this moment, whatever the others do."""


@dataclass(slots=True)
class _Source:
    """How far one source has been sent."""

    mark: Mark = field(default_factory=Mark)
    known: bool = False
    """The collector has said how far it has this source; before, nothing can be called lost."""
    resting: int = 0
    """Rounds that it is passed over, for it could not be sent."""


class Shipper:
    """Sends what is in ``directory``.

    Args:
        directory: the journal's.
        post: how a batch goes to the collector.
        archive: what is kept of that which was acknowledged.
        alive: whether the process of a source still runs.
    """

    def __init__(
        self,
        directory: Path,
        post: Post,
        archive: ArchiveConfig | None = None,
        *,
        alive: Callable[[Path, str], bool] = source_is_alive,
    ) -> None:
        self._directory = directory
        self._post = post
        self._archive = archive or ArchiveConfig()
        self._alive = alive
        self._sources: dict[str, _Source] = {}

    def step(self) -> int:
        """Send a batch of each source that has something new; the number of frames taken.

        Raises:
            OSError, http.client.HTTPException: the collector cannot be reached.
            Refused: it does not take what we send.
        """
        found: dict[str, list[Segment]] = {}
        for segment in segments(self._directory):
            found.setdefault(segment.source, []).append(segment)
        sent = 0
        for source, parts in found.items():
            state = self._sources.setdefault(source, _Source())
            if state.resting:
                state.resting -= 1
            elif not state.mark.ended:
                try:
                    sent += self._send(source, parts, state)
                except _Unsendable as error:
                    # The others have nothing to do with it.
                    state.resting = _ROUNDS_APART
                    _log.warning(
                        "a source cannot be sent, and is tried again", source=source, reason=str(error)
                    )
        return sent

    def let_go(self) -> None:
        """Delete segments that were acknowledged and are old enough."""
        let_go_of_segments(
            self._directory,
            {source: state.mark for source, state in self._sources.items()},
            self._archive,
        )

    def _send(self, source: str, parts: list[Segment], state: _Source) -> int:
        try:
            # Asked before it is read: what it wrote until then is read afterwards.
            alive = self._alive(self._directory, source)
            frames, mark, done = _next_frames(parts, state.mark, alive)
        except OSError as error:
            raise _Unsendable(f"its journal cannot be read: {error.strerror}") from error
        ended = done and not alive
        if not frames and not ended:
            state.mark = mark
            return 0
        body = b"".join(frame_bytes(frame.sequence, frame.kind, frame.payload) for frame in frames)
        about = {"source": source}
        if state.known and frames and frames[0].sequence > state.mark.sequence + 1:
            about["gap"] = "1"
        if ended:
            about["ended"] = "1"
        answer = self._post(about, packed(body))
        if answer.status == http.HTTPStatus.CONFLICT:
            self._rewind(source, state, parts, int(str(answer.fields.get("expected", 1))))
            return 0
        if answer.status == http.HTTPStatus.BAD_REQUEST:
            raise _Unsendable(f"the collector does not take it: {answer.fields.get('error', '')}")
        if answer.status != http.HTTPStatus.OK:
            raise Refused(f"the collector answered {answer.status}: {answer.fields.get('error', '')}")
        state.mark = mark._replace(ended=ended)
        state.known = True
        return len(frames)

    def _rewind(self, source: str, state: _Source, parts: list[Segment], expected: int) -> None:
        """Go to the segment that holds ``expected``, or to the first that there is."""
        begin = parts[0]
        for part in parts:
            try:
                first = segment_header(part.path).first_sequence
            except (BadSegment, OSError):
                continue
            if first <= expected:
                begin = part
        _log.info("the collector asks for another part of the journal", source=source, sequence=expected)
        state.mark = Mark(sequence=expected - 1, segment=begin.number, position=0)
        state.known = True


def _next_frames(parts: list[Segment], mark: Mark, alive: bool) -> tuple[list[Frame], Mark, bool]:
    """The next batch after ``mark``, the mark behind it, and whether nothing more is there."""
    frames: list[Frame] = []
    size = 0
    for part in parts:
        if part.number < mark.segment:
            continue
        if part.number > mark.segment:
            mark = mark._replace(segment=part.number, position=0)
        while True:
            try:
                read, end = read_frames(part.path, mark.position, BATCH_BYTES)
            except (BadSegment, FileNotFoundError):
                read, end = [], ReadEnd.TORN
            for frame in read:
                if frame.sequence > mark.sequence:
                    hole = bool(frames) and frame.sequence != frames[-1].sequence + 1
                    if hole or (frames and size + len(frame.payload) > BATCH_BYTES):
                        return frames, mark, False
                    frames.append(frame)
                    size += len(frame.payload)
                    mark = mark._replace(sequence=frame.sequence)
                mark = mark._replace(position=frame.end)
            if not read or end in (ReadEnd.TORN, ReadEnd.CORRUPT):
                break
        if part is parts[-1]:
            return frames, mark, True
    return frames, mark, True


def run(shipper: Shipper, stop: threading.Event, interval_s: float = 1.0) -> None:
    """Send until ``stop``, patiently: an unreachable collector is tried again, ever less often."""
    state = logs.StateLog(_log, "the collector", good="reachable")
    pause = interval_s
    while not stop.is_set():
        try:
            sent = shipper.step()
            shipper.let_go()
            state.enter("reachable")
            pause = 0.0 if sent else interval_s
        except (OSError, http.client.HTTPException, Refused) as error:
            state.enter("not reachable", reason=str(error)[:200])
            pause = min(60.0, max(interval_s, pause * 2))
        stop.wait(pause)


def main(argv: list[str] | None = None) -> int:
    """The process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--journal", type=Path, required=True, help="the journal directory")
    parser.add_argument("--to", required=True, help="the collector's address, such as http://host:4010")
    parser.add_argument("--grace-hours", type=float, default=24.0, help="how long sent segments are kept")
    arguments = parser.parse_args(argv)
    logs.configure("shipper")
    try:
        post = poster(arguments.to, os.environ.get("BURSAR_CONTROL_KEY"))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    archive = ArchiveConfig(grace_s=arguments.grace_hours * 3600)
    started = time.monotonic()
    run(Shipper(arguments.journal, post, archive), stop)
    _log.info("ended", duration_s=round(time.monotonic() - started, 1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
