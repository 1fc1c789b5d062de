"""The benchmark counts what happened; that it counts right is no matter of time, and is tested."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.accounting import cpu_seconds, memory, tree
from harness.gateways import DIRECT, all_gateways, bursar
from harness.phases import DEFAULT_PHASES, PHASES, Load, figures, request_body
from harness.running import Bench, Running, Unusable, free_port
from harness.table import ROWS, judge, render, verdicts
from run import compiled

from sidecar.config import load_config

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the harness needs a C compiler")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The upstream, serving, and the load generator."""
    folder = tmp_path_factory.mktemp("harness")
    port = free_port()
    upstream = subprocess.Popen([str(compiled("upstream", folder)), str(port)])
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < until, "the upstream does not listen"
            time.sleep(0.01)
    yield Bench(load_program=compiled("load", folder), upstream_port=port, gateway_core=None, load_core=None)
    upstream.kill()
    upstream.wait()


def generated(bench: Bench, folder: Path, body: bytes, *options: str) -> dict[str, float]:
    """What the load generator prints about one load."""
    path = folder / "body.json"
    path.write_bytes(body)
    command = [str(bench.load_program), "-p", str(bench.upstream_port), "-b", str(path), *options]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def exchanged(port: int, request: bytes) -> bytes:
    """All that the upstream says to ``request``, which asks it to close."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("connections", [1, 16])
def test_every_request_that_is_sent_is_answered_and_counted_once(
    bench: Bench, tmp_path: Path, connections: int
) -> None:
    shown = generated(bench, tmp_path, request_body(), "-c", str(connections), "-d", "30", "-n", "500")
    assert 500 <= shown["sent"] < 500 + connections
    assert shown["answered"] == shown["sent"]
    assert shown["errors"] == shown["refused"] == 0
    assert 0 < shown["latency_ms_p50"] <= shown["latency_ms_p99"] <= shown["latency_ms_max"]


def test_every_chunk_of_every_stream_is_seen(bench: Bench, tmp_path: Path) -> None:
    body = request_body(stream=True, chunks=37)
    shown = generated(bench, tmp_path, body, "-c", "4", "-d", "30", "-n", "12", "-s")
    assert shown["chunks"] == shown["answered"] * 37
    assert shown["first_chunk_ms_p50"] > 0


def test_a_stream_keeps_the_pace_that_is_asked_of_it(bench: Bench, tmp_path: Path) -> None:
    body = request_body(stream=True, chunks=11, gap_us=20_000)
    shown = generated(bench, tmp_path, body, "-c", "1", "-d", "30", "-n", "1", "-s")
    assert shown["chunks"] == 11
    assert shown["latency_ms_p50"] >= 200  # ten gaps of 20 ms; a slow machine takes longer, none is faster


def test_an_open_loop_sends_as_many_as_are_due(bench: Bench, tmp_path: Path) -> None:
    shown = generated(bench, tmp_path, request_body(), "-c", "8", "-d", "0.5", "-r", "40")
    assert 1 <= shown["answered"] <= 21


def test_a_server_that_is_not_there_is_an_error_for_each_request(bench: Bench, tmp_path: Path) -> None:
    nowhere = Bench(
        load_program=bench.load_program, upstream_port=free_port(), gateway_core=None, load_core=None
    )
    shown = generated(nowhere, tmp_path, request_body(), "-c", "2", "-d", "0.2")
    assert shown["answered"] == 0
    assert shown["errors"] > 0
    assert shown["sent"] == 0


def test_the_upstream_speaks_both_dialects_whole_and_streamed(bench: Bench) -> None:
    for path, usage in (
        ("/v1/chat/completions", b'"prompt_tokens":64'),
        ("/v1/messages", b'"input_tokens":32'),
    ):
        whole = exchanged(bench.upstream_port, post(path, request_body()))
        head, _, body = whole.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert usage in body
        assert json.loads(body)["id"]
        streamed = exchanged(bench.upstream_port, post(path, request_body(stream=True, chunks=3)))
        assert streamed.endswith(b"\r\n0\r\n\r\n")
        assert usage in streamed
        assert streamed.count(b"@T") == 3


def test_the_upstream_reads_a_chunked_request(bench: Bench) -> None:
    body = request_body(stream=True, chunks=2)
    first, second = body[:50], body[50:]
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    chunked = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(first), first, len(second), second)
    assert exchanged(bench.upstream_port, head + chunked).count(b"@T") == 2


def test_each_reply_has_an_id_of_its_own(bench: Bench) -> None:
    bodies = [
        exchanged(bench.upstream_port, post("/v1/chat/completions", request_body())).partition(b"\r\n\r\n")[2]
        for _ in range(3)
    ]
    assert len({json.loads(body)["id"] for body in bodies}) == 3


def test_the_bare_upstream_goes_through_a_phase_and_costs_nothing(bench: Bench, tmp_path: Path) -> None:
    with Running(DIRECT, bench, tmp_path / "direct") as running:
        assert running.start() is None
        shown = running.run(Load(connections=4, seconds=0.2))
    assert shown["bad"] == 0
    assert shown["calls"] == running.served > 0
    assert shown["us_per_call"] is None


def test_a_gateway_that_dies_is_a_finding_that_shows_its_last_words(bench: Bench, tmp_path: Path) -> None:
    from dataclasses import replace

    dead = replace(DIRECT, name="dead", commands=(("sh", "-c", "echo cannot go on >&2; exit 3"),))
    with (
        Running(dead, bench, tmp_path / "dead") as running,
        pytest.raises(Unusable, match="ended with 3; cannot go on"),
    ):
        running.start()


def test_a_record_that_is_lost_or_doubled_makes_the_run_void(bench: Bench, tmp_path: Path) -> None:
    class Books(Running):
        recorded = 0

        def _recorded(self) -> int:
            return self.recorded

    with Books(DIRECT, bench, tmp_path / "books") as running:
        running.served = 5
        running.recorded = 5
        running.wait_until_recorded()
        running.recorded = 6
        with pytest.raises(Unusable, match="recorded 6 calls of 5: some are doubled"):
            running.wait_until_recorded()
        running.recorded, running.drain_limit_s = 4, 0.3
        with pytest.raises(Unusable, match="recorded 4 calls of 5: some are lost"):
            running.wait_until_recorded()


def test_the_cost_of_a_process_includes_that_of_its_children() -> None:
    spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    parent = subprocess.Popen(["sh", "-c", f"sh -c '{spin}; sleep 60' & wait"])
    try:
        until = time.monotonic() + 60
        while cpu_seconds([parent.pid]) < 0.05:
            assert time.monotonic() < until
            time.sleep(0.02)
        children = tree(parent.pid)
        assert len(children) >= 2
        assert memory([parent.pid]).resident > 0
    finally:
        for process in reversed(tree(parent.pid)):
            subprocess.run(["kill", "-9", str(process)], check=False)
        parent.wait()


def test_our_own_configuration_is_one_that_the_sidecar_takes(tmp_path: Path) -> None:
    text = bursar().files["bursar.yaml"]
    for key, value in {"port": "1", "control": "2", "spare": "3", "upstream": "4", "folder": "/x"}.items():
        text = text.replace(f"@{key}@", value)
    path = tmp_path / "bursar.yaml"
    path.write_text(text)
    config = load_config(path, {})
    assert config.upstreams["openai"].urls == ("http://127.0.0.1:4/v1",)
    assert config.collector.otlp_http is None


def test_ours_comes_last_and_is_measured_against_something() -> None:
    names = [gateway.name for gateway in all_gateways()]
    assert names[0] == "direct"
    assert names[-3:] == ["bursar", "bursar-least", "bursar-prefix"]
    usual = [gateway.name for gateway in all_gateways() if not gateway.on_request]
    assert usual[-1] == "bursar"
    assert set(DEFAULT_PHASES) <= set(PHASES)


# ---- the table ------------------------------------------------------------------------------


def result(target: str, us: float, **more: object) -> dict[str, Any]:
    """A round that has one figure."""
    return {
        "target": target,
        "round": 1,
        "sat64": {"us_per_call": us, "calls_per_s": 1e6 / us, "bad": 0},
        **more,
    }


CPU_ROW = ROWS[0]


def test_a_goal_is_reached_at_its_very_limit() -> None:
    assert judge(CPU_ROW, 100.0, None).mark == "pass"
    assert judge(CPU_ROW, 100.1, None).mark == "MISSED"
    assert judge(CPU_ROW, 60.0, None).mark == "aim"
    assert judge(CPU_ROW, None, None).mark == "not measured"


def test_the_rust_router_sets_a_limit_of_its_own() -> None:
    assert judge(CPU_ROW, 90.0, 89.0).mark == "pass"
    verdict = judge(CPU_ROW, 99.0, 89.0)  # 1.1 x 89 = 97.9
    assert verdict.mark == "MISSED"
    assert "1.1 x vllm-router's 89.0" in verdict.missed


def test_more_calls_are_better() -> None:
    row = ROWS[1]
    assert judge(row, 10_000, None).mark == "pass"
    assert judge(row, 9_999, None).mark == "MISSED"
    assert judge(row, 16_000, None).mark == "aim"


def test_the_table_shows_medians_ratios_and_verdicts() -> None:
    rounds = [result("nginx", us) for us in (20, 25, 90)] + [result("bursar", us) for us in (70, 75, 400)]
    first = next(line for line in render(rounds).splitlines() if line.startswith("| CPU µs a call, 64"))
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells == ["CPU µs a call, 64 connections", "25.0", "75.0", "3.00", "≤ 100", "≤ 60", "pass"]


def test_what_failed_is_said_below_the_table() -> None:
    rounds = [result("nginx", 20), {"target": "portkey", "round": 1, "failed": "Unusable: never answered"}]
    rounds.append(result("bursar", 70) | {"sat1": {"bad": 3}})
    text = render(rounds)
    assert "portkey, round 1: Unusable: never answered" in text
    assert "bursar: 3 calls went wrong" in text


def test_figures_of_a_busy_machine_are_called_into_question() -> None:
    quiet, busy = result("nginx", 20), result("bursar", 70)
    quiet["sat64"]["others_pct"], busy["sat64"]["others_pct"] = 2, 61
    assert "Other work took its share of the gateway's core (bursar 61 %)" in render([quiet, busy])
    busy["sat64"]["others_pct"] = 9
    assert "Other work" not in render([quiet, busy])


def test_figures_that_were_not_measured_are_not_judged() -> None:
    found = verdicts([result("bursar", 70)])
    assert {verdict.mark for verdict in found} == {"pass", "not measured"}


def test_the_cost_of_a_call_is_spread_over_all_that_were_answered() -> None:
    raw = dict.fromkeys(("errors", "refused", "latency_ms_p50", "latency_ms_p99"), 0.0)
    raw |= {"sent": 1000, "answered": 1000, "seconds": 2.0}
    shown = figures(Load(connections=1, seconds=2), raw, 0.05, 4.0)
    assert shown["us_per_call"] == 50  # 0.05 s over 1000 calls
    assert shown["calls_per_s"] == 250  # 1000 calls in 4 s, the time until all were recorded
