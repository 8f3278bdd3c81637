"""How long a session lives, to the millisecond, over HTTP and on each kind of database; the clock is in hand."""

from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.cookies import Keys
from gatekeeper.core.session_data import SessionDataCookie, Strategy, decode
from tests.better_auth_db import iso
from tests.server.accounts.sites import DATA, FORGET, SECRET, Reply, Site, Visitor, counts_of, running_site
from tests.server.clock import Clock
from tests.server.gates import COOKIE
from tests.server.upstreams import RecordingUpstream
from tests.stores.account_places import AccountPlace

pytestmark = pytest.mark.usefixtures("quick", "patient")

DAY_MS = 86_400_000
DAY_S = 86_400
NO_CACHE = (
    "session: {{expires_in: {expires}, update_age: {update}, fresh_age: {fresh}, cookie_cache: {{enabled: false}}}}\n"
)
USUAL = NO_CACHE.format(expires="2d", update="1d", fresh="1d")
ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"


async def until_extended(visitor: Visitor) -> Reply:
    """The answer of the app that carries the cookies of an extension: that of the first request, or a later one's."""
    while True:
        reply = await visitor.ask("GET", "/dashboard")
        assert reply.status == 200
        if COOKIE in reply.cookies:
            return reply


async def dates(visitor: Visitor) -> tuple[str, str, str]:
    """When the session ends, was made and was extended, as get-session says."""
    session = (await visitor.session())["session"]
    return session["expiresAt"], session["createdAt"], session["updatedAt"]


async def test_a_used_session_is_extended_when_it_is_due_and_not_before(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, clock: Clock
) -> None:
    expires_s, update_s = 36_000, 600
    more = NO_CACHE.format(expires="10h", update="10m", fresh="1d")
    async with running_site(upstream.url, place, tmp_path, more) as site:
        began = int(clock.at)
        ada = await site.signed_up()
        assert ada.max_ages[COOKIE] == expires_s
        token = ada.token
        clock.at = began + update_s * 1000 - 1
        reply = await ada.get("/get-session")
        assert reply.cookies == {}
        assert await dates(ada) == (iso(began + expires_s * 1000), iso(began), iso(began))
        clock.at = due = began + update_s * 1000
        reply = await ada.get("/get-session")
        assert (list(reply.cookies), ada.max_ages[COOKIE], ada.token) == ([COOKIE], expires_s, token)
        assert await dates(ada) == (iso(due + expires_s * 1000), iso(began), iso(due))
        clock.at = end = due + expires_s * 1000  # the last moment; it is due all the while
        reply = await ada.get("/get-session")
        assert reply.document["session"]["expiresAt"] == iso(end + expires_s * 1000)
        clock.at = end + expires_s * 1000 + 1
        reply = await ada.get("/get-session")
        assert (reply.status, reply.document, ada.cookies.get(COOKIE)) == (200, None, None)
        assert (await counts_of(place))["session"] == 0


async def test_a_page_of_the_app_extends_too_and_says_so_to_the_browser(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, clock: Clock
) -> None:
    async with running_site(upstream.url, place, tmp_path, USUAL) as site:
        began = int(clock.at)
        ada = await site.signed_up()
        clock.at = began + DAY_MS - 1
        assert (await ada.ask("GET", "/dashboard")).cookies == {}
        clock.at = due = began + DAY_MS
        reply = await until_extended(ada)
        assert reply.cookies == {COOKIE: f"{COOKIE}={ada.cookies[COOKIE]}; Max-Age={2 * DAY_S}; {ATTRIBUTES}"}
        assert reply.response.values("cache-control") == ["private, no-store"]
        assert await dates(ada) == (iso(due + 2 * DAY_MS), iso(began), iso(due))
        clock.at = due + 2 * DAY_MS + 1
        assert await ada.enters() == 401


async def test_who_signed_in_long_ago_is_not_fresh_although_the_session_was_extended(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, clock: Clock
) -> None:
    more = NO_CACHE.format(expires="2d", update="1h", fresh="2h")
    more += "protect: [/dashboard, {path: /dashboard/keys, access: fresh}]\n"
    async with running_site(upstream.url, place, tmp_path, more) as site:
        began = int(clock.at)
        ada = await site.signed_up()
        clock.at = began + 7_200_000 - 1
        assert (await ada.get("/list-sessions")).status == 200
        assert (await ada.ask("GET", "/dashboard/keys")).status == 200
        clock.at = began + 7_200_000
        for reply in (await ada.get("/list-sessions"), await ada.ask("GET", "/dashboard/keys")):
            assert (reply.status, reply.code) == (403, "SESSION_NOT_FRESH")
        assert await ada.enters() == 200
        again = await site.signed_in()
        assert (await again.get("/list-sessions")).status == 200


async def test_who_is_not_to_be_remembered_is_signed_in_for_a_day_or_until_the_browser_is_closed(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, clock: Clock
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        began = int(clock.at)
        await site.signed_up()
        ada = await site.signed_in(rememberMe=False)
        assert (ada.max_ages[COOKIE], ada.max_ages[FORGET], ada.max_ages[DATA]) == (None, None, None)
        assert ada.cookies[FORGET].startswith("true.")
        for at in (began + DAY_MS - 1, began + DAY_MS):  # long since due, were it to be remembered
            clock.at = at
            assert await ada.enters() == 200
            assert (await dates(ada))[0] == iso(began + DAY_MS)
        assert (ada.max_ages[COOKIE], ada.max_ages[FORGET]) == (None, None)
        closed = await site.signed_in(rememberMe=False)
        assert await closed.enters() == 200
        closed.close()
        assert await closed.enters() == 401
        clock.at = began + DAY_MS + 1
        assert await ada.session() is None
        assert not {COOKIE, FORGET, DATA} & ada.cookies.keys()


async def test_signing_in_to_be_remembered_after_all_clears_what_said_otherwise(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        ada = await site.signed_up(rememberMe=False)
        assert FORGET in ada.cookies
        assert (await ada.sign_in()).status == 200
        assert FORGET not in ada.cookies
        assert ada.max_ages[COOKIE] == 2 * DAY_S


async def test_session_data_cookies_in_each_database(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, clock: Clock
) -> None:
    await check_session_data(place, upstream, tmp_path, clock, "compact")


@pytest.mark.parametrize("strategy", ["jwt", "jwe"])
async def test_session_data_cookies_of_the_other_kinds(
    sqlite: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, clock: Clock, strategy: Strategy
) -> None:
    await check_session_data(sqlite, upstream, tmp_path, clock, strategy)


async def check_session_data(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, clock: Clock, strategy: Strategy
) -> None:
    """It is written, renewed after its age, and keeps no revoked session alive."""
    more = f"session: {{cookie_cache: {{strategy: {strategy}, max_age: 5m}}}}\n"
    async with running_site(upstream.url, place, tmp_path, more) as site:
        began = clock.at = int(clock.at) // 1000 * 1000  # ends of a jwt are whole seconds
        ada = await site.signed_up(name="Ada Łoś")
        said = said_by(ada, strategy, began)
        assert ada.max_ages[DATA] == 300
        assert (said.updated_at_ms, said.expires_at_ms) == (began, began + 300_000)
        assert (said.record.session.token, said.record.user.name) == (ada.token, "Ada Łoś")
        clock.at = began + 299_000
        assert (await ada.get("/get-session")).cookies == {}
        clock.at = later = began + 301_000
        reply = await ada.get("/get-session")
        assert (set(reply.cookies), ada.max_ages[DATA]) == ({DATA}, 300)
        said = said_by(ada, strategy, later)
        assert (said.updated_at_ms, said.expires_at_ms) == (later, later + 300_000)
        assert said.record.session.expires_at_ms == began + 2 * DAY_MS

        lost = await site.signed_in()
        assert await lost.enters() == 200
        stolen = _copy(site, lost)
        await ada.post("/revoke-session", token=lost.token)
        assert said_by(stolen, strategy, later).record.session.token == lost.token
        assert (await stolen.enters(), await lost.session()) == (401, None)
        assert lost.cookies.keys() & {COOKIE, DATA} == set()
        assert (await stolen.get("/list-sessions")).status == 401


async def test_a_name_that_was_changed_elsewhere_is_shown_although_the_cookie_has_the_old_one(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        ada, elsewhere = await site.signed_up(), await site.signed_in()
        await ada.post("/update-user", name="Grace")
        reply = await elsewhere.get("/get-session")
        assert reply.document["user"]["name"] == "Grace"
        assert DATA in reply.cookies
        assert (await elsewhere.get("/get-session")).cookies == {}


def said_by(visitor: Visitor, strategy: Strategy, now_ms: int) -> SessionDataCookie:
    """What the visitor's session_data cookie says, by our own reader, whose vectors are Better Auth's."""
    said: Any = decode(visitor.cookies[DATA], Keys([SECRET]), strategy=strategy, version="1", now_ms=now_ms)
    assert isinstance(said, SessionDataCookie), said
    return said


def _copy(site: Site, visitor: Visitor) -> Visitor:
    """Somebody with the same cookies."""
    other = site.visitor()
    other.cookies = dict(visitor.cookies)
    return other
