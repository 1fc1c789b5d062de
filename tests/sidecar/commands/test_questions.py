"""Why the collector does not answer is said in its words, not in JSON."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sidecar.commands.questions import refusal


class Answering(BaseHTTPRequestHandler):
    """Answers as its server says."""

    def do_GET(self) -> None:
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing: a test reads what is on the output."""


@pytest.fixture
def collector(tmp_path) -> Iterator[HTTPServer]:
    """Something that listens where the collector is said to."""
    server = HTTPServer(("127.0.0.1", 0), Answering)
    (tmp_path / "bursar.yaml").write_text(f"collector: {{listen: 127.0.0.1:{server.server_port}}}\n")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_refusal_is_told_in_words_with_what_there_is(bursar, collector):
    choices = [f"dimension_{number}" for number in range(500)]
    error = {"message": "by: no 'tea'", "parameter": "by", "choices": choices}
    collector.answer = 400, json.dumps({"error": error}).encode()

    ran = bursar("report", "--by", "tea")

    assert ran.code == 1
    assert ran.err == f"by: no 'tea'; there are: {', '.join(choices)}\n"


def test_what_is_no_collector_is_said_to_be_none(bursar, collector):
    collector.answer = 200, b"<html>"

    ran = bursar("report")

    assert ran.code == 1
    assert ran.err == f"what answers on 127.0.0.1:{collector.server_port} is no collector of Bursar's\n"


@pytest.mark.parametrize("body", [b"Bad gateway", b'{"error": 3}', b"[]", b'{"error": {}}'])
def test_words_of_others_are_shown_as_they_are(body):
    assert refusal(body) == body.decode()
    assert len(refusal(b"x" * 50_000)) == 2000
