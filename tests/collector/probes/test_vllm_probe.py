"""The probe against servers that answer, hang, drip, flood and die."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from collector.probes.vllm_probe import MOST_REPLICAS, EngineProbe, EngineProbeConfig, Page, Unreadable

QUICK = EngineProbeConfig(interval_s=0.02, deadline_s=0.4, most_bytes=100_000, most_waiting=20)


class Engine:
    """A server of ``/metrics`` whose behaviour can be changed at any time."""

    def __init__(self) -> None:
        self.tokens = 0
        self.started = 100.0
        self.behaviour = "answers"
        self.looks = 0
        self.connections = 0
        self.released = threading.Event()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                engine.connections += 1

            def do_GET(self) -> None:
                with suppress(OSError):
                    engine.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        self.looks += 1
        if to.path != "/metrics" or self.behaviour == "refuses":
            to.send_error(503)
            return
        text = f"process_start_time_seconds {self.started}\nvllm:generation_tokens_total {self.tokens}\n"
        if self.behaviour == "hangs":
            self.released.wait(10)
        if self.behaviour == "floods":
            text += "# " + "x" * 200_000
        length = len(text) + (1000 if self.behaviour in ("breaks off", "drips") else 0)
        to.send_response(200)
        to.send_header("content-length", str(length))
        to.end_headers()
        to.wfile.write(text.encode())
        if self.behaviour == "breaks off":
            to.close_connection = True
        while self.behaviour == "drips" and not self.released.wait(0.02):
            to.wfile.write(b"#")
            to.wfile.flush()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
    return found


@pytest.fixture
def watch() -> Iterator[Callable[..., EngineProbe]]:
    probes: list[EngineProbe] = []

    def start(*urls: str) -> EngineProbe:
        probes.append(EngineProbe({"local": urls}, QUICK))
        probes[-1].start()
        return probes[-1]

    yield start
    for probe in probes:
        probe.stop()


def test_looks_come_by_themselves_over_one_connection(
    engine: Engine, watch: Callable[..., EngineProbe]
) -> None:
    probe = watch(engine.url + "/v1")
    until(lambda: engine.looks >= 5)
    engine.tokens = 40
    (sample,) = until(lambda: [one for one in probe.latest() if one.totals.get("generation_tokens") == 40])
    assert (sample.upstream, sample.replica) == ("local", engine.url.removeprefix("http://"))
    assert engine.connections == 1
    assert sum(one.generation_tokens or 0 for one in probe.drain()) == 40


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "floods", "drips", "breaks off"])
def test_a_troubled_replica_is_unreachable_alone_and_comes_back(
    engine: Engine, watch: Callable[..., EngineProbe], trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = Engine()
    probe = watch(engine.url, other.url)
    until(lambda: [one.state for one in probe.latest()] == ["ok", "ok"])
    engine.behaviour = trouble

    until(lambda: {one.replica: one.state for one in probe.latest()}[engine.url[7:]] == "unreachable")
    seen = other.looks
    until(lambda: other.looks > seen + 3)
    assert {one.replica: one.state for one in probe.latest()}[other.url[7:]] == "ok"

    engine.behaviour, engine.tokens = "answers", 7
    engine.released.set()
    until(lambda: [one.state for one in probe.latest()] == ["ok", "ok"])
    assert sum("unreachable" in record.message for record in caplog.records) == 1
    other.close()


def test_a_server_that_is_not_there_is_found_when_it_comes(watch: Callable[..., EngineProbe]) -> None:
    gone = Engine()
    url = gone.url
    gone.close()
    probe = watch(url)
    until(lambda: [one.state for one in probe.latest()] == ["unreachable"])


def test_a_restart_shows(engine: Engine, watch: Callable[..., EngineProbe]) -> None:
    engine.tokens = 500
    probe = watch(engine.url)
    until(lambda: engine.looks >= 2)
    engine.started, engine.tokens = 200.0, 3

    until(lambda: [one.restarts for one in probe.latest()] == [1])

    (again,) = [one for one in probe.drain() if one.restarted]
    assert again.generation_tokens in (3, 500)  # the tokens may be told a look after the start time


def test_what_nobody_fetches_is_bounded_and_counted(
    engine: Engine, watch: Callable[..., EngineProbe]
) -> None:
    probe = watch(engine.url)
    until(lambda: probe.dropped > 3)
    assert len(probe.drain()) <= QUICK.most_waiting


def test_no_more_replicas_are_watched_than_threads_are_good_for(caplog: pytest.LogCaptureFixture) -> None:
    EngineProbe({"local": tuple(f"http://127.0.0.1:{n}" for n in range(1, MOST_REPLICAS + 10))})
    assert [record.message for record in caplog.records] == ["not all replicas are watched"]


def test_a_page_is_read_again_after_the_server_closed_the_connection(engine: Engine) -> None:
    page = Page(engine.url, QUICK)
    engine.behaviour = "breaks off"
    with pytest.raises(Unreadable):
        page.read()
    engine.behaviour = "answers"
    assert "generation_tokens" in page.read()
    page.close()
