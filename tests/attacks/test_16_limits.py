"""Class 16: heads and bodies made to cost more than they are worth.  Deadlines need real time: they are drills."""

import asyncio

import pytest

from tests.attacks.site import SIGNED_IN, Site
from tests.server.gates import COOKIE, cookie_value

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard]
limits: {{header_bytes: 8KiB, body_bytes: 10KB}}
"""


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("X: " + "a" * 9_000 + "\r\n", id="one-long-field"),
        pytest.param("X" * 9_000 + ": a\r\n", id="one-long-name"),
        pytest.param("".join(f"X-{i}: {'a' * 90}\r\n" for i in range(95)), id="many-short-fields"),
        pytest.param("".join(f"X-{i}: a\r\n" for i in range(150)), id="more-than-a-hundred-fields"),
        pytest.param("X: a\r\n" * 1_000, id="one-name-a-thousand-times"),
        pytest.param("Cookie: a=b\r\n" * 500, id="five-hundred-cookie-lines"),
        pytest.param("X-Auth-User-Id: " + "a" * 9_000 + "\r\n", id="one-that-is-dropped-anyhow"),
    ],
)
async def test_a_head_that_is_too_large_is_refused_whole(site: Site, lines: str) -> None:
    for target in ("/open", "/dashboard"):
        answers = await site.say(f"GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
        assert [answer.status in (400, 431) for answer in answers] == [True]
    assert site.reached == []
    assert await site.still_serves()


async def test_a_head_without_an_end_is_refused_before_it_ends(site: Site) -> None:
    for piece in ("X: a\r\n", "X: " + "a" * 500 + "\r\n", "a"):
        conversation = await site.open()
        conversation.send("GET /open HTTP/1.1\r\nHost: h\r\n" + ("X: " if piece == "a" else ""))
        sent = 0
        while not conversation.said and not conversation.is_over and sent < 100_000:
            conversation.send(piece * (1_000 if len(piece) < 10 else 4))
            sent += len(piece) * (1_000 if len(piece) < 10 else 4)
            for _ in range(20):
                await asyncio.sleep(0)
        answers = await conversation.end()
        assert [answer.status in (400, 431) for answer in answers] in ([True], [])
        assert sent < 100_000
    assert site.reached == []


async def test_a_target_that_is_too_long_is_refused(site: Site) -> None:
    for target in ("/" + "a" * 8_200, "/?" + "a" * 8_200, "/dashboard/" + "../" * 3_000, "http://" + "h" * 8_200 + "/"):
        answers = await site.say(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
        assert [answer.status in (400, 414, 431) for answer in answers] == [True]
    assert site.reached == []


async def test_a_path_made_of_many_readings_is_refused_not_worked_through(site: Site) -> None:
    for target in ("/" + ";/" * 2_000, "/" + ".../" * 1_500, "/" + "%3b/" * 1_500, "/" + "%20/" * 1_500 + "dashboard"):
        answers = await site.say(f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert [answer.status for answer in answers] == [400]
    assert site.reached == []


@pytest.mark.parametrize(
    "framing_and_body",
    [
        ("Content-Length: 10001", b""),
        ("Content-Length: 999999999999999999", b"hello"),
        ("Transfer-Encoding: chunked", b"2711\r\n" + b"a" * 10_001 + b"\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"1;x\r\na\r\n" * 10_001 + b"0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"fffffff\r\n" + b"a" * 20_000),
    ],
)
async def test_a_body_that_is_too_large_is_refused_whoever_sends_it(
    site: Site, framing_and_body: tuple[str, bytes]
) -> None:
    framing, body = framing_and_body
    for cookie, statuses in (("X: y", [401]), (SIGNED_IN, [413])):
        conversation = await site.open()
        conversation.send(f"POST /dashboard HTTP/1.1\r\nHost: h\r\n{cookie}\r\n{framing}\r\n\r\n".encode() + body)
        answers = await conversation.answers(1)
        conversation.transport.abort()
        assert [answer.status for answer in answers] == statuses
    assert await site.still_serves()


async def test_tokens_of_nobody_are_remembered_in_a_bounded_way(site: Site) -> None:
    """Junk costs no memory, and good signatures of no session a bounded amount."""
    sessions = site.gate.gate.runtime.sessions
    before = sessions.size
    for number in range(50):
        await site.ask("GET", "/dashboard", f"Cookie: {COOKIE}=junk-{number}.{'A' * 43}=")
    assert len(sessions._absent) == 0
    for number in range(50):
        await site.ask("GET", "/dashboard", f"Cookie: {COOKIE}={cookie_value(f'nobody-{number}')}")
    assert 0 < len(sessions._absent) <= sessions._negative_entries
    assert sessions.size == before


async def test_many_connections_that_say_nothing_hold_nobody_up(site: Site) -> None:
    idle = [await site.open() for _ in range(200)]
    for conversation in idle[:100]:
        conversation.send("GET /dashboard HTTP/1.1\r\nHo")
    assert await site.still_serves()
    for conversation in idle:
        conversation.transport.abort()
    assert await site.still_serves()
