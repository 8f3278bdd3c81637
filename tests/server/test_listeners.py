"""Where the gate listens: TCP, Unix sockets, TLS; and who waits to be let in when it closes."""

import asyncio
import os
import select
import socket
import ssl
import stat
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import pytest_asyncio

from gatekeeper.server import listeners
from gatekeeper.server.listeners import Listener, ListenError, open_listener, share_listener
from tests.attacks.judge import parse_responses
from tests.certificates import Authority
from tests.server.conftest import TOKEN
from tests.server.gates import COOKIE, FOUR_LINES, cookie_value, running_gate
from tests.server.talks import SWITCHING, exactly, handshake, talking_app
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import Wire, head, mirrored

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"


class Greeter(asyncio.Protocol):
    """Greets each client and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.Transport, transport)
        writing.write(b"hello")
        writing.close()


async def greeting(**where: object) -> bytes:
    async with asyncio.timeout(20):
        if "path" in where:
            reader, writer = await asyncio.open_unix_connection(str(where["path"]))
        else:
            reader, writer = await asyncio.open_connection(**where)  # type: ignore[arg-type]
        data = await reader.read()
        writer.close()
        return data


# --- TCP -----------------------------------------------------------------------------------------------------------


async def test_a_free_port() -> None:
    listener = await open_listener("127.0.0.1:0", Greeter)
    (url,) = listener.addresses
    host, _, port = url.removeprefix("http://").rpartition(":")
    assert (host, await greeting(host=host, port=int(port))) == ("127.0.0.1", b"hello")
    await listener.close()
    with pytest.raises(ConnectionRefusedError):
        await greeting(host=host, port=int(port))


async def test_ipv6_and_every_address_of_a_name() -> None:
    listener = await open_listener("[::1]:0", Greeter)
    (url,) = listener.addresses
    assert url.startswith("http://[::1]:")
    assert await greeting(host="::1", port=int(url.rpartition(":")[2])) == b"hello"
    await listener.close()


async def test_an_address_that_is_taken_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError) as raised:
            await open_listener(where, Greeter)
        assert str(raised.value) == f"cannot listen on {where} (setting listen): Address already in use"
        with pytest.raises(ListenError, match=r"\(setting admin\.listen\)"):
            await open_listener(where, Greeter, setting="admin.listen")


async def test_a_host_that_is_nowhere() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on nowhere\.invalid:0 \(setting listen\): "):
        await open_listener("nowhere.invalid:0", Greeter)


async def test_who_is_connected_already_is_served_when_the_listener_closes() -> None:
    listener = await open_listener("127.0.0.1:0", Greeter)
    port = int(listener.addresses[0].rpartition(":")[2])
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]  # the loop has seen none of them
    await listener.close()
    for client in waiting:
        reader, writer = await asyncio.open_connection(sock=client)
        async with asyncio.timeout(20):
            assert await reader.read() == b"hello"
        writer.close()


def connects_at_once(port: int) -> bool:
    """Whether a connection is made without waiting; over loopback that takes no time."""
    with socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        poll = select.poll()
        poll.register(client, select.POLLOUT)
        return bool(poll.poll(0))


def test_a_closing_listener_begins_no_connection_and_those_that_were_begun_live() -> None:
    """A connection that is made while the filter is put in place inherits it, and must not be deaf."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), 20)
        served, _ = listening.accept()
        with client, served:
            assert connects_at_once(port)
            assert listeners._drop_newcomers(listening)
            assert not connects_at_once(port)
            assert listeners._drop_newcomers(served)
            client.sendall(b"hello")
            served.settimeout(20)
            assert served.recv(5) == b"hello"
            client.shutdown(socket.SHUT_WR)
            assert served.recv(5) == b""


async def test_a_listener_that_closes_waits_for_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(listeners, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    listener = await open_listener("127.0.0.1:0", Greeter)
    await listener.close(settle_s=0.25)
    await listener.close(settle_s=0.25)
    assert waits == [0.25]


# --- Sockets that others hold, too ---------------------------------------------------------------------------------


async def test_others_let_go_of_a_shared_socket_before_it_is_closed() -> None:
    sock = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    sock.setblocking(False)
    copy, port = sock.dup(), sock.getsockname()[1]
    calls: list[bytes] = []

    async def let_go() -> None:
        calls.append(await greeting(host="127.0.0.1", port=port))  # it still listens
        copy.close()

    listener = await share_listener([sock], Greeter, None, handshake_s=1.0, let_go=let_go)
    assert listener.addresses == [f"http://127.0.0.1:{port}"]
    await listener.close()
    await listener.close()
    assert calls == [b"hello"]
    with pytest.raises(ConnectionRefusedError):
        await greeting(host="127.0.0.1", port=port)


async def test_the_path_of_a_shared_unix_socket_is_left_to_others(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    sock = listeners.unix_socket(str(path))

    async def let_go() -> None:
        pass

    listener = await share_listener([sock], Greeter, None, handshake_s=1.0, let_go=let_go)
    assert listener.addresses == [f"unix:{path}"]
    assert await greeting(path=path) == b"hello"
    await listener.close()
    assert path.exists() or sys.version_info >= (3, 13)  # where asyncio's own loop removes it


# --- Unix sockets --------------------------------------------------------------------------------------------------


async def test_a_unix_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    listener = await open_listener(f"unix:{path}", Greeter)
    assert listener.addresses == [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert await greeting(path=path) == b"hello"
    await listener.close()


async def test_one_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
    assert path.is_socket()
    listener = await open_listener(f"unix:{path}", Greeter)
    assert await greeting(path=path) == b"hello"
    await listener.close()


async def test_one_that_somebody_listens_on_is_not(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    first = await open_listener(f"unix:{path}", Greeter)
    with pytest.raises(ListenError) as raised:
        await open_listener(f"unix:{path}", Greeter)
    assert str(raised.value) == f"cannot listen on unix:{path} (setting listen): Address already in use"
    assert await greeting(path=path) == b"hello"
    await first.close()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    path.write_text("something precious")
    with pytest.raises(ListenError, match=r"\(setting listen\): Address already in use"):
        await open_listener(f"unix:{path}", Greeter)
    assert path.read_text() == "something precious"


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(tmp_path / "real.sock"))
    os.symlink(tmp_path / "real.sock", tmp_path / "gate.sock")
    with pytest.raises(ListenError):
        await open_listener(f"unix:{tmp_path / 'gate.sock'}", Greeter)
    assert (tmp_path / "real.sock").is_socket()


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"\(setting listen\): No such file or directory"):
        await open_listener(f"unix:{tmp_path}/none/gate.sock", Greeter)


async def test_a_gate_at_a_unix_socket(database: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    text = FOUR_LINES.replace("127.0.0.1:0", f"unix:{tmp_path / 'gate.sock'}")
    async with running_gate(upstream.url, database, "trusted_proxies: [unix]\n", text=text) as gate:
        assert gate.url == f"unix:{tmp_path / 'gate.sock'}"
        wire = await Wire.open_unix(tmp_path / "gate.sock")
        wire.send(head("GET", "/dashboard", "app.test", SIGNED_IN, "X-Forwarded-For: 203.0.113.9"))
        (response,), _ = parse_responses(await wire.rest(), "GET")
    seen = mirrored(response)["headers"]
    assert (response.status, seen["x-auth-user-id"], seen["x-forwarded-for"]) == (200, "user-ada", "203.0.113.9")


# --- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def trusting(tmp_path: Path) -> ssl.SSLContext:
    """A client's context that trusts the authority whose certificate for `gate.test` is in `tls.crt`."""
    authority = Authority()
    authority.issue("gate.test").write(tmp_path / "tls.crt", tmp_path / "tls.key")
    return ssl.create_default_context(cafile=str(authority.write_certificate(tmp_path / "ca.crt")))


TLS = "tls: {cert: tls.crt, key: tls.key}\n"


async def test_tls(database: Path, upstream: RecordingUpstream, trusting: ssl.SSLContext) -> None:
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    async with running_gate(upstream.url, database, TLS) as gate:
        assert gate.url.startswith("https://127.0.0.1:")
        wire = await Wire.open(gate.port, trusting)
        used: ssl.SSLObject = wire.writer.get_extra_info("ssl_object")
        assert used.version() in ("TLSv1.2", "TLSv1.3")
        assert used.selected_alpn_protocol() == "http/1.1"
        for path in ("/one", "/two"):
            wire.send(head("GET", path, "gate.test", close=False))
            (response,), _ = parse_responses(await wire.until(b"}"), "GET")
            seen = mirrored(response)["headers"]
            assert (seen["x-forwarded-proto"], seen["x-forwarded-port"]) == ("https", "443")
        wire.close()


async def test_large_bodies_through_tls(database: Path, upstream: RecordingUpstream, trusting: ssl.SSLContext) -> None:
    body = b"0123456789abcdef" * 100_000
    async with running_gate(upstream.url, database, TLS) as gate:
        wire = await Wire.open(gate.port, trusting)
        wire.send(head("POST", "/up", "gate.test", f"Content-Length: {len(body)}").encode() + body)
        (response,), _ = parse_responses(await wire.rest(), "POST")
    assert mirrored(response)["length"] == len(body)
    assert upstream.requests[0].body == body


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
async def test_only_tls_1_2_and_later(
    database: Path, upstream: RecordingUpstream, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    trusting.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        trusting.minimum_version = trusting.maximum_version = version
    async with running_gate(upstream.url, database, TLS) as gate:
        if version is ssl.TLSVersion.TLSv1_2:
            wire = await Wire.open(gate.port, trusting)
            wire.send(head("GET", "/x", "gate.test"))
            assert (await wire.rest()).startswith(b"HTTP/1.1 200 ")
        else:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await Wire.open(gate.port, trusting)


async def test_plain_http_to_a_tls_listener_is_no_request(
    database: Path, upstream: RecordingUpstream, trusting: ssl.SSLContext
) -> None:
    async with running_gate(upstream.url, database, TLS) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/", gate.host))
        assert b"HTTP/1.1" not in await wire.rest()
    assert upstream.requests == []


async def test_a_websocket_through_tls(database: Path, trusting: ssl.SSLContext) -> None:
    async with talking_app() as app, running_gate(app.url, database, TLS) as gate:
        client = await Wire.open(gate.port, trusting)
        client.send(handshake("gate.test", "Origin: https://gate.test", SIGNED_IN, target="/dashboard"))
        side, _ = await app.accept()
        side.send(SWITCHING + "down")
        assert (await client.until(b"down")).startswith(b"HTTP/1.1 101 ")
        client.send("up")
        assert await exactly(side, 2) == b"up"
        side.send("x" * 1_000_000)
        side.close()
        assert await client.rest() == b"x" * 1_000_000


async def test_a_head_that_comes_with_the_end_of_the_handshake_has_its_deadline(
    database: Path, upstream: RecordingUpstream, trusting: ssl.SSLContext
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = trusting.wrap_bio(incoming, outgoing, server_hostname="gate.test")
    async with running_gate(upstream.url, database, TLS) as gate:
        wire = await Wire.open(gate.port)

        async def done(what: Callable[[], bytes | None]) -> bytes | None:
            while True:
                try:
                    return what()
                except ssl.SSLWantReadError:
                    wire.send(outgoing.read())
                    incoming.write(await wire.some())

        await done(hello.do_handshake)
        hello.write(b"GET / HT")
        wire.send(outgoing.read())  # the client's Finished, and the beginning of a head
        deadlines = gate.served.server.deadlines
        while not gate.served.server.clients():  # noqa: ASYNC110 - until it is let in
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        now = deadlines.now() + 60
        deadlines.now = lambda: now
        deadlines.close()
        deadlines.tick()
        answer = await done(lambda: hello.read(65_536))
        assert answer is not None
        assert answer.startswith(b"HTTP/1.1 408 ")
        wire.reset()


async def test_the_end_of_a_websocket_through_tls_is_nothing_to_log(
    database: Path, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async with talking_app() as app, running_gate(app.url, database, TLS) as gate:
        client = await Wire.open(gate.port, trusting)
        client.send(handshake("gate.test"))
        side, _ = await app.accept()
        side.send(SWITCHING)
        await client.until(b"\r\n\r\n")
        client.close()
        assert await side.rest() == b""
        while gate.served.server.clients():  # noqa: ASYNC110 - until it is gone
            await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest_asyncio.fixture
async def tls_listener(trusting: ssl.SSLContext, tmp_path: Path) -> AsyncIterator[Listener]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    listener = await open_listener("127.0.0.1:0", Greeter, context)
    yield listener
    await listener.close()


async def test_who_is_connected_already_gets_its_tls_too(trusting: ssl.SSLContext, tls_listener: Listener) -> None:
    port = int(tls_listener.addresses[0].rpartition(":")[2])
    client = socket.create_connection(("127.0.0.1", port))
    client.setblocking(False)
    closing = asyncio.ensure_future(tls_listener.close())
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(sock=client, ssl=trusting, server_hostname="gate.test")
        assert await reader.read() == b"hello"
        await closing
    writer.close()


async def test_who_waits_and_says_nothing_does_not_keep_the_others(
    trusting: ssl.SSLContext, tls_listener: Listener
) -> None:
    port = int(tls_listener.addresses[0].rpartition(":")[2])
    silent, client = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
    client.setblocking(False)
    closing = asyncio.ensure_future(tls_listener.close())
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(sock=client, ssl=trusting, server_hostname="gate.test")
        assert await reader.read() == b"hello"
        writer.close()
        silent.close()
        await closing
