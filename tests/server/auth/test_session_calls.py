"""Sessions of account calls: found, kept up, listed and revoked, and what the gate is told of it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gatekeeper.core.cookies import Keys, find_cookie
from gatekeeper.core.model import SessionRecord
from gatekeeper.core.session_data import SessionDataCookie, Strategy, decode
from gatekeeper.core.session_data_writing import SessionDataFormat
from tests.core.records import NOW_MS
from tests.server.auth.calling import DAY_MS, KEYS, MINUTE_MS, SECRET, Result, Site, token_cookie
from tests.server.auth.replays import NAMES

ALL = [NAMES.session_token, NAMES.session_data, NAMES.dont_remember]


def data_record(result: Result, site: Site, strategy: Strategy = "compact") -> SessionRecord:
    """What the session_data cookie of an answer says."""
    raw = find_cookie(result.cookie_header, NAMES.session_data)
    assert raw is not None
    cookie = decode(raw, KEYS, strategy=strategy, version="1", now_ms=site.now_ms)
    assert isinstance(cookie, SessionDataCookie)
    return cookie.record


@pytest.mark.parametrize("strategy", ["compact", "jwt", "jwe"])
async def test_session_data_is_made_and_left_alone_until_it_ends(strategy: Strategy) -> None:
    site = Site(SessionDataFormat(strategy, "1", 300))
    signed_up = await site.sign_up()
    token = signed_up.document["token"]
    assert data_record(signed_up, site, strategy).session.token == token
    early = Site()
    site.now_ms += 5 * MINUTE_MS - 1000
    assert (await site.get("/get-session", signed_up.cookie_header)).cookies == {}
    site.now_ms += 2_000
    renewed = await site.get("/get-session", signed_up.cookie_header)
    assert list(renewed.cookies) == [NAMES.session_data]
    assert data_record(renewed, site, strategy) == data_record(signed_up, early, strategy)
    assert (await site.get("/get-session", f"{token_cookie(token)}; {renewed.cookie_header}")).cookies == {}


async def test_session_data_of_a_session_that_was_revoked_makes_nothing_live() -> None:
    site = Site()
    signed_up = await site.sign_up()
    site.accounts.sessions.clear()
    result = await site.get("/get-session", signed_up.cookie_header)
    assert result.document is None
    assert list(result.cookies) == ALL
    assert all("Max-Age=0" in line for line in result.cookies.values())


async def test_session_data_is_made_anew_where_something_changed_elsewhere() -> None:
    site = Site()
    signed_up = await site.sign_up()
    user_id = signed_up.document["user"]["id"]
    site.accounts.users[user_id] = replace(site.accounts.users[user_id], name="Countess")
    result = await site.get("/get-session", signed_up.cookie_header)
    assert result.document["user"]["name"] == "Countess"
    assert data_record(result, site).user.name == "Countess"


async def test_session_data_in_chunks_is_cleared_with_the_answer_that_makes_a_whole_one() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    name = NAMES.session_data
    result = await site.get("/get-session", f"{token_cookie(token)}; {name}.0=a; {name}.1=b")
    assert list(result.cookies) == [f"{name}.0", f"{name}.1", name]
    assert ["Max-Age=0" in line for line in result.cookies.values()] == [True, True, False]


async def test_without_a_cache_a_session_data_cookie_is_cleared_whoever_sends_it() -> None:
    site = Site(None)
    result = await site.get("/get-session", f"{NAMES.session_data}=x")
    assert result.document is None
    assert list(result.cookies) == [NAMES.session_data]
    signed_up = await site.sign_up()
    assert NAMES.session_data not in signed_up.cookies
    assert (await site.get("/get-session", signed_up.cookie_header)).cookies == {}


@pytest.mark.parametrize(
    ("query", "from_store"),
    [
        pytest.param("", False, id="plain"),
        pytest.param("?disableCookieCache=false", True, id="any-text-is-true"),
        pytest.param("?disableCookieCache=", False, id="empty-is-false"),
        pytest.param("?disableCookieCache=&disableCookieCache=", True, id="twice-is-true"),
        pytest.param("?disableRefresh=1", False, id="the-other-query"),
    ],
)
async def test_who_is_asked(query: str, from_store: bool) -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    await site.get(f"/get-session{query}", token_cookie(token))
    assert site.sessions.from_store == [from_store]


@pytest.mark.parametrize("path", ["/revoke-sessions", "/revoke-other-sessions", "/revoke-session", "/change-password"])
async def test_what_ends_sessions_asks_the_store(path: str) -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    body = {"token": "x", "newPassword": "another horse", "currentPassword": "wrong"}
    await site.post(path, body, token_cookie(token))
    assert site.sessions.from_store == [True]


async def test_a_due_session_is_extended_and_read_anew() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    site.now_ms += DAY_MS
    result = await site.get("/get-session", token_cookie(token))
    assert site.accounts.sessions[token].expires_at_ms == site.now_ms + 2 * DAY_MS
    assert list(result.cookies) == [NAMES.session_token, NAMES.session_data]
    assert "Max-Age=172800" in result.cookies[NAMES.session_token]
    assert data_record(result, site).session == site.accounts.sessions[token]
    assert site.sessions.told == [("changed", (token,))]


async def test_a_millisecond_earlier_it_is_not_due() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    site.now_ms += DAY_MS - 1
    result = await site.get("/get-session", token_cookie(token))
    assert list(result.cookies) == [NAMES.session_data]
    assert "extend" not in site.accounts.calls


@pytest.mark.parametrize("is_disabled", [True, False])
async def test_who_is_not_to_be_remembered_or_asks_for_no_refresh_is_not_extended(is_disabled: bool) -> None:
    site = Site()
    signed_up = await site.sign_up(rememberMe=is_disabled)
    token = signed_up.document["token"]
    site.now_ms += DAY_MS - 1000
    cookie = token_cookie(token) if is_disabled else signed_up.cookie_header
    result = await site.get("/get-session?disableRefresh=1" if is_disabled else "/get-session", cookie)
    assert result.document["session"]["token"] == token
    assert "extend" not in site.accounts.calls
    assert [line for line in result.cookies.values() if "Max-Age=0" not in line] == []


async def test_a_session_that_another_call_has_extended_meanwhile_is_read_again() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    site.now_ms += DAY_MS
    stale = site.accounts.sessions[token]
    newer = replace(stale, expires_at_ms=site.now_ms + 2 * DAY_MS - 5, updated_at_ms=site.now_ms - 5)
    site.accounts.sessions[token] = newer
    site.sessions.remembered = SessionRecord(stale, site.accounts.users[stale.user_id])
    result = await site.get("/get-session", token_cookie(token))
    assert data_record(result, site).session == newer
    assert site.accounts.sessions[token] == newer
    assert NAMES.session_token in result.cookies


async def test_a_session_that_was_revoked_while_it_was_extended_is_over() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    site.now_ms += DAY_MS
    stale = site.accounts.sessions.pop(token)
    site.sessions.remembered = SessionRecord(stale, site.accounts.users[stale.user_id])
    result = await site.get("/get-session", token_cookie(token))
    assert result.document is None
    assert list(result.cookies) == ALL


async def test_an_expired_session_is_removed_and_one_of_a_banned_user_is_not() -> None:
    site = Site()
    first = (await site.sign_up()).document["token"]
    site.now_ms += 2 * DAY_MS
    assert (await site.get("/get-session", token_cookie(first))).document is not None  # the last moment
    site.accounts.sessions[first] = replace(site.accounts.sessions[first], expires_at_ms=site.now_ms - 1)
    result = await site.get("/get-session", token_cookie(first))
    assert (result.document, list(result.cookies)) == (None, ALL)
    assert first not in site.accounts.sessions
    assert site.sessions.told[-1] == ("ended", (first,))
    signed_in = await site.sign_in()
    token, user_id = signed_in.document["token"], signed_in.document["user"]["id"]
    site.accounts.users[user_id] = replace(site.accounts.users[user_id], banned=True)
    assert (await site.get("/get-session", token_cookie(token))).document is None
    assert token in site.accounts.sessions


async def test_a_session_that_was_extended_elsewhere_is_not_removed_for_what_is_remembered() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    stored = site.accounts.sessions[token]
    old = replace(stored, expires_at_ms=site.now_ms - 1)
    site.sessions.remembered = SessionRecord(old, site.accounts.users[stored.user_id])
    result = await site.get("/get-session", token_cookie(token))
    assert result.document["session"]["token"] == token
    assert site.accounts.sessions == {token: stored}
    assert site.sessions.from_store == [False, True]


async def test_a_session_under_an_older_secret_gets_its_cookies_under_the_current_one() -> None:
    site = Site(keys=Keys(["a-newer-secret", SECRET]))
    token = (await site.sign_up()).document["token"]
    result = await site.get("/get-session", token_cookie(token, Keys([SECRET])))
    assert result.document["session"]["token"] == token
    expected = token_cookie(token, Keys(["a-newer-secret"]))
    assert result.cookies[NAMES.session_token].startswith(f"{expected}; Max-Age=172800;")


async def test_list_sessions_needs_a_fresh_one_and_has_live_ones_alone() -> None:
    site = Site(fresh_age_s=60.0)
    first = (await site.sign_up()).document["token"]
    expired = (await site.sign_in()).document["token"]
    site.accounts.sessions[expired] = replace(site.accounts.sessions[expired], expires_at_ms=NOW_MS)
    site.now_ms += MINUTE_MS - 1
    listed = await site.get("/list-sessions", token_cookie(first))
    assert [one["token"] for one in listed.document] == [first]
    site.now_ms += 1
    assert (await site.get("/list-sessions", token_cookie(first))).code == "SESSION_NOT_FRESH"


async def test_revoke_session_by_token_and_by_id_of_the_caller_alone() -> None:
    site = Site()
    caller = (await site.sign_up()).document["token"]
    others = [(await site.sign_in()).document["token"] for _ in range(2)]
    foreign = (await site.sign_up("bo@example.test")).document["token"]
    by_id = site.accounts.sessions[others[1]].id
    for named, gone in ((others[0], others[0]), (by_id, others[1])):
        result = await site.post("/revoke-session", {"token": named}, token_cookie(caller))
        assert (result.status, result.document) == (200, {"status": True})
        assert NAMES.session_token not in result.cookies
        assert gone not in site.accounts.sessions
        assert site.sessions.told[-1] == ("ended", (gone,))
    told = list(site.sessions.told)
    for named in (foreign, site.accounts.sessions[foreign].id, "unknown"):
        result = await site.post("/revoke-session", {"token": named}, token_cookie(caller))
        assert (result.status, result.document) == (200, {"status": True})
    assert set(site.accounts.sessions) == {caller, foreign}
    assert site.sessions.told == told


@pytest.mark.parametrize("by_id", [True, False])
async def test_revoking_the_own_session_clears_its_cookies(by_id: bool) -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    named = site.accounts.sessions[token].id if by_id else token
    result = await site.post("/revoke-session", {"token": named}, token_cookie(token))
    assert list(result.cookies) == ALL
    assert site.accounts.sessions == {}


async def test_revoking_all_and_all_others() -> None:
    site = Site()
    tokens = [(await site.sign_up()).document["token"], *[(await site.sign_in()).document["token"] for _ in range(2)]]
    foreign = (await site.sign_up("bo@example.test")).document["token"]
    result = await site.post("/revoke-other-sessions", None, token_cookie(tokens[1]))
    assert set(site.accounts.sessions) == {tokens[1], foreign}
    assert site.sessions.told == [("ended", (tokens[0], tokens[2]))]
    assert NAMES.session_token not in result.cookies
    result = await site.post("/revoke-sessions", None, token_cookie(tokens[1]))
    assert set(site.accounts.sessions) == {foreign}
    assert list(result.cookies) == ALL


async def test_update_session_changes_declared_fields_alone() -> None:
    site = Site(session_fields=("theme",))
    token = (await site.sign_up()).document["token"]
    before = site.accounts.sessions[token]
    site.now_ms += 5
    result = await site.post("/update-session", {"theme": "dark", "expiresAt": "2099"}, token_cookie(token))
    assert result.document["session"]["theme"] == "dark"
    assert site.accounts.sessions[token] == replace(before, extra={"theme": "dark"}, updated_at_ms=NOW_MS + 5)
    assert list(result.cookies) == [NAMES.session_token, NAMES.session_data]
    assert site.sessions.told == [("changed", (token,))]
    assert (await site.post("/update-session", {"expiresAt": "2099"}, token_cookie(token))).status == 400


async def test_update_session_of_one_that_is_gone_meanwhile() -> None:
    site = Site(session_fields=("theme",))
    token = (await site.sign_up()).document["token"]
    gone = site.accounts.sessions.pop(token)
    site.sessions.remembered = SessionRecord(gone, site.accounts.users[gone.user_id])
    result = await site.post("/update-session", {"theme": "dark"}, token_cookie(token))
    assert (result.status, result.code) == (401, "FAILED_TO_GET_SESSION")
    assert list(result.cookies) == ALL


async def test_bearer_header_stands_for_the_cookie_where_it_may() -> None:
    for bearer, found in ((True, True), (False, False)):
        site = Site(bearer=bearer)
        token = (await site.sign_up()).document["token"]
        value = token_cookie(token).partition("=")[2]
        result = await site.get("/get-session", Authorization=f"Bearer {value}")
        assert (result.document is not None) is found


@pytest.mark.parametrize("header", [None, "", "a=b", f"{NAMES.session_token}=forged.sig"])
async def test_who_has_no_session_gets_null_and_no_cookie(header: Any) -> None:
    result = await Site().get("/get-session", header)
    assert (result.status, result.document, result.cookies) == (200, None, {})
    assert result.headers["Pragma"] == "no-cache"


@pytest.mark.parametrize("failing", [False, True])
async def test_who_leaves_while_sessions_are_ended_has_ended_them(
    failing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    begun, goes_on, revoke = asyncio.Event(), asyncio.Event(), site.accounts.revoke_sessions

    async def slowly(user_id: str, *, but_token: str | None = None) -> Sequence[str]:
        begun.set()
        await goes_on.wait()
        if failing:
            raise RuntimeError("a fault of the test")
        return await revoke(user_id, but_token=but_token)

    site.accounts.revoke_sessions = slowly  # type: ignore[method-assign]  # as the store does it
    asking = asyncio.create_task(site.post("/revoke-sessions", None, token_cookie(token)))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    goes_on.set()
    await site.api.close()
    if failing:
        assert "unforeseen error" in caplog.text
        return
    assert ("ended", (token,)) in site.sessions.told
    assert site.audited[-1][0] == "sessions_revoked"


async def test_who_leaves_before_that_has_changed_nothing() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    begun = asyncio.Event()

    async def never(*args: object, **options: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    site.sessions.read = never  # type: ignore[method-assign, assignment]  # a store that does not answer
    asking = asyncio.create_task(site.post("/revoke-sessions", None, token_cookie(token)))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    assert list(site.accounts.sessions) == [token]
