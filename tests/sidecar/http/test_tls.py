"""TLS to upstreams: whoever cannot prove who they are gets no byte of a request."""

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecar.http import Deadlines, UpstreamError, upstream_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")


class Certificate(NamedTuple):
    chain: Path
    key: Path


class Authority:
    """A certificate authority for one test run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self.key = folder / "ca.key"
        self.openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=Test authority", "-keyout", str(self.key),
            "-out", str(self.certificate), "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def openssl(self, *args: str) -> None:
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=self.folder)

    def issue(
        self, name: str, *, start: str = "20200101000000Z", end: str = "20991231235959Z"
    ) -> Certificate:
        stem = f"{name}-{end}".replace("*", "any")
        key, request, chain = (self.folder / f"{stem}.{suffix}" for suffix in ("key", "csr", "pem"))
        self.openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request),
        )  # fmt: skip
        config = self.folder / f"{stem}.cnf"
        kind = "IP" if name[0].isdigit() else "DNS"
        config.write_text(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n"
            "policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
            f"[e]\nsubjectAltName={kind}:{name}\nextendedKeyUsage=serverAuth\n"
        )
        (self.folder / "index.txt").touch()
        if not (self.folder / "serial").exists():
            (self.folder / "serial").write_text("01\n")
        self.openssl(
            "ca", "-batch", "-notext", "-config", str(config), "-extensions", "e", "-startdate", start,
            "-enddate", end, "-cert", str(self.certificate), "-keyfile", str(self.key),
            "-in", str(request), "-out", str(chain),
        )  # fmt: skip
        return Certificate(chain, key)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def serving(certificate: Certificate, *, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    if newest is not None:
        context.maximum_version = newest
    return context


async def failure(pool) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await (await pool.request(b"POST", b"/", [(b"authorization", b"Bearer secret")], b"{}")).read(10)
    return caught.value


async def test_a_verified_upstream_is_asked_and_its_connection_kept(
    upstream, pool_to, scripts, authority
) -> None:
    up = await upstream(scripts(OK, hold=True), ssl=serving(authority.issue("localhost")))
    pool = pool_to(up, host="localhost", tls=upstream_tls(str(authority.certificate)))
    for _ in range(5):
        reply = await pool.request(b"POST", b"/", [], b"x" * 100_000)
        assert await reply.read(10) == b"ok"
    assert up.connections == 1
    assert up.bodies == [b"x" * 100_000] * 5


async def test_an_address_may_be_verified_too(upstream, pool_to, scripts, authority) -> None:
    up = await upstream(scripts(OK, hold=True), ssl=serving(authority.issue("127.0.0.1")))
    pool = pool_to(up, tls=upstream_tls(str(authority.certificate)))
    assert await (await pool.request(b"GET", b"/", [], b"")).read(10) == b"ok"


async def test_a_stream_over_tls_arrives_whole(upstream, pool_to, authority) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for n in range(200):
            writer.write(b"%x\r\n%b\r\n" % (n + 1, bytes([n]) * (n + 1)))
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await up.wait_for_end(reader)

    up = await upstream(script, ssl=serving(authority.issue("localhost")))
    pool = pool_to(up, host="localhost", tls=upstream_tls(str(authority.certificate)))
    reply = await pool.request(b"GET", b"/", [], b"")
    assert await reply.read(1 << 20) == b"".join(bytes([n]) * (n + 1) for n in range(200))


@pytest.mark.parametrize("kept", [True, False])
async def test_a_large_reply_in_chunks_arrives_whole_over_tls_though_others_get_their_turn(
    upstream, pool_to, authority, kept: bool
) -> None:
    async def script(up, reader, writer) -> None:
        for _ in range(1 + kept):
            await up.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(100):
                writer.write(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    up = await upstream(script, ssl=serving(authority.issue("localhost")))
    pool = pool_to(up, host="localhost", tls=upstream_tls(str(authority.certificate)))
    for _ in range(2):
        reply = await pool.request(b"GET", b"/", [], b"")
        assert await reply.read(1 << 24) == b"x" * 10_000_000
    assert up.connections == 2 - kept


@pytest.mark.parametrize("fault", ["wrong host", "self-signed", "expired", "not yet valid", "too old a TLS"])
async def test_an_upstream_that_cannot_prove_itself_gets_no_byte_of_the_request(
    upstream, pool_to, scripts, authority, fault: str
) -> None:
    trusted: str | None = str(authority.certificate)
    newest = None
    match fault:
        case "wrong host":
            certificate = authority.issue("elsewhere.example")
        case "self-signed":
            certificate, trusted = authority.issue("localhost"), None
        case "expired":
            certificate = authority.issue("localhost", end="20210101000000Z")
        case "not yet valid":
            certificate = authority.issue("localhost", start="20900101000000Z", end="20910101000000Z")
        case _:
            certificate, newest = authority.issue("localhost"), ssl.TLSVersion.TLSv1_1
    context = serving(certificate)
    if newest is not None:
        with pytest.warns(DeprecationWarning):
            context.maximum_version = newest
    up = await upstream(scripts(OK), ssl=context)
    connected: list[int] = []
    pool = pool_to(up, host="localhost", tls=upstream_tls(trusted))
    with pytest.raises(UpstreamError) as caught:
        await pool.request(b"POST", b"/", [], b"{}", on_leaving=lambda: connected.append(1))
    assert (caught.value.kind, caught.value.sent) == ("tls", False)
    assert "secret" not in caught.value.message
    assert (up.requests, connected, pool.inflight) == ([], [], 0)


async def test_a_plain_server_on_a_tls_port_is_a_tls_error(upstream, pool_to, authority) -> None:
    async def script(up, reader, writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    pool = pool_to(await upstream(script), host="localhost", tls=upstream_tls(str(authority.certificate)))
    assert (await failure(pool)).kind == "tls"


async def test_a_handshake_that_stalls_ends_at_the_connect_deadline(upstream, pool_to, authority) -> None:
    async def script(up, reader, writer) -> None:
        await up.wait_for_end(reader)

    up = await upstream(script)
    pool = pool_to(
        up, host="localhost", tls=upstream_tls(str(authority.certificate)), deadlines=Deadlines(connect_s=0.2)
    )
    error = await failure(pool)
    assert (error.kind, error.sent, pool.inflight) == ("timeout_connect", False, 0)
    async with asyncio.timeout(5):
        await up.gone.wait()


async def test_cancelling_over_tls_closes_the_socket_at_once(
    upstream, pool_to, authority, eventually
) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        await up.wait_for_end(reader)

    up = await upstream(script, ssl=serving(authority.issue("localhost")))
    pool = pool_to(up, host="localhost", tls=upstream_tls(str(authority.certificate)))
    task = asyncio.create_task(pool.request(b"POST", b"/", [], b"{}"))
    await eventually(lambda: len(up.requests) == 1)
    task.cancel()
    async with asyncio.timeout(0.5):
        await up.gone.wait()
    assert pool.inflight == 0
