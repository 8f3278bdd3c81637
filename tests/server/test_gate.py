"""Admission: what is answered at once, what waits for the store, and what the store is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.config.load import load_text
from gatekeeper.config.snapshot import compile_settings
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import (
    Access,
    Allow,
    AuthStatus,
    Deny,
    Reason,
    RequestFacts,
    SessionRecord,
    SessionToken,
    SignIn,
    Target,
)
from gatekeeper.core.urls import parse_target
from gatekeeper.server.gate import Admission, Gate, Lookup, Runtime
from gatekeeper.server.pages import PageSettings
from gatekeeper.stores.cache import SessionCache
from tests.core.records import record
from tests.server.gates import COOKIE, SECRET, cookie_value
from tests.stores.claims import NO_CLAIMS

CONFIG = f"""
listen: 127.0.0.1:0
upstream: http://127.0.0.1:9
secret: {SECRET}
store: sqlite:///none.db
protect: [/dashboard, {{path: /edge, access: presence}}]
public: [{{path: /, identity: optional}}]
"""
TOKEN = "a-token-of-a-session"
NOW_MS = 1_800_000_000_000


class FakeStore:
    """A store that counts, waits and fails as told."""

    def __init__(self) -> None:
        self.records: dict[str, SessionRecord] = {}
        self.asked: list[str] = []
        self.addresses: list[str | None] = []
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    recheck_s = 1.0

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        self.asked.append(token)
        self.addresses.append(client_address)
        await self.gate.wait()
        if self.fails:
            raise StoreUnavailable("the fake store is away")
        return self.records.get(token)

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return


@asynccontextmanager
async def gate_on(store: FakeStore) -> AsyncIterator[Gate]:
    settings = load_text(CONFIG, source="test", base_dir=Path("."), environ={})
    cache = SessionCache(store, max_age_s=1, entries=10, negative_age_s=1, negative_entries=10, clock=lambda: 0.0)
    yield Gate(Runtime(compile_settings(settings), cache, NO_CLAIMS, {}), PageSettings("/sign-in"), lambda: NOW_MS)
    await cache.close()


def facts(path: str, token: str | None = None, accept: str = "text/html", method: str = "GET") -> RequestFacts:
    target = parse_target(method, path)
    assert isinstance(target, Target)
    cookie = None if token is None else f"{COOKIE}={token}"
    return RequestFacts(method, target, "http", "app.test", "127.0.0.1", cookie=cookie, accept=accept)


def live(token: str = TOKEN) -> SessionRecord:
    return record({"token": token, "expires_at_ms": NOW_MS + 60_000, "created_at_ms": NOW_MS - 60_000})


@pytest.mark.parametrize(
    ("path", "cookie", "kind", "reason"),
    [
        pytest.param("/open", None, Allow, Reason.PUBLIC, id="public"),
        pytest.param("/", None, Allow, Reason.PUBLIC, id="optional-without-cookie"),
        pytest.param("/", "forged.signature", Allow, Reason.PUBLIC, id="optional-with-a-bad-signature"),
        pytest.param("/dashboard", None, SignIn, Reason.NO_COOKIE, id="no-cookie"),
        pytest.param("/dashboard", "", SignIn, Reason.NO_COOKIE, id="empty-cookie"),
        pytest.param("/dashboard", "forged.signature", SignIn, Reason.BAD_SIGNATURE, id="bad-signature"),
        pytest.param("/edge", None, SignIn, Reason.NO_COOKIE, id="presence-without"),
        pytest.param("/edge", "anything", Allow, Reason.PRESENCE, id="presence-with"),
        pytest.param("/a%2fb", None, Deny, Reason.ENCODED_SLASH, id="encoded-slash"),
    ],
)
async def test_answered_at_once_and_without_the_store(
    path: str, cookie: str | None, kind: type, reason: Reason
) -> None:
    store = FakeStore()
    async with gate_on(store) as gate:
        admission = gate.try_admit(facts(path, cookie))
    assert isinstance(admission, Admission)
    assert isinstance(admission.decision, kind)
    assert admission.decision.reason is reason
    assert store.asked == []


async def test_unknown_session_waits_and_known_one_does_not() -> None:
    store = FakeStore()
    store.records[TOKEN] = live()
    async with gate_on(store) as gate:
        asked = facts("/dashboard", cookie_value(TOKEN))
        first = gate.try_admit(asked)
        assert isinstance(first, Lookup)
        assert first.token == TOKEN
        admission = await gate.admit(asked)
        assert isinstance(admission.decision, Allow)
        assert admission.decision.identity.status is AuthStatus.AUTHENTICATED
        assert gate.try_admit(asked) == admission
    assert store.asked == [TOKEN]


async def test_many_at_once_cost_one_read() -> None:
    store = FakeStore()
    store.records[TOKEN] = live()
    store.gate.clear()
    async with gate_on(store) as gate:
        asked = facts("/dashboard", cookie_value(TOKEN))
        waiting = [asyncio.ensure_future(gate.admit(asked)) for _ in range(20)]
        await asyncio.sleep(0)
        store.gate.set()
        admissions = await asyncio.gather(*waiting)
    assert {type(admission.decision) for admission in admissions} == {Allow}
    assert store.asked == [TOKEN]


async def test_the_store_is_told_who_asks() -> None:
    store = FakeStore()
    async with gate_on(store) as gate:
        await gate.admit(facts("/dashboard", cookie_value(TOKEN)))
        await gate.identify(facts("/x", cookie_value("other")))
    assert store.addresses == ["127.0.0.1"] * 2


async def test_store_away_is_503_and_logged_once_each_way(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.fails = True
    async with gate_on(store) as gate:
        asked = facts("/dashboard", cookie_value(TOKEN))
        for _ in range(3):
            decision = (await gate.admit(asked)).decision
            assert decision == Deny(503, Reason.STORE_UNAVAILABLE, retry_after=5)
        optional = (await gate.admit(facts("/", cookie_value(TOKEN)))).decision
        assert isinstance(optional, Allow)
        assert optional.identity.status is AuthStatus.UNKNOWN
        store.fails = False
        assert isinstance((await gate.admit(asked)).decision, SignIn)
    messages = [record.getMessage() for record in caplog.records if record.name == "gatekeeper"]
    assert len(messages) == 2
    assert "the fake store is away" in messages[0]
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("fault", ["expired", "banned"])
async def test_dead_session_is_no_session(fault: str) -> None:
    store = FakeStore()
    store.records[TOKEN] = (
        record({"token": TOKEN, "expires_at_ms": NOW_MS - 1})
        if fault == "expired"
        else record({"token": TOKEN, "expires_at_ms": NOW_MS + 1}, banned=True)
    )
    async with gate_on(store) as gate:
        asked = facts("/dashboard", cookie_value(TOKEN))
        decision = (await gate.admit(asked)).decision
        found = await gate.identify(asked)
    expected = Reason.SESSION_EXPIRED if fault == "expired" else Reason.USER_BANNED
    assert isinstance(decision, SignIn)
    assert decision.reason is expected
    assert found is expected


async def test_identify_says_who_or_why_not() -> None:
    store = FakeStore()
    store.records[TOKEN] = live()
    async with gate_on(store) as gate:
        assert await gate.identify(facts("/x")) is Reason.NO_COOKIE
        assert await gate.identify(facts("/x", "bad.sig")) is Reason.BAD_SIGNATURE
        assert await gate.identify(facts("/x", cookie_value("other"))) is Reason.SESSION_UNKNOWN
        assert await gate.identify(facts("/x", cookie_value(TOKEN))) == live()


@given(
    path=st.sampled_from(["/dashboard", "/Dashboard/x", "/dashboard;x", "//dashboard", "/x/../dashboard"]),
    cookie=st.text(alphabet=st.characters(codec="latin-1", exclude_characters=";"), max_size=80),
)
async def test_no_made_up_cookie_opens_a_protected_path(path: str, cookie: str) -> None:
    async with gate_on(FakeStore()) as gate:
        decision = (await gate.admit(facts(path, cookie))).decision
    assert isinstance(decision, SignIn)


def test_access_levels_are_complete() -> None:
    assert [access.value for access in Access] == ["public", "presence", "session", "fresh"]
