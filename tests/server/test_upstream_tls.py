"""Apps behind TLS and at Unix sockets: who is trusted, and who is shown."""

import ssl
from pathlib import Path

import pytest

from tests.attacks.judge import Response, parse_responses
from tests.certificates import Authority
from tests.server.gates import FOUR_LINES, running_gate
from tests.server.talks import SWITCHING, Talks, exactly, handshake, talking_app
from tests.server.wire import Wire, ask, head

OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def settings(url: str, **files: Path) -> str:
    tls = ", ".join(f"{name}: {path}" for name, path in files.items())
    return FOUR_LINES.replace("{upstream}", f"{{{{url: '{url}', tls: {{{{{tls}}}}}}}}}")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority()
    made.write_certificate(tmp_path / "ca.crt")
    return made


def app_context(authority: Authority, folder: Path, *hosts: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue(*hosts).write(folder / "app.crt", folder / "app.key"))
    return context


async def answered(port: int, app: Talks) -> Response:
    """One request, answered 200 by the app."""
    wire = await Wire.open(port)
    wire.send(head("GET", "/x", f"127.0.0.1:{port}"))
    side, asked = await app.accept()
    assert asked.startswith(b"GET /x HTTP/1.1\r\n")
    side.send(OK)
    (response,), _ = parse_responses(await wire.rest(), "GET")
    return response


async def test_an_app_whose_authority_is_trusted(database: Path, tmp_path: Path, authority: Authority) -> None:
    context = app_context(authority, tmp_path, "localhost")
    async with talking_app(tls=context) as app:
        text = settings(app.url, ca=tmp_path / "ca.crt")
        async with running_gate(app.url, database, text=text) as gate:
            response = await answered(gate.port, app)
    assert (response.status, response.body) == (200, b"ok")


async def test_another_authority_is_not_trusted(database: Path, tmp_path: Path, authority: Authority) -> None:
    context = app_context(Authority("somebody else"), tmp_path, "localhost")
    async with talking_app(tls=context) as app:
        text = settings(app.url, ca=tmp_path / "ca.crt")
        async with running_gate(app.url, database, text=text) as gate:
            assert (await ask(gate.port, "GET", "/x")).status == 502


async def test_without_an_authority_the_systems_are_asked(database: Path, tmp_path: Path, authority: Authority) -> None:
    async with (
        talking_app(tls=app_context(authority, tmp_path, "localhost")) as app,
        running_gate(app.url, database) as gate,
    ):
        assert (await ask(gate.port, "GET", "/x")).status == 502


async def test_a_certificate_for_another_host_is_refused(
    database: Path, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    context = app_context(authority, tmp_path, "another.test")
    async with talking_app(tls=context) as app:
        text = settings(app.url, ca=tmp_path / "ca.crt")
        async with running_gate(app.url, database, text=text) as gate:
            assert (await ask(gate.port, "GET", "/x")).status == 502
    assert "certificate" in caplog.text


async def test_an_address_is_checked_as_a_name_is(database: Path, tmp_path: Path, authority: Authority) -> None:
    context = app_context(authority, tmp_path, "127.0.0.1")
    async with talking_app(tls=context) as app:
        named, numbered = app.url, app.url.replace("localhost", "127.0.0.1")
        async with running_gate(app.url, database, text=settings(numbered, ca=tmp_path / "ca.crt")) as gate:
            assert (await answered(gate.port, app)).status == 200
        async with running_gate(app.url, database, text=settings(named, ca=tmp_path / "ca.crt")) as gate:
            assert (await ask(gate.port, "GET", "/x")).status == 502


async def test_a_client_certificate_that_is_demanded(database: Path, tmp_path: Path, authority: Authority) -> None:
    context = app_context(authority, tmp_path, "localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tmp_path / "ca.crt")
    authority.issue("the gate").write(tmp_path / "gate.crt", tmp_path / "gate.key")
    shown = {"cert": tmp_path / "gate.crt", "key": tmp_path / "gate.key"}
    async with talking_app(tls=context) as app:
        text = settings(app.url, ca=tmp_path / "ca.crt", **shown)
        async with running_gate(app.url, database, text=text) as gate:
            wire = await Wire.open(gate.port)
            wire.send(head("GET", "/x", gate.host))
            side, _ = await app.accept()
            certificate = side.writer.get_extra_info("peercert")
            assert certificate["subject"] == ((("commonName", "the gate"),),)
            side.send(OK)
            assert (await wire.rest()).endswith(b"\r\n\r\nok")
        async with running_gate(app.url, database, text=settings(app.url, ca=tmp_path / "ca.crt")) as gate:
            assert (await ask(gate.port, "GET", "/x")).status == 502


async def test_an_app_that_speaks_no_tls(database: Path, tmp_path: Path, authority: Authority) -> None:
    async with talking_app() as app:
        text = settings(app.url.replace("http:", "https:"), ca=tmp_path / "ca.crt")
        async with running_gate(app.url, database, text=text) as gate:
            wire = await Wire.open(gate.port)
            wire.send(head("GET", "/x", gate.host))
            side = await app.connection()
            side.send("HTTP/1.1 400 Speak Up\r\n\r\n")
            assert (await wire.rest()).startswith(b"HTTP/1.1 502 ")


async def test_a_websocket_to_an_app_behind_tls(database: Path, tmp_path: Path, authority: Authority) -> None:
    context = app_context(authority, tmp_path, "localhost")
    async with talking_app(tls=context) as app:
        text = settings(app.url, ca=tmp_path / "ca.crt")
        async with running_gate(app.url, database, text=text) as gate:
            client = await Wire.open(gate.port)
            client.send(handshake(gate.host) + "early")
            side, _ = await app.accept()
            side.send(SWITCHING + "down")
            await client.until(b"down")
            assert await exactly(side, 5) == b"early"
            side.send("x" * 1_000_000)
            side.close()
            assert await client.rest() == b"x" * 1_000_000


async def test_an_app_behind_tls_that_leaves_with_its_101(database: Path, tmp_path: Path, authority: Authority) -> None:
    context = app_context(authority, tmp_path, "localhost")
    async with talking_app(tls=context) as app:
        text = settings(app.url, ca=tmp_path / "ca.crt")
        async with running_gate(app.url, database, text=text) as gate:
            client = await Wire.open(gate.port)
            client.send(handshake(gate.host))
            side, _ = await app.accept()
            side.send(SWITCHING + "bye")
            side.close()
            assert (await client.rest()).endswith(b"\r\n\r\nbye")


# --- Unix sockets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["unix:", "unix://", "unix:/"])
async def test_an_app_at_a_unix_socket(database: Path, tmp_path: Path, prefix: str) -> None:
    """`unix:///run/app.sock` is the same path, and so is what has a slash too many."""
    path = tmp_path / "app.sock"
    async with talking_app(unix=path) as app, running_gate(f"{prefix}{path}", database) as gate:
        response = await answered(gate.port, app)
    assert (response.status, response.body) == (200, b"ok")


async def test_a_name_of_any_characters(database: Path, tmp_path: Path) -> None:
    path = tmp_path / "app#1?%41.sock"
    async with talking_app(unix=path) as app, running_gate(f"'unix:{path}'", database) as gate:
        assert (await answered(gate.port, app)).status == 200


async def test_no_app_at_a_unix_socket_is_a_502(
    database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gate(f"unix:{tmp_path}/none.sock", database) as gate:
        assert (await ask(gate.port, "GET", "/x")).status == 502
    assert f"no connection to unix:{tmp_path}/none.sock: No such file or directory" in caplog.text
