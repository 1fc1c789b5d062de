"""The ways to a Redis: a Unix socket, TLS, a Cluster."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.domain.credit import Claim, Granted, Refused
from sidecar.budgets.redis_connection import parse_address
from sidecar.budgets.redis_keys import slot_of, tag_of
from sidecar.budgets.redis_store import RedisStore
from tests.sidecar.budgets.redis_server import RedisServer, free_port, until
from tests.sidecar.budgets.world import USD, budget


async def granted(store: RedisStore, lease: str, claim: Claim) -> bool:
    answer = store.reserve(lease, [claim], 60.0)
    return isinstance(answer if isinstance(answer, Granted | Refused) else await answer, Granted)


async def spend_and_look(store: RedisStore, tenants: list[str]) -> None:
    """One call for each tenant, counted there."""
    await store.start()
    for number, tenant in enumerate(tenants, 1):
        counter = budget("b", 100 * USD, tenant=tenant)

        async with asyncio.timeout(5):
            # Where a node was not known yet, the first call may be refused; the next ones are not.
            while not await granted(store, f"l{number}", Claim(counter, 5000)):
                await asyncio.sleep(0.02)
        store.settle(f"l{number}", [Claim(counter, 1200)], number)
        await until(lambda tenant=tenant: not store.tag(tenant).outbox)
        standing = (await store.standings([counter]))[0]
        assert (standing.spent, standing.held, standing.exact) == (1200, 0, True)
    await store.close()


async def test_over_a_unix_socket(redis_program: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "--unixsocket", str(tmp_path / "r.sock"))
    server.start()
    await spend_and_look(RedisStore(f"unix://{tmp_path}/r.sock?db=3", "s"), ["acme", ""])
    server.kill()


async def test_over_tls_to_the_server_it_trusts_and_to_no_other(redis_program: str, tmp_path: Path) -> None:
    key, cert, port = tmp_path / "key.pem", tmp_path / "cert.pem", free_port()
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(made, check=True, capture_output=True)
    options = ["--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key)]
    options += ["--tls-ca-cert-file", str(cert), "--tls-auth-clients", "no"]
    server = RedisServer(tmp_path / "redis", *options)
    server.start()
    await spend_and_look(RedisStore(f"rediss://127.0.0.1:{port}?ca={cert}", "s"), ["acme"])
    stranger = RedisStore(f"rediss://127.0.0.1:{port}", "t")
    stranger.links.seed.start()
    await asyncio.sleep(0.3)
    assert not stranger.links.seed.connected.is_set()
    await stranger.close()
    server.kill()


@pytest.fixture
def cluster(redis_program: str, tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Two nodes, each with half of the slots."""
    nodes = [
        RedisServer(tmp_path / f"node{n}", "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        for n in range(2)
    ]
    for number, node in enumerate(nodes):
        node.start()
        assert b"OK" in node.say("CLUSTER", "ADDSLOTSRANGE", str(number * 8192), str(number * 8192 + 8191))
    assert b"OK" in nodes[0].say("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port))
    yield nodes
    for node in nodes:
        node.kill()


async def test_over_a_cluster_each_tenant_on_the_node_of_its_slot(cluster: list[RedisServer]) -> None:
    await until(lambda: all(b"cluster_state:ok" in node.say("CLUSTER", "INFO") for node in cluster), 15.0)
    tenants = ["acme", "search", "", "x", "y", "z"]
    assert len({slot_of(f"{{{tag_of(tenant)}}}") < 8192 for tenant in tenants}) == 2
    await spend_and_look(RedisStore(cluster[0].url, "s"), tenants)
    sizes = [int(node.say("DBSIZE").strip(b":\r\n")) for node in cluster]
    assert all(sizes)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://h", ("h", 6379, "", False, "", "", 0)),
        ("redis://u:p%40@h:1/2", ("h", 1, "", False, "u", "p@", 2)),
        ("rediss://:secret@h", ("h", 6379, "", True, "", "secret", 0)),
        ("unix:///run/r.sock?db=4", ("127.0.0.1", 6379, "/run/r.sock", False, "", "", 4)),
    ],
)
def test_an_address_says_where_and_how(url: str, where: tuple[object, ...]) -> None:
    at = parse_address(url)
    assert (at.host, at.port, at.path, at.tls, at.username, at.password, at.database) == where


@pytest.mark.parametrize("url", ["http://h", "redis://h/x", "unix://", "redis://h?timeout=3", "h:6379"])
def test_an_address_that_is_none_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="not a Redis address"):
        parse_address(url)
