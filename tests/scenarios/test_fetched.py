"""What is fetched on pass-through and asks no model: files of any size, HEAD, and the connection after it."""

import hashlib
import http.client
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.agent import ASK, post
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream, Seen

from tests.scenarios.budget_scenes import chat_reply

StackMaker = Callable[..., Stack]
FILE = "/openai/v1/files/abc/content"
PIECE = bytes(range(256)) * 1024
MIB = 1 << 20


def by_path(content: Answer) -> Callable[[Seen], Answer]:
    """An upstream that has ``content`` as a file, and models to ask."""
    return lambda seen: content if "/files/" in seen.target else Answer(pieces=[chat_reply()])


def resident_mib(stack: Stack) -> float:
    pages = int(Path(f"/proc/{stack.processes['sidecar'].pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


def get(stack: Stack, path: str = FILE, method: str = "GET") -> tuple[http.client.HTTPConnection, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports[0], timeout=60)
    connection.request(method, path)
    return connection, connection.getresponse()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_larger_than_memory_may_be_passes_unchanged(
    upstream: ScriptedUpstream, stack_for: StackMaker, chunked: bool
) -> None:
    pieces = [PIECE] * 800  # 200 MiB
    kind = (("content-type", "application/octet-stream"), ("content-disposition", 'attachment; filename="a"'))
    upstream.script = by_path(Answer(headers=kind, pieces=pieces, chunked=chunked))
    stack = stack_for(upstream)
    post(stack, ASK)
    before = most = resident_mib(stack)
    connection, reply = get(stack)
    digest, size = hashlib.sha256(), 0
    while data := reply.read(MIB):
        digest.update(data)
        size += len(data)
        if size % (20 * MIB) == 0:
            time.sleep(0.05)  # An agent that writes it down is slower than we are.
            most = max(most, resident_mib(stack))

    assert size == 800 * len(PIECE)
    assert digest.hexdigest() == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert reply.getheader("content-disposition") == 'attachment; filename="a"'
    assert reply.getheader("content-length") == (None if chunked else str(size))
    assert most - before < 24
    # The connection serves another call, and only those that ask a model are in the books.
    connection.request("GET", "/openai/v1/models")
    assert connection.getresponse().read() == chat_reply()
    connection.close()
    assert len(stack.calls(1)) == 1


def test_a_head_tells_the_length_of_what_it_does_not_bring(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = lambda seen: (
        Answer(pieces=[], announced=200 * MIB) if seen.method == "HEAD" else Answer(pieces=[b'{"a":1}'])
    )
    stack = stack_for(upstream, with_collector=False)
    with socket.create_connection(("127.0.0.1", stack.ports[0]), 10) as client:
        for path in (FILE, "/v1/models", "/openai/v1/models"):
            client.sendall(b"HEAD %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
            head = read_head(client)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"content-length: 209715200\r\n" in head
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"content-length: 7\r\n" in read_head(client)
        assert client.recv(100) == b'{"a":1}'
    assert [seen.method for seen in upstream.seen] == ["HEAD", "HEAD", "HEAD", "GET"]
    assert upstream.connections == 1


def test_a_refused_head_has_no_body(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    stack = stack_for(upstream, with_collector=False)
    with socket.create_connection(("127.0.0.1", stack.ports[0]), 10) as client:
        for path, status in ((b"/nowhere", b"404"), (b"/v1/messages", b"405"), (b"/healthz", b"200")):
            client.sendall(b"HEAD %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
            assert read_head(client).split(b" ")[1] == status


def read_head(client: socket.socket) -> bytes:
    """The next head, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
        assert head, "the connection closed"
    return head


def test_a_file_that_breaks_off_does_so_for_the_agent(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = by_path(Answer(pieces=[PIECE], announced=MIB, break_off=True))
    stack = stack_for(upstream, with_collector=False)
    connection, reply = get(stack)
    with pytest.raises(http.client.IncompleteRead) as broken:
        reply.read()
    connection.close()
    assert broken.value.partial == PIECE


def test_what_is_small_and_breaks_off_is_an_error(upstream: ScriptedUpstream, stack_for: StackMaker) -> None:
    upstream.script = by_path(Answer(pieces=[b"half"], announced=100, break_off=True))
    stack = stack_for(upstream, with_collector=False)
    connection, reply = get(stack)
    assert reply.status == 502
    connection.close()


def test_an_agent_that_leaves_a_file_ends_it_for_the_upstream(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    upstream.script = by_path(Answer(pieces=[PIECE], chunked=True, endless=True))
    stack = stack_for(upstream, with_collector=False)
    connection, reply = get(stack)
    assert len(reply.read(3 * MIB)) == 3 * MIB
    reply.close()
    connection.close()
    wait_for("the upstream to notice", lambda: upstream.gone)
    assert post(stack, ASK)[0] == 200


def test_an_error_to_a_fetch_repeats_no_key_of_ours(
    upstream: ScriptedUpstream, stack_for: StackMaker
) -> None:
    said = b'{"error":{"message":"no such key: sk-secret-of-ours"}}'
    upstream.script = lambda seen: Answer(status=401, pieces=[said])
    kinds = {"openai": {"kind": "openai", "base_url": f"{upstream.url}/v1", "api_key": "${OUR_KEY}"}}
    stack = stack_for(
        upstream,
        upstreams=kinds,
        environment={"OUR_KEY": "sk-secret-of-ours"},
        with_collector=False,
    )
    connection, reply = get(stack, "/openai/v1/models")
    assert (reply.status, reply.read()) == (401, said.replace(b"sk-secret-of-ours", b"***"))
    connection.close()
