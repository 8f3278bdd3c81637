"""`stores.http`, `stores.get_session`: every store's contract with an app on a real socket, and what apps get wrong."""

import asyncio
import gzip
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.cookies import Keys
from gatekeeper.core.errors import GatekeeperError, StoreLimited, StoreUnavailable
from gatekeeper.core.model import SessionToken
from gatekeeper.stores.get_session import BODY_LIMIT_BYTES
from gatekeeper.stores.http import HttpStore
from gatekeeper.stores.protocol import SessionStore, StoreIncomplete
from tests.better_auth_db import iso
from tests.certificates import Authority
from tests.server.upstreams import Received, RecordingUpstream, recording_upstream
from tests.stores.better_auth_app import COOKIE, BetterAuthApp
from tests.stores.contract import CREATED_MS, EXPIRES_MS, TOKEN, StoreContract, messages_of

SECRET = "vector-secret-A-0123456789abcdefghijklmnop"
VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "signed-cookies.json").read_text())["signedCookies"]
REQUEST_LINE = "GET /api/auth/get-session?disableCookieCache=true&disableRefresh=true HTTP/1.1"
PATIENCE_S = 30.0

SESSION = {
    "expiresAt": iso(EXPIRES_MS),
    "token": TOKEN,
    "createdAt": iso(CREATED_MS),
    "updatedAt": iso(CREATED_MS),
    "ipAddress": "",
    "userAgent": "",
    "userId": "user_1",
    "id": "session_1",
}
USER = {
    "name": "Ada Lovelace",
    "email": "ada@example.test",
    "emailVerified": True,
    "image": None,
    "createdAt": iso(CREATED_MS),
    "updatedAt": iso(CREATED_MS),
    "id": "user_1",
}


class TestHttp(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[SessionStore]:
        self.app = BetterAuthApp(SECRET, now_ms=CREATED_MS)
        await self.app.start()
        store = HttpStore(self.app.url, cookie_name=COOKIE, keys=Keys([SECRET]), pool=2)
        yield store
        await store.close()
        await self.app.stop()

    async def insert_user(self, **fields: Any) -> None:
        usual = {"name": "Ada Lovelace", "email": "ada@example.test", "emailVerified": True, "image": None}
        self.app.users[fields["id"]] = {**usual, "createdAt": CREATED_MS, "updatedAt": CREATED_MS, **fields}

    async def insert_session(self, **fields: Any) -> None:
        usual = {"createdAt": CREATED_MS, "updatedAt": CREATED_MS, "expiresAt": EXPIRES_MS}
        usual |= {"id": f"id-of-{fields['token']}", "ipAddress": "", "userAgent": ""}
        self.app.sessions[fields["token"]] = {**usual, **fields}

    async def delete_session(self, token: str) -> None:
        del self.app.sessions[token]

    async def break_store(self) -> None:
        await self.app.stop()

    async def repair_store(self) -> None:
        await self.app.start()

    async def test_an_expired_session_is_returned_as_it_is(self, store: SessionStore) -> None:
        """Not here: the app judges that itself, and has no session to give."""
        await self.sign_in(expiresAt=CREATED_MS)
        assert await store.read_session(TOKEN) is not None
        self.app.now_ms += 1
        assert await store.read_session(TOKEN) is None


# An app that sends what it is told


@pytest.fixture
async def app() -> AsyncIterator[RecordingUpstream]:
    async with recording_upstream() as app:
        yield app


@asynccontextmanager
async def asking(app: RecordingUpstream, **settings: Any) -> AsyncIterator[HttpStore]:
    url = settings.pop("url", f"{app.url}/api/auth")
    store = HttpStore(url, **{"cookie_name": COOKIE, "keys": Keys([SECRET]), "pool": 2, **settings})
    try:
        yield store
    finally:
        await store.close()


def http(status: int, body: bytes | object = b"", *lines: str) -> bytes:
    """An answer, byte for byte."""
    content = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    head = [f"HTTP/1.1 {status} Reason", "Content-Type: application/json", f"Content-Length: {len(content)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + content


def found(session: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"session": {**SESSION, **(session or {})}, "user": {**USER, **(user or {})}}


NOBODY = http(200, b"null")
SOMEBODY = http(200, found())


def script(app: RecordingUpstream, *answers: bytes, goes_on: bool = True) -> None:
    """Have the app answer with these, one after the other, the last one again and again."""
    rest = list(answers)

    async def answering(_: Received, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(rest.pop(0) if len(rest) > 1 else rest[0])
        await writer.drain()
        return goes_on

    app.answering = answering


async def trouble_of(store: HttpStore) -> str:
    """The message of a read that must fail, and must not tell the token in whatever a log may show."""
    with pytest.raises(StoreUnavailable) as caught:
        await store.read_session(TOKEN, "203.0.113.7")
    assert TOKEN not in messages_of(caught.value)
    return str(caught.value)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  # nobody tells: it happens on the other side of a socket
            await asyncio.sleep(0)


# What is sent


def sent_lines(received: Received) -> list[str]:
    return received.head.decode().removesuffix("\r\n\r\n").split("\r\n")


async def test_the_request_is_this_and_nothing_else(app: RecordingUpstream) -> None:
    script(app, NOBODY)
    async with asking(app) as store:
        vector = next(v for v in VECTORS if v["secret"] == SECRET and "%2B" in v["cookieValue"])
        assert await store.read_session(SessionToken(vector["value"]), "203.0.113.7") is None
    (received,) = app.requests
    first, *rest = sent_lines(received)
    assert first == REQUEST_LINE
    assert sorted(rest) == [
        "Accept-Encoding: identity",
        "Accept: application/json",
        f"Cookie: better-auth.session_token={vector['cookieValue']}",
        f"Host: 127.0.0.1:{app.port}",
        "User-Agent: gatekeeper",
        "X-Forwarded-For: 203.0.113.7",
    ]


@pytest.mark.parametrize("secret", sorted({vector["secret"] for vector in VECTORS}))
async def test_cookies_are_signed_as_better_auth_signs_them(app: RecordingUpstream, secret: str) -> None:
    """With the current secret alone, the only one that the app accepts."""
    script(app, NOBODY)
    vectors = [vector for vector in VECTORS if vector["secret"] == secret and vector["value"]]
    async with asking(app, keys=Keys([secret, "an-older-secret"]), cookie_name="__Secure-x.session_token") as store:
        for vector in vectors:
            await store.read_session(SessionToken(vector["value"]))
    sent = [received.values("Cookie") for received in app.requests]
    assert sent == [[f"__Secure-x.session_token={vector['cookieValue']}"] for vector in vectors]


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        pytest.param("203.0.113.7", ["203.0.113.7"], id="ipv4"),
        pytest.param("2001:DB8:0::1", ["2001:db8::1"], id="ipv6"),
        pytest.param("::ffff:203.0.113.7", ["203.0.113.7"], id="ipv4-mapped"),
        pytest.param(None, [], id="none"),
        pytest.param("", [], id="empty"),
        pytest.param("unix:", [], id="unix-socket"),
        pytest.param("fe80::1%eth0", [], id="zone"),
        pytest.param("203.0.113.7, 10.0.0.1", [], id="two"),
        pytest.param("203.0.113.7:80", [], id="port"),
        pytest.param("203.0.113.7\r\nX-Other: 1", [], id="line-break"),
        pytest.param("localhost", [], id="name"),
    ],
)
async def test_one_address_or_none_is_sent(app: RecordingUpstream, address: str | None, sent: list[str]) -> None:
    script(app, NOBODY)
    async with asking(app) as store:
        await store.read_session(TOKEN, address)
    assert app.requests[0].values("X-Forwarded-For") == sent
    assert app.requests[0].trouble is None


async def test_cookies_of_an_answer_do_not_come_back(app: RecordingUpstream) -> None:
    lines = [f"Set-Cookie: {name}=kept; Path=/" for name in ("better-auth.session_data", COOKIE, "other")]
    script(app, http(200, found(), *lines))
    # By name: cookies of a bare address are kept by no client, whatever it is told.
    async with asking(app, url=f"http://localhost:{app.port}/api/auth") as store:
        for _ in range(3):
            assert await store.read_session(TOKEN) is not None
    first, *others = [received.values("Cookie") for received in app.requests]
    assert others == [first] * 2
    assert "kept" not in first[0]


async def test_tokens_that_no_cookie_can_hold_are_not_asked_for(app: RecordingUpstream) -> None:
    script(app, SOMEBODY)
    async with asking(app) as store:
        for token in ("", "\ud800", "x" * 4096):
            assert await store.read_session(SessionToken(token)) is None
    assert app.requests == []


async def test_nothing_of_the_environment_is_used(
    app: RecordingUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    script(app, SOMEBODY)
    async with asking(app) as store:
        assert await store.read_session(TOKEN) is not None
    assert app.requests[0].values("Authorization") == []


# What is answered


async def test_declared_fields_and_those_of_plugins_come_along(app: RecordingUpstream) -> None:
    user = {"role": "admin", "banned": False, "banExpires": None, "twoFactorEnabled": True, "plan": "pro"}
    session = {"impersonatedBy": "user_2", "activeOrganizationId": None, "device": "phone"}
    script(app, http(200, {**found(session, user), "needsRefresh": True}))
    async with asking(app, session_extra=("device",), user_extra=("plan", "left out")) as store:
        record = await store.read_session(TOKEN)
    assert record is not None
    assert (record.user.role, record.user.banned, record.user.two_factor_enabled) == ("admin", False, True)
    assert (record.session.impersonated_by, record.session.active_organization_id) == ("user_2", None)
    assert record.session.extra == {"device": "phone"}
    assert record.user.extra == {"plan": "pro", "left out": None}


@pytest.mark.parametrize("name", ["ipAddress", "userAgent", "image"])
async def test_fields_that_may_be_left_out(app: RecordingUpstream, name: str) -> None:
    body = found()
    for part in body.values():
        part.pop(name, None)
    script(app, http(200, body))
    async with asking(app) as store:
        assert await store.read_session(TOKEN) is not None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(found({"token": TOKEN.lower()}), id="another-token"),
        pytest.param(found({"token": None}), id="token-null"),
        pytest.param(found({"userId": "user_2"}), id="another-user"),
        pytest.param(found({"expiresAt": "garbage"}), id="date-garbage"),
        pytest.param(found({"expiresAt": None}), id="date-null"),
        pytest.param(found({"expiresAt": EXPIRES_MS}), id="date-number"),
        pytest.param(found({"expiresAt": "+275760-09-13T00:00:00.000Z"}), id="date-far-future"),
        pytest.param(found(user={"createdAt": ""}), id="date-of-the-user"),
        pytest.param(found({"id": ""}), id="id-empty"),
        pytest.param(found(user={"email": None}), id="no-email"),
        pytest.param(found(user={"name": "half of a pair: \ud83e"}), id="no-text"),
    ],
)
async def test_what_cannot_be_read_as_the_session_is_none(app: RecordingUpstream, body: object) -> None:
    script(app, http(200, body))
    async with asking(app) as store:
        assert await store.read_session(TOKEN) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"nul", id="cut"),
        pytest.param(b"null null", id="more-than-one"),
        pytest.param(f"<!doctype html><title>{TOKEN}</title>".encode(), id="page"),
        pytest.param([found()], id="list"),
        pytest.param(TOKEN, id="text"),
        pytest.param({}, id="empty-object"),
        pytest.param({"message": "Not found"}, id="other-object"),
        pytest.param({"session": SESSION}, id="no-user"),
        pytest.param({"session": None, "user": None}, id="nulls"),
        pytest.param({"session": TOKEN, "user": USER}, id="session-is-text"),
        pytest.param(b'{"session":{"token":"' + TOKEN.encode() + b'\xc3\x28"},"user":{}}', id="not-utf8"),
        pytest.param(b'{"session":{"token":' + b"[" * 100_000, id="deep"),
        pytest.param({"message": "half of a pair: \ud83e"}, id="no-text"),
        pytest.param(b'{"session":"\\ud83e', id="no-text-and-cut"),
    ],
)
async def test_an_answer_of_another_kind_signs_nobody_out(app: RecordingUpstream, body: object) -> None:
    script(app, http(200, body))
    async with asking(app) as store:
        message = await trouble_of(store)
        assert message == (
            f"{app.url}/api/auth: get-session answered 200 with something else than a session or null;"
            " is store.url right?"
        )


@pytest.mark.parametrize("part", ["session", "user"])
async def test_a_session_without_its_fields_signs_nobody_out(app: RecordingUpstream, part: str) -> None:
    script(app, http(200, {**found(), part: {"token": TOKEN, "email": "ada@example.test"}}))
    async with asking(app) as store:
        message = await trouble_of(store)
    missing = {
        "session": "session.id, session.expiresAt, session.createdAt, session.updatedAt, session.userId",
        "user": "user.id, user.name, user.emailVerified, user.createdAt, user.updatedAt",
    }[part]
    assert message == f"{app.url}/api/auth: get-session answers without {missing}"


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        pytest.param(201, "is store.url right?", id="201"),
        pytest.param(301, "redirects are not followed", id="301"),
        pytest.param(302, "redirects are not followed", id="302"),
        pytest.param(303, "redirects are not followed", id="303"),
        pytest.param(307, "redirects are not followed", id="307"),
        pytest.param(308, "redirects are not followed", id="308"),
        pytest.param(400, "is store.url right?", id="400"),
        pytest.param(401, "a sign-in of its own?", id="401"),
        pytest.param(403, "refuse the gate?", id="403"),
        pytest.param(404, "is store.url the base path of the app's Better Auth?", id="404"),
        pytest.param(429, "the app's rate limit", id="429"),
        pytest.param(500, "see the app's own log", id="500"),
        pytest.param(503, "see the app's own log", id="503"),
    ],
)
async def test_another_status_signs_nobody_out(app: RecordingUpstream, status: int, hint: str) -> None:
    """Whatever comes with it: `null`, a session, or where to go instead."""
    script(
        app,
        http(status, b"null", "Location: /api/auth/get-session", f"Set-Cookie: {COOKIE}=; Max-Age=0"),
        http(status, found(), f"Location: {app.url}/x?token={TOKEN}"),
    )
    async with asking(app) as store:
        for _ in range(2):
            message = await trouble_of(store)
            assert message.startswith(f"{app.url}/api/auth: get-session answered {status}; ")
            assert hint in message
    assert len(app.requests) == 2, "nothing is followed"


async def test_check_asks_without_a_cookie(app: RecordingUpstream) -> None:
    script(app, NOBODY)
    async with asking(app) as store:
        await store.check()
    (received,) = app.requests
    first, *rest = sent_lines(received)
    assert first == REQUEST_LINE
    assert sorted(line.partition(":")[0] for line in rest) == ["Accept", "Accept-Encoding", "Host", "User-Agent"]


async def test_check_refuses_an_app_that_knows_everybody(app: RecordingUpstream) -> None:
    script(app, SOMEBODY)
    async with asking(app) as store:
        with pytest.raises(StoreUnavailable, match="gives a session to a request without a cookie"):
            await store.check()


async def test_a_rate_limit_is_told_apart(app: RecordingUpstream) -> None:
    script(app, http(429), http(503))
    async with asking(app) as store:
        for kind in (StoreLimited, StoreUnavailable):
            with pytest.raises(StoreUnavailable) as caught:
                await store.read_session(TOKEN)
            assert type(caught.value) is kind


# Several at once


async def test_several_are_asked_for_one_by_one_under_their_own_addresses(app: RecordingUpstream) -> None:
    """That of the last read that found the session; none is known of a session that was not there."""
    script(app, http(200, found({"token": "a"})), http(200, found({"token": "b"})), SOMEBODY, NOBODY)
    async with asking(app, pool=1) as store:
        for token, address in (
            ("a", "203.0.113.1"),
            ("b", "203.0.113.2"),
            (TOKEN, "203.0.113.3"),
            ("c", "203.0.113.4"),
        ):
            await store.read_session(SessionToken(token), address)
        script(app, NOBODY, http(200, found({"token": "b"})), NOBODY)
        tokens = [SessionToken(token) for token in ("a", "b", "", "c", "b", TOKEN)]
        assert set(await store.read_sessions(tokens)) == {"b"}
        for token in ("a", "b"):
            await store.read_sessions([SessionToken(token)])
    asked = [received.values("X-Forwarded-For") for received in app.requests[4:]]
    assert asked == [["203.0.113.1"], ["203.0.113.2"], [], ["203.0.113.3"], [], ["203.0.113.2"]]


async def test_a_read_without_an_address_leaves_the_remembered_one(app: RecordingUpstream) -> None:
    script(app, SOMEBODY)
    async with asking(app) as store:
        await store.read_session(TOKEN, "192.0.2.1")
        await store.read_session(TOKEN)
        await store.read_sessions([TOKEN])
    assert [received.values("X-Forwarded-For") for received in app.requests] == [["192.0.2.1"], [], ["192.0.2.1"]]


async def test_addresses_are_remembered_within_bounds(app: RecordingUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.stores.http._ADDRESSES", 2)
    async with asking(app, pool=1) as store:
        for token in ("a", "b", "a", "c"):
            script(app, http(200, found({"token": token})))
            assert await store.read_session(SessionToken(token), f"203.0.113.{ord(token)}")
        script(app, NOBODY)
        await store.read_sessions([SessionToken(token) for token in "abc"])
    asked = [received.values("X-Forwarded-For") for received in app.requests[4:]]
    assert asked == [[f"203.0.113.{ord('a')}"], [], [f"203.0.113.{ord('c')}"]]


async def test_several_leave_connections_to_visitors(app: RecordingUpstream) -> None:
    release = hold(app)
    async with asking(app, pool=4, timeout_s=PATIENCE_S) as store:
        several = asyncio.ensure_future(store.read_sessions([SessionToken(f"{n}") for n in range(20)]))
        await until(lambda: len(app.requests) == 2)
        visitor = asyncio.ensure_future(store.read_session(TOKEN, "203.0.113.7"))
        await until(lambda: len(app.requests) == 3)
        assert app.requests[2].values("X-Forwarded-For") == ["203.0.113.7"]
        assert app.connections == 3
        release.set()
        assert await visitor is not None
        assert await several == {}, "the app answers with another session"


@pytest.mark.parametrize("status", [429, 500])
async def test_who_is_refused_keeps_nobody_else_from_being_asked_for(app: RecordingUpstream, status: int) -> None:
    script(app, NOBODY, http(status), SOMEBODY, NOBODY)
    async with asking(app, pool=1) as store:
        tokens = [SessionToken("gone"), SessionToken("refused"), TOKEN, SessionToken("gone too")]
        with pytest.raises(StoreIncomplete, match=f"answered {status}") as caught:
            await store.read_sessions(tokens)
    assert caught.value.found.keys() == {TOKEN}
    assert caught.value.unknown == {"refused"}


async def test_where_all_are_refused_the_app_is_well(app: RecordingUpstream) -> None:
    script(app, http(429))
    async with asking(app, pool=1) as store:
        with pytest.raises(StoreLimited):
            await store.read_sessions([SessionToken(f"{n}") for n in range(9)])
    assert len(app.requests) == 9


async def test_some_failures_end_the_question_for_several(app: RecordingUpstream) -> None:
    script(app, http(500))
    async with asking(app, pool=4) as store:
        with pytest.raises(StoreUnavailable, match="answered 500"):
            await store.read_sessions([SessionToken(f"{n}") for n in range(100)])
        asked = len(app.requests)
        assert asked < 10
        assert "0 reads" in repr(store)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(app.requests) == asked


# Answers that misbehave


@pytest.mark.parametrize(
    ("raw", "trouble"),
    [
        pytest.param(b"", "the connection ended before the answer", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=" + TOKEN.encode(), "the connection ended", id="half-a-head"),
        pytest.param(SOMEBODY[:-1], "cut off", id="half-a-body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnull\r\n", "cut off", id="no-last-chunk"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnull\r\nzz\r\n", "not HTTP", id="bad-chunk"
        ),
        pytest.param(http(200, b"not gzip at all", "Content-Encoding: gzip"), "malformed", id="not-gzip"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP", id="another-protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: \x00" + TOKEN.encode() + b"\r\n\r\n", "not HTTP", id="control-byte"),
        pytest.param(http(200, b"null", "X: " + "x" * 100_000), "not HTTP", id="long-head"),
    ],
)
async def test_half_and_broken_answers_are_none(app: RecordingUpstream, raw: bytes, trouble: str) -> None:
    script(app, raw, goes_on=False)
    async with asking(app) as store:
        assert trouble in await trouble_of(store)
        script(app, SOMEBODY)
        assert await store.read_session(TOKEN) is not None


@pytest.mark.parametrize("late", [b"zz\r\n", b"4\r\nnullx\r\n", b"4\rnull\r\n"], ids=["size", "end", "line"])
async def test_a_chunk_that_breaks_after_the_head_is_none(app: RecordingUpstream, late: bytes) -> None:
    """The library hangs up, but does not say so: the read is told when its time is over."""

    async def answering(_: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n")
        for _turn in range(20):
            await asyncio.sleep(0)
        writer.write(late)
        assert await reader.read() == b""
        return False

    app.answering = answering
    async with asking(app, timeout_s=0.05) as store:
        await trouble_of(store)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", id="half-a-head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnul", id="half-a-body"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="interim-answer"),
    ],
)
async def test_slow_answers_are_given_up(app: RecordingUpstream, raw: bytes) -> None:
    hung_up = asyncio.Event()

    async def answering(_: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(raw)
        assert await reader.read() == b""
        hung_up.set()
        return False

    app.answering = answering
    async with asking(app, timeout_s=0.05) as store:
        assert await trouble_of(store) == f"{app.url}/api/auth: no answer within 0.05 s"
        await hung_up.wait()


@pytest.mark.parametrize(
    ("framing", "piece"),
    [
        pytest.param("Content-Length: 10000000000", b" " * 65_536, id="length"),
        pytest.param("Transfer-Encoding: chunked", b"10000\r\n" + b" " * 65_536 + b"\r\n", id="chunks"),
        pytest.param("Connection: close", b" " * 65_536, id="until-it-closes"),
    ],
)
async def test_endless_bodies_are_given_up(app: RecordingUpstream, framing: str, piece: bytes) -> None:
    hung_up = asyncio.Event()

    async def answering(_: Received, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        try:
            while True:
                writer.write(piece)
                await writer.drain()
        finally:
            hung_up.set()

    app.answering = answering
    async with asking(app, timeout_s=PATIENCE_S) as store:
        assert await trouble_of(store) == f"{app.url}/api/auth: the answer is longer than {BODY_LIMIT_BYTES} bytes"
        await hung_up.wait()


@pytest.mark.parametrize(("more", "is_read"), [(0, True), (1, False)], ids=["as-long-as-may-be", "a-byte-more"])
async def test_the_limit_of_a_body(app: RecordingUpstream, more: int, is_read: bool) -> None:
    script(app, http(200, json.dumps(found()).encode().ljust(BODY_LIMIT_BYTES + more)))
    async with asking(app, timeout_s=PATIENCE_S) as store:
        if is_read:
            assert await store.read_session(TOKEN) is not None
        else:
            assert "longer than" in await trouble_of(store)


async def test_the_limit_holds_for_what_was_packed(app: RecordingUpstream) -> None:
    """Packing is not asked for.  Who does it nevertheless is read, up to the same limit."""
    small, bomb = (gzip.compress(json.dumps(found()).encode().ljust(size)) for size in (1, 64 * BODY_LIMIT_BYTES))
    assert len(bomb) < BODY_LIMIT_BYTES / 8
    script(app, http(200, small, "Content-Encoding: gzip"), http(200, bomb, "Content-Encoding: gzip"))
    async with asking(app, timeout_s=PATIENCE_S) as store:
        assert await store.read_session(TOKEN) is not None
        assert "longer than" in await trouble_of(store)


async def test_bytes_after_an_answer_are_not_the_next_one(app: RecordingUpstream) -> None:
    script(app, NOBODY + SOMEBODY, NOBODY)
    async with asking(app) as store:
        for _ in range(2):
            assert await store.read_session(TOKEN) is None


async def test_nothing_of_a_token_is_logged(app: RecordingUpstream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bad_line = f"Set-Cookie: {TOKEN}\x7f=x; ; ="
    script(app, http(200, found(), bad_line), http(404, b"", bad_line), b"junk " + TOKEN.encode() + b"\r\n\r\n")
    async with asking(app) as store:
        assert await store.read_session(TOKEN) is not None
        for _ in range(2):
            await trouble_of(store)
    assert TOKEN not in caplog.text


# Connections


async def test_connections_are_kept(app: RecordingUpstream) -> None:
    script(app, SOMEBODY)
    async with asking(app) as store:
        for _ in range(5):
            assert await store.read_session(TOKEN) is not None
    assert (len(app.requests), app.connections) == (5, 1)


async def test_a_kept_connection_that_is_dead_costs_one_more_try(app: RecordingUpstream) -> None:
    async def answering(_: Received, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if len(app.requests) == 2:
            return False
        writer.write(SOMEBODY)
        return True

    app.answering = answering
    async with asking(app) as store:
        for _ in range(2):
            assert await store.read_session(TOKEN) is not None
    assert (len(app.requests), app.connections) == (3, 2)


async def test_an_app_that_went_and_came_back_is_found(app: RecordingUpstream) -> None:
    """Both kept connections are dead, which nobody has noticed yet."""
    release = hold(app)
    async with asking(app, pool=2) as store:
        reads = [asyncio.ensure_future(store.read_session(TOKEN)) for _ in range(2)]
        await until(lambda: app.connections == 2)
        release.set()
        assert all(await asyncio.gather(*reads))
        app.drop_connections()
        assert await store.read_session(TOKEN) is not None
    assert app.connections == 3


async def test_an_app_that_always_hangs_up_is_not_asked_for_ever(app: RecordingUpstream) -> None:
    script(app, b"", goes_on=False)
    async with asking(app) as store:
        assert "the connection ended before the answer" in await trouble_of(store)
    assert len(app.requests) <= 2


async def test_no_more_connections_than_the_pool_has(app: RecordingUpstream) -> None:
    release = hold(app)
    async with asking(app, pool=2, timeout_s=PATIENCE_S) as store:
        reads = [asyncio.ensure_future(store.read_session(TOKEN)) for _ in range(6)]
        await until(lambda: len(app.requests) == 2)
        release.set()
        assert all(await asyncio.gather(*reads))
    assert (len(app.requests), app.connections) == (6, 2)


async def test_who_waits_for_a_connection_is_told_in_time(app: RecordingUpstream) -> None:
    release = hold(app)
    async with asking(app, pool=1, timeout_s=0.05) as store:
        results = await asyncio.gather(*(store.read_session(TOKEN) for _ in range(5)), return_exceptions=True)
        assert [str(result) for result in results] == [f"{app.url}/api/auth: no answer within 0.05 s"] * 5
        release.set()
        script(app, SOMEBODY)
        assert await store.read_session(TOKEN) is not None


async def test_closing_waits_for_the_reads_under_way(app: RecordingUpstream) -> None:
    """For those as well that wait for a connection; nobody is cancelled."""
    release = hold(app)
    async with asking(app, pool=1, timeout_s=PATIENCE_S) as store:
        reads = [asyncio.ensure_future(store.read_session(TOKEN)) for _ in range(3)]
        await until(lambda: len(app.requests) == 1)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="the store was closed"):
            await store.read_session(TOKEN)
        with pytest.raises(StoreUnavailable, match="the store was closed"):
            await store.check()
        assert not closing.done()
        release.set()
        await closing
        assert all(await asyncio.gather(*reads))
        await until(lambda: not app._writers)


async def test_a_cancelled_reader_leaves_the_store_in_order(app: RecordingUpstream) -> None:
    """Cancelled after each possible number of steps of the loop: cancellation passes, no connection is lost."""
    script(app, SOMEBODY)
    cancelled = 0
    async with asking(app, pool=1, timeout_s=PATIENCE_S) as store:
        for steps in range(40):
            read = asyncio.ensure_future(store.read_session(TOKEN))
            for _ in range(steps):
                await asyncio.sleep(0)
            read.cancel()
            try:
                assert await read is not None
            except asyncio.CancelledError:
                cancelled += 1
            assert await store.read_session(TOKEN) is not None
        assert "0 reads" in repr(store)
    assert cancelled


def hold(app: RecordingUpstream) -> asyncio.Event:
    """Have the app answer only once the event is set."""
    release = asyncio.Event()

    async def answering(_: Received, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await release.wait()
        writer.write(SOMEBODY)
        return True

    app.answering = answering
    return release


# URLs


async def test_user_info_is_sent_and_not_shown(app: RecordingUpstream) -> None:
    script(app, http(401))
    async with asking(app, url=f"http://gate:s3cret@127.0.0.1:{app.port}/api/auth/#x") as store:
        message = await trouble_of(store)
        assert "s3cret" not in message + repr(store)
        assert message.startswith(f"{app.url}/api/auth: ")
    assert app.requests[0].values("Authorization") == ["Basic Z2F0ZTpzM2NyZXQ="]
    assert app.requests[0].head.startswith(REQUEST_LINE.encode())


async def test_an_app_that_is_not_there_is_named() -> None:
    async with recording_upstream() as gone:
        pass
    async with asking(gone) as store:
        message = await trouble_of(store)
    assert message.startswith(f"{gone.url}/api/auth: cannot connect: Connect call failed")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:3000",
        "ftp://127.0.0.1/api/auth",
        "http:///api/auth",
        "http://127.0.0.1:port/api/auth",
        "http://127.0.0.1:70000/api/auth",
        "http://[::1/api/auth",
        "http://127.0.0.1:3000/api/auth?x=1",
        "http://127.0.0.1:3000/api/auth?ca=ca.crt",
        "https://127.0.0.1:3000/api/auth?ca=none.crt",
        "https://127.0.0.1:3000/api/auth?ca=",
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(GatekeeperError):
        HttpStore(url, cookie_name=COOKIE, keys=Keys([SECRET]))


@asynccontextmanager
async def app_with_tls(folder: Path, *hosts: str) -> AsyncIterator[BetterAuthApp]:
    authority = Authority()
    authority.write_certificate(folder / "ca.crt")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue(*hosts).write(folder / "app.crt", folder / "app.key"))
    app = BetterAuthApp(SECRET, now_ms=CREATED_MS, tls=context)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def check(url: str) -> None:
    store = HttpStore(url, cookie_name=COOKIE, keys=Keys([SECRET]))
    try:
        await store.check()
    finally:
        await store.close()


async def test_an_app_whose_authority_is_trusted(tmp_path: Path) -> None:
    async with app_with_tls(tmp_path, "127.0.0.1") as app:
        await check(f"{app.url}?ca={tmp_path / 'ca.crt'}")


@pytest.mark.parametrize(
    ("host", "option", "cause"),
    [
        pytest.param("127.0.0.1", "", "unable to get local issuer certificate", id="another-authority"),
        pytest.param("127.0.0.2", "?ca={ca}", "IP address mismatch", id="another-host"),
    ],
)
async def test_a_certificate_that_is_not_trusted(tmp_path: Path, host: str, option: str, cause: str) -> None:
    async with app_with_tls(tmp_path, host) as app:
        with pytest.raises(StoreUnavailable, match=rf"its certificate is not trusted: .*{cause}"):
            await check(app.url + option.format(ca=tmp_path / "ca.crt"))


async def test_tls_and_plain_http_do_not_meet(tmp_path: Path) -> None:
    plain = BetterAuthApp(SECRET, now_ms=CREATED_MS)
    await plain.start()
    try:
        with pytest.raises(StoreUnavailable, match="cannot connect"):
            await check(plain.url.replace("http", "https"))
    finally:
        await plain.stop()
    async with app_with_tls(tmp_path, "127.0.0.1") as app:
        with pytest.raises(StoreUnavailable):
            await check(app.url.replace("https", "http"))
