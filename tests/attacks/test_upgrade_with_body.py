"""A WebSocket handshake with a body is refused, and what follows it is never a request."""

import pytest

from tests.attacks.site import SIGNED_IN, Site

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("framing", "body"), [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
)
async def test_a_handshake_with_a_body_is_refused(site: Site, framing: str, body: str) -> None:
    for target in ("/open", "/dashboard"):
        raw = f"GET {target} HTTP/1.1\r\nHost: {site.gate.host}\r\n{SIGNED_IN}\r\n"
        raw += "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        raw += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        answers = await site.say(
            f"{raw}{framing}\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        assert [answer.status for answer in answers] == [400]
    assert site.reached == []
