"""Class 17: a store that cannot answer, or answers nonsense, and verdicts that outlive their reason."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from tests.attacks.site import LAST, SIGNED_IN, TOKEN, USER_ID, Site
from tests.better_auth_db import add_session, execute
from tests.server.gates import COOKIE, cookie_value

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard, {{path: /seen, access: presence}}]
public: [{{path: /known, identity: optional}}]
session: {{memory_cache: {{max_age: 0}}}}
"""
HOUR_MS = 3_600_000


class Switch:
    """Stands between the gate and its store: lets reads through, fails them, or lets them wait."""

    def __init__(self, site: Site) -> None:
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0
        store = site.gate.gate.runtime.sessions._store
        read = store.read_session

        async def switched(token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
            self.reads += 1
            await self.gate.wait()
            if self.fails:
                raise StoreUnavailable("the switch is off")
            return await read(token, client_address)

        store.read_session = switched  # type: ignore[method-assign]
        self.restore = lambda: setattr(store, "read_session", read)


@pytest_asyncio.fixture(loop_scope="module")
async def switch(site: Site) -> AsyncIterator[Switch]:
    switch = Switch(site)
    yield switch
    switch.gate.set()
    switch.restore()


async def add(site: Site, token: str, **columns: object) -> str:
    """Another session of the same user; returns its Cookie line."""
    now_ms = time.time_ns() // 1_000_000
    add_session(site.database, user_id=USER_ID, token=token, expires_at_ms=now_ms + HOUR_MS, created_at_ms=now_ms)
    for name, value in columns.items():
        execute(site.database, f'update session set "{name}" = ? where token = ?', (value, token))  # noqa: S608
    return f"Cookie: {COOKIE}={cookie_value(token)}"


async def test_a_store_that_cannot_answer_is_neither_yes_nor_no(site: Site, switch: Switch) -> None:
    switch.fails = True
    for accept in ("Accept: text/html", "Accept: */*", "Sec-Fetch-Mode: navigate"):
        for method in ("GET", "POST", "HEAD", "DELETE"):
            answer = await site.ask(method, "/dashboard", SIGNED_IN, accept)
            assert answer.status == 503
            assert answer.values(b"retry-after") == [b"5"]
            assert answer.values(b"set-cookie") == answer.values(b"location") == []
            assert answer.values(b"cache-control") == [b"no-store"]
            assert b"the switch" not in answer.body
    assert (await site.ask("GET", "/.gatekeeper/whoami", SIGNED_IN)).status == 503
    assert site.reached == []


async def test_what_needs_no_store_goes_on_without_it(site: Site, switch: Switch) -> None:
    switch.fails = True
    assert (await site.ask("GET", "/open", SIGNED_IN)).status == 200
    assert (await site.ask("GET", "/seen", SIGNED_IN)).status == 200
    assert (await site.ask("GET", "/known", SIGNED_IN)).status == 200
    assert [request.values("x-auth-status") for request in site.upstream.requests] == [["anonymous"]] * 2 + [
        ["unknown"]
    ]
    assert [request.values("x-auth-user-id") for request in site.upstream.requests] == [[]] * 3
    assert (await site.ask("GET", "/dashboard", "Accept: text/html")).status == 307
    assert (await site.ask("GET", "/dashboard", f"Cookie: {COOKIE}=forged")).status == 401


async def test_it_recovers_by_itself(site: Site, switch: Switch) -> None:
    for fails, status in ((True, 503), (False, 200), (True, 503), (False, 200)):
        switch.fails = fails
        assert (await site.ask("GET", "/dashboard", SIGNED_IN)).status == status


async def test_a_slow_store_is_asked_once_for_each_token_and_holds_nobody_else_up(site: Site, switch: Switch) -> None:
    switch.gate.clear()
    waiting = []
    for _ in range(30):
        conversation = await site.open()
        conversation.send(f"GET /dashboard HTTP/1.1\r\nHost: h\r\n{SIGNED_IN}\r\nConnection: close\r\n\r\n")
        waiting.append(conversation)
    assert (await site.ask("GET", "/open", SIGNED_IN)).status == 200
    assert (await site.ask("GET", "/dashboard")).status == 401
    assert [bytes(conversation.said) for conversation in waiting] == [b""] * 30
    assert switch.reads == 1
    switch.gate.set()
    for conversation in waiting:
        assert [answer.status for answer in await conversation.end()] == [200]


def vanish(transport: asyncio.BaseTransport) -> None:
    """Leave by a reset: a client that only sends no more may still wait for its answer."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()  # type: ignore[attr-defined]


async def test_clients_that_leave_while_the_store_is_slow_take_nothing_with_them(site: Site, switch: Switch) -> None:
    switch.gate.clear()
    for _ in range(10):
        conversation = await site.open()
        conversation.send(f"GET /dashboard HTTP/1.1\r\nHost: h\r\n{SIGNED_IN}\r\n\r\n")
        assert await site.still_serves()
        vanish(conversation.transport)
    staying = await site.open()
    staying.send(f"GET /dashboard HTTP/1.1\r\nHost: h\r\n{SIGNED_IN}\r\nConnection: close\r\n\r\n")
    assert await site.still_serves()
    switch.gate.set()
    assert [answer.status for answer in await staying.end()] == [200]
    assert site.reached.count("/dashboard") == 1


async def test_a_verdict_belongs_to_one_request(site: Site) -> None:
    line = await add(site, "revoked-in-the-middle-of-it-0001")
    conversation = await site.open()
    signed = f"GET /dashboard HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n"
    conversation.send(signed)
    assert [answer.status for answer in await conversation.answers(1)] == [200]
    conversation.send("GET /dashboard HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [answer.status for answer in await conversation.answers(2)] == [200, 401]
    execute(site.database, "delete from session where token = ?", ("revoked-in-the-middle-of-it-0001",))
    conversation.send(signed.encode() + LAST)
    assert [answer.status for answer in await conversation.end()] == [200, 401, 401, 200]


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        pytest.param({"expiresAt": "2999-01-01T00:00:00.000Z"}, 200, id="far-away"),
        pytest.param({"expiresAt": "2020-01-01T00:00:00.000Z"}, 401, id="expired"),
        pytest.param({"expiresAt": "1970-01-01T00:00:00.000Z"}, 401, id="the-epoch"),
        pytest.param({"expiresAt": ""}, 401, id="empty"),
        pytest.param({"expiresAt": "never"}, 401, id="a-word"),
        pytest.param({"expiresAt": "Infinity"}, 401, id="infinity"),
        pytest.param({"expiresAt": "NaN"}, 401, id="not-a-number"),
        pytest.param({"expiresAt": "2999-13-45T99:99:99.000Z"}, 401, id="no-such-day"),
        pytest.param({"expiresAt": b"\xff\x00"}, 401, id="bytes"),
        pytest.param({"expiresAt": "-1"}, 401, id="negative"),
        pytest.param({"createdAt": "junk"}, 401, id="no-creation"),
        pytest.param({"userId": "nobody"}, 401, id="a-user-that-is-not-there"),
    ],
)
async def test_a_row_that_cannot_be_read_is_no_session(
    site: Site, columns: dict[str, object], status: int, request: pytest.FixtureRequest
) -> None:
    token = f"row-{request.node.callspec.id:_<28}"[:32]
    line = await add(site, token, **columns)
    for _ in range(2):
        answer = await site.ask("GET", "/dashboard", line)
        assert answer.status == status
        assert answer.values(b"set-cookie") == []
    assert len(site.reached) == (2 if status == 200 else 0)


async def test_a_file_that_turns_into_something_else_is_a_503(site: Site, tmp_path: Path) -> None:
    good = tmp_path / "good.db"
    for junk in (b"", b"not a database at all" * 100):
        site.database.rename(good)
        site.database.write_bytes(junk)
        try:
            assert (await site.ask("GET", "/dashboard", SIGNED_IN)).status == 503
            assert (await site.ask("GET", "/open")).status == 200
        finally:
            good.rename(site.database)
        assert (await site.ask("GET", "/dashboard", SIGNED_IN)).status == 200
    assert site.upstream.requests[-1].values("x-auth-user-id") == [USER_ID]


async def test_an_own_table_cannot_be_reached_through_a_token(site: Site, switch: Switch) -> None:
    """Signed by an app that signs what it is given: text is data to the store."""
    before = switch.reads
    for token in (
        "' or 1=1 --",
        f"{TOKEN}' --",
        "%",
        "_" * 32,
        f"{TOKEN}\0",
        f" {TOKEN}",
        f"{TOKEN} ",
        TOKEN.lower(),
        "x" * 2_000,
    ):
        answer = await site.ask("GET", "/dashboard", f"Cookie: {COOKIE}={cookie_value(token)}")
        assert answer.status == 401, token
    assert switch.reads > before
    assert site.reached == []
