"""Class 5: `Connection` asks the gate to take away what it has just added, or what the app relies on."""

import asyncio

import pytest

from tests.attacks.site import SIGNED_IN, USER_ID, Site
from tests.server.upstreams import Received

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOP_BY_HOP = [
    *(
        "TE: trailers",
        "Trailer: X-A",
        "Keep-Alive: timeout=99",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eA==",
    ),
    *("Proxy-Authenticate: Basic", "HTTP2-Settings: AAMAAABk", "Upgrade: h2c", "Proxy_Authorization: Basic eA=="),
]


@pytest.mark.parametrize(
    "connection",
    [
        pytest.param("close, X-Auth-User-Id, X-Auth-Status, X-Auth-Session-Id", id="identity"),
        pytest.param("close, x-AUTH-user-id,x-auth-status", id="identity-in-other-case"),
        pytest.param("close,,, ,\tX-Auth-User-Id\t,", id="empty-elements-and-tabs"),
        pytest.param("X-Auth-User-Id\r\nConnection: X-Auth-Status\r\nConnection: close", id="several-lines"),
        pytest.param(
            "close, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Forwarded, X-Request-Id", id="forwarding"
        ),
        pytest.param("close, Host, Cookie, Authorization, Content-Length, Content-Type, Accept", id="end-to-end"),
        pytest.param('close, "X-Auth-User-Id", X-Auth-User-Id;q=1', id="quoted-and-with-parameters"),
        pytest.param("close, *", id="star"),
        pytest.param("close, " + ", ".join(f"x-{i}" for i in range(500)) + ", X-Auth-Status", id="a-long-list"),
    ],
)
async def test_connection_takes_nothing_away_that_counts(site: Site, connection: str) -> None:
    raw = (
        f"POST /dashboard HTTP/1.1\r\nHost: {site.gate.host}\r\n{SIGNED_IN}\r\nAuthorization: Basic eDp5\r\n"
        f"Accept: text/x\r\nContent-Type: text/y\r\nContent-Length: 5\r\nConnection: {connection}\r\n\r\nhello"
    )
    assert [answer.status for answer in await site.say(raw)] == [200]
    request = site.received
    assert request.body == b"hello"
    expected = {
        "host": site.gate.host,
        "x-auth-status": "authenticated",
        "x-auth-user-id": USER_ID,
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": site.gate.host,
        "authorization": "Basic eDp5",
        "accept": "text/x",
        "content-type": "text/y",
        "content-length": "5",
    }
    assert {name: request.values(name) for name in expected} == {name: [value] for name, value in expected.items()}
    assert request.values("x-auth-session-id") != []
    assert request.values("cookie") == [SIGNED_IN.removeprefix("Cookie: ")]
    assert len(request.values("x-request-id")) == 1
    assert request.values("connection") == []


@pytest.mark.parametrize("line", HOP_BY_HOP)
async def test_hop_by_hop_fields_stay_behind_named_or_not(site: Site, line: str) -> None:
    name = line.partition(":")[0]
    for connection in ("close", f"close, {name}"):
        raw = f"GET /open HTTP/1.1\r\nHost: h\r\n{line}\r\nX-Kept: 1\r\nConnection: {connection}\r\n\r\n"
        assert [answer.status for answer in await site.say(raw)] == [200]
    for request in site.upstream.requests:
        assert request.values(name) == []
        assert request.values("x-kept") == ["1"]


async def test_what_is_named_is_dropped_every_time_it_stands_there(site: Site) -> None:
    fields = "X-Hop: canary\r\nx-hop: canary\r\nConnection: X-HOP, close\r\nX-Hop: canary\r\n"
    await site.say(f"GET /open HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    assert b"canary" not in site.received.head


@pytest.mark.parametrize("named", ["Content-Length", "Transfer-Encoding", "content-length, transfer-encoding"])
@pytest.mark.parametrize("framing", ["Content-Length: 36", "Transfer-Encoding: chunked"])
async def test_framing_cannot_be_named_away(site: Site, named: str, framing: str) -> None:
    """Else the body would be the next request."""
    body = "GET /dashboard HTTP/1.1\r\nHost: h\r\n\r\n"
    sent = body if "Length" in framing else f"24\r\n{body}\r\n0\r\n\r\n"
    raw = f"POST /open HTTP/1.1\r\nHost: h\r\n{framing}\r\nConnection: close, {named}\r\n\r\n{sent}"
    assert [answer.status for answer in await site.say(raw)] == [200]
    assert site.received.body == body.encode()


async def test_http_1_0_names_nothing_away_either(site: Site) -> None:
    raw = f"GET /dashboard HTTP/1.0\r\nHost: h\r\n{SIGNED_IN}\r\nConnection: keep-alive, X-Auth-User-Id, Host\r\n\r\n"
    conversation = await site.open()
    conversation.send(raw)
    conversation.send("GET /last HTTP/1.0\r\n\r\n")
    assert [answer.status for answer in await conversation.end()] == [200, 200]
    assert site.upstream.requests[0].values("x-auth-user-id") == [USER_ID]


async def test_an_app_cannot_have_the_gates_promises_taken_away(site: Site) -> None:
    """`Connection` of a response: it takes away neither cookies nor what guards the page."""

    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nCache-Control: no-store\r\n"
            b"Content-Security-Policy: default-src 'none'\r\nX-Hop: canary\r\n"
            b"Connection: Set-Cookie, Cache-Control, Content-Security-Policy, Content-Length, X-Hop\r\n"
            b"Keep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nTrailer: X-A\r\nUpgrade: h2c\r\n"
            b"Content-Length: 2\r\n\r\nok"
        )
        return True

    site.upstream.answering = answer
    response = await site.ask("GET", "/dashboard", SIGNED_IN)
    names = sorted(name.lower() for name, _ in response.fields)
    assert names == [b"cache-control", b"connection", b"content-length", b"content-security-policy", b"set-cookie"]
    assert response.body == b"ok"
    assert response.values(b"connection") == [b"close"]
