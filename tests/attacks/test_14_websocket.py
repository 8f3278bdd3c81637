"""Class 14: handshakes of other sites' pages, and what is no handshake.

What is let through is not looked at here: the tunnel has tests of its own.
"""

import pytest

from tests.attacks.site import SIGNED_IN, USER_ID, Site
from tests.server.gates import running_gate

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard, {{path: /seen, access: presence}}]
public: [{{path: /known, identity: optional}}]
websocket: {{origins: ['https://spa.example.test'], allow_no_origin: true}}
"""
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
FOREIGN = [
    *(
        "https://evil.test",
        "null",
        "",
        "http://127.0.0.1",
        "https://spa.example.test.evil.test",
        "https://spa.example.test/",
    ),
    *(
        "https://SPA.example.test",
        "http://spa.example.test",
        "https://spa.example.test:443",
        "https://x.spa.example.test",
    ),
    *("https://spa.example.test, https://evil.test", "https://evil.test https://spa.example.test", "file://", "*"),
]


async def shake(site: Site, target: str, *lines: str, body: str = "") -> int:
    """The status of the answer to a handshake; the connection is given up then."""
    conversation = await site.open()
    fields = "".join(f"{line}\r\n" for line in (*HANDSHAKE, *lines))
    conversation.send(f"GET {target} HTTP/1.1\r\nHost: {site.gate.host}\r\n{fields}\r\n{body}")
    answers = await conversation.answers(1)
    conversation.transport.abort()
    return answers[0].status


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_origin_opens_nothing_that_a_session_guards(site: Site, origin: str) -> None:
    for target in ("/dashboard", "/dashboard/ws", "//Dashboard;x/ws", "http://h/dashboard"):
        assert await shake(site, target, SIGNED_IN, f"Origin: {origin}") == 403
        assert await shake(site, target, f"Origin: {origin}") == 401
    assert await shake(site, "/seen", "Cookie: better-auth.session_token=x", f"Origin: {origin}") == 403
    assert site.reached == []


async def test_two_origins_do_not_add_up_to_the_right_one(site: Site) -> None:
    assert await shake(site, "/dashboard", SIGNED_IN, "Origin: https://evil.test", f"Origin: {site.gate.url}") == 403
    assert site.reached == []


@pytest.mark.parametrize("origin", FOREIGN)
async def test_on_an_optional_rule_a_foreign_page_is_nobody(site: Site, origin: str) -> None:
    await shake(site, "/known", SIGNED_IN, f"Origin: {origin}")
    request = site.received
    assert request.values("x-auth-status") == ["anonymous"]
    assert request.values("x-auth-user-id") == []


async def test_our_own_page_and_listed_ones_are_somebody(site: Site) -> None:
    for origin in (site.gate.url, "https://spa.example.test"):
        site.forget()
        await shake(site, "/known", SIGNED_IN, f"Origin: {origin}")
        assert site.received.values("x-auth-user-id") == [USER_ID]


async def test_no_origin_is_let_in_only_where_configured(site: Site) -> None:
    await shake(site, "/known", SIGNED_IN)
    assert site.received.values("x-auth-user-id") == [USER_ID]
    site.forget()
    more = "public: [{path: /known, identity: optional}]\nwebsocket: {allow_no_origin: false}\n"
    async with running_gate(site.upstream.url, site.database, more) as gate:
        strict = Site(gate, site.upstream, site.other, site.database)
        assert await shake(strict, "/dashboard", SIGNED_IN) == 403
        assert await shake(strict, "/dashboard", SIGNED_IN, "Origin_: x", f"Ori-gin: {gate.url}") == 403
        assert site.reached == []
        await shake(strict, "/known", SIGNED_IN)
        assert site.received.values("x-auth-status") == ["anonymous"]


async def test_signed_out_is_signed_out_and_never_a_redirect(site: Site) -> None:
    for lines in ((), ("Accept: text/html",), ("Sec-Fetch-Mode: navigate",), ("Cookie: better-auth.session_token=x",)):
        assert await shake(site, "/dashboard/ws", *lines, f"Origin: {site.gate.url}") == 401
    assert site.reached == []


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("Upgrade: websocket", "Connection: Upgrade"), id="a-handshake"),
        pytest.param(("Upgrade: WebSocket", "Connection: keep-alive, upgrade"), id="in-other-case"),
        pytest.param(("Upgrade:\twebsocket", "Connection: x", "Connection: ,Upgrade"), id="in-two-lines"),
    ],
)
async def test_every_spelling_of_a_handshake_is_one(site: Site, lines: tuple[str, ...]) -> None:
    """What an app may take for a handshake must pass the same check of its origin."""
    fields = "".join(f"{line}\r\n" for line in (*lines, *HANDSHAKE[2:], SIGNED_IN, "Origin: https://evil.test"))
    conversation = await site.open()
    conversation.send(f"GET /dashboard/ws HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    answers = await conversation.answers(1)
    assert [answer.status for answer in answers] == [403]
    assert site.reached == []


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), id="h2c"),
        pytest.param(("Connection: Upgrade", "Upgrade: h2c, websocket"), id="a-list"),
        pytest.param(("Connection: Upgrade", "Upgrade: websocket, h2c"), id="a-list-the-other-way-round"),
        pytest.param(("Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"), id="two-lines"),
        pytest.param(("Connection: Upgrade", "Upgrade: websocket/13"), id="with-a-version"),
        pytest.param(("Connection: Upgrade", "Upgrade: TLS/1.0"), id="tls"),
        pytest.param(("Connection: Upgrade", "Upgrade:"), id="nothing"),
        pytest.param(("Upgrade: websocket",), id="not-named-in-connection"),
        pytest.param(("Connection: Upgrade",), id="named-but-not-there"),
        pytest.param(("HTTP2-Settings: AAMAAABk", "Connection: HTTP2-Settings"), id="settings-alone"),
    ],
)
async def test_what_is_no_handshake_is_a_plain_request_without_an_upgrade(site: Site, lines: tuple[str, ...]) -> None:
    conversation = await site.open()
    fields = "".join(f"{line}\r\n" for line in lines)
    conversation.send(f"GET /open HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    (answer,) = await conversation.answers(1)
    conversation.transport.abort()
    assert answer.status == 200
    for name in ("upgrade", "connection", "http2-settings"):
        assert site.received.values(name) == []


async def test_an_upgrade_in_http_1_0_is_none(site: Site) -> None:
    answers = await site.say("GET /open HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert [answer.status for answer in answers] == [200]
    assert site.received.values("upgrade") == []
