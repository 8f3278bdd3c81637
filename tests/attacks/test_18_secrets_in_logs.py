"""Class 18: what is logged, and what errors tell.  The captured attacks and their like, all at once, at level DEBUG."""

import asyncio
import logging
import re
from random import Random

import pytest

from tests.attacks.grammar import make_request, seeds
from tests.attacks.site import SIGNED_IN, TOKEN, Conversation, Site
from tests.attacks.strict import Answer
from tests.server.gates import COOKIE, SECRET, cookie_value

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALUE = cookie_value(TOKEN)
CANARY = "canary-4f1e"
SECRETS = [SECRET, TOKEN, VALUE, VALUE.partition(".")[2], CANARY]


async def attack(site: Site, raw: bytes) -> bytes:
    """What the gate says to these bytes until it closes or has said all that it will."""
    conversation: Conversation = await site.open()
    conversation.send(raw)
    for _ in range(200):
        await asyncio.sleep(0)
        if conversation.is_over:
            break
    conversation.transport.abort()
    return bytes(conversation.said)


async def test_no_secret_and_no_control_byte_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    chance = Random(18)  # noqa: S311 - to be repeatable, not secret
    base = seeds(site.gate.host, f"127.0.0.1:{site.upstream.port}")
    values = {b"{live}": VALUE.encode(), b"{dead}": cookie_value(CANARY).encode(), b"{case}": b"x"}
    made = [make_request(chance, base, values) for _ in range(600)]
    for start in range(0, len(made), 40):
        await asyncio.gather(*(attack(site, raw) for raw in made[start : start + 40]))
    lines = (
        *(
            SIGNED_IN,
            f"Authorization: Bearer {CANARY}",
            f"X-Secret: {CANARY}\x9b31m",
            f"Referer: http://h/?token={CANARY}",
        ),
    )
    for mode in ("not-http", "hang-up", "truncated", "bare-lf"):
        await site.ask("GET", f"/dashboard?token={CANARY}&code={CANARY}", *lines, f"X-Drill-Upstream: {mode}")
    await site.ask("GET", f"/dashboard?token={CANARY}", f"Cookie: {COOKIE}={CANARY}.{CANARY}")
    ours = [record for record in caplog.records if record.name.startswith(("gatekeeper", "aiohttp"))]
    assert len(ours) > 50
    text = "\n".join(record.getMessage() + (record.exc_text or "") for record in ours)
    assert [secret for secret in SECRETS if secret in text] == []
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text) is None


async def test_refusals_repeat_nothing_that_was_sent(site: Site) -> None:
    sent = [
        f"GET /{CANARY} HTTP/9.9\r\nHost: h\r\n\r\n",
        f"{CANARY.upper()} / HTTP/1.1\r\nHost: h\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {CANARY}@h\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: h\r\n{CANARY}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: h\r\nX: {CANARY}\0\r\n\r\n",
        f"GET /{CANARY}\\ HTTP/1.1\r\nHost: h\r\n\r\n",
        f"GET /{CANARY}%00 HTTP/1.1\r\nHost: h\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {CANARY}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {CANARY}\r\n\r\n",
        f"GET /{'a' * 9_000}{CANARY} HTTP/1.1\r\nHost: h\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: h\r\nX-{CANARY}: {'a' * 70_000}\r\n\r\n",
        f"GET /dashboard HTTP/1.1\r\nHost: h\r\nCookie: {COOKIE}={CANARY}\r\nConnection: close\r\n\r\n",
        f"GET /.gatekeeper/{CANARY} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ]
    for text in sent:
        answers = await site.say(text)
        assert len(answers) == 1
        assert 400 <= answers[0].status <= 505
        assert CANARY.encode() not in answers[0].body.lower()
        assert not any(CANARY.encode() in value.lower() for _, value in answers[0].fields)
    assert site.reached == []


def tells_nothing(answer: Answer) -> bool:
    names = {name.lower() for name, _ in answer.fields}
    words = (b"traceback", b"aiohttp", b"python", b".py", b"sqlite", b"127.0.0.1:", b"line ")
    return not names & {b"server", b"x-powered-by", b"via"} and not any(word in answer.body.lower() for word in words)


async def test_errors_tell_nothing_of_the_inside(site: Site) -> None:
    for mode in ("not-http", "hang-up", "bare-lf", "cl-te", "unasked-101", "header-injection"):
        for accept in ("text/html", "application/json"):
            answer = await site.ask("GET", "/x", f"X-Drill-Upstream: {mode}", f"Accept: {accept}")
            assert answer.status == 502
            assert tells_nothing(answer)
    for target in ("/dashboard", "/.gatekeeper", "/.gatekeeper/whoami", "/a%00", "/a%2fb"):
        for accept in ("text/html", "application/json"):
            assert tells_nothing(await site.ask("GET", target, f"Accept: {accept}"))


async def test_whoami_never_shows_the_token(site: Site) -> None:
    answer = await site.ask("GET", "/.gatekeeper/whoami", SIGNED_IN)
    assert answer.status == 200
    for secret in SECRETS:
        assert secret.encode() not in answer.body
    assert b"oken" not in answer.body


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/admin", "/debug", "/.env", "/server-status"])
async def test_nothing_of_the_inside_is_served_in_public(site: Site, path: str) -> None:
    """These are the app's paths on this listener."""
    await site.ask("GET", path)
    assert site.reached == [path]
