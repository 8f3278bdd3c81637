"""Account calls to a running gate, on each kind of database: from signing up to a forgotten password, and races."""

import asyncio
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gatekeeper.users_command import reset_link
from tests.server.accounts.conftest import Hashing
from tests.server.accounts.sites import (
    EMAIL,
    OTHER,
    PASSWORD,
    Meeting,
    Reply,
    command,
    config_for,
    counts_of,
    rows_of,
    running_site,
    settings_of,
)
from tests.server.conftest import now_ms
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import mirrored
from tests.stores.account_places import AccountPlace, MariadbAccounts, SqliteAccounts

pytestmark = pytest.mark.usefixtures("patient")

MANY = 20
LONG = "x" * 10_000
SMILES = "\N{GRINNING FACE}" * 100
NAMES = {
    SMILES: SMILES,
    "": "",
    LONG: LONG,
    "a\0b": None,
    "a\ud800b": "a\ufffdb",  # JavaScript writes half of a pair so, too
}
"""Names, and how they are kept; None for what no database can hold."""


async def test_an_account_from_beginning_to_end(
    request: pytest.FixtureRequest, place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """On SQLite with real hashes, and a link from the command as a person calls it."""
    is_sqlite = isinstance(place, SqliteAccounts)
    if not is_sqlite:
        request.getfixturevalue("quick")
    config = tmp_path / "config.yaml"
    config.write_text(config_for(upstream.url, place.url))
    async with running_site(upstream.url, place, tmp_path) as site:
        ada = await site.signed_up("Ada@Example.test", name="Ada Łoś")
        found = await ada.session()
        assert (found["user"]["email"], found["user"]["name"]) == (EMAIL, "Ada Łoś")
        assert (found["session"]["ipAddress"], found["session"]["userAgent"]) == ("127.0.0.1", "visitor/1")
        assert found["session"]["token"] == ada.token
        seen = mirrored((await ada.ask("GET", "/dashboard")).response)["headers"]
        assert seen["x-auth-user-id"] == found["user"]["id"]
        assert ada.token not in str(seen)

        elsewhere = await site.signed_in()
        listed = (await ada.get("/list-sessions")).document
        assert {one["token"] for one in listed} == {ada.token, elsewhere.token}
        assert (await ada.post("/revoke-session", token=elsewhere.token)).document == {"status": True}
        assert (await elsewhere.session(), await elsewhere.enters()) == (None, 401)

        other = await site.signed_in()
        before = ada.token
        changed = await ada.post(
            "/change-password", currentPassword=PASSWORD, newPassword=OTHER, revokeOtherSessions=True
        )
        assert (changed.status, changed.document["token"]) == (200, ada.token)
        assert ada.token != before
        assert (await other.enters(), await site.visitor(before).enters(), await ada.enters()) == (401, 401, 200)
        assert (await site.visitor().sign_in()).code == "INVALID_EMAIL_OR_PASSWORD"

        if is_sqlite:
            code, link, _ = await command(config, "users", "reset-link", EMAIL)
            assert code == 0
        else:
            link = (await reset_link(settings_of(place), EMAIL, now_ms())).url
        token = token_of(link)
        assert (await counts_of(place))["verification"] == 1
        assert (await site.visitor().post("/reset-password", newPassword=PASSWORD, token=token)).status == 200
        assert await ada.enters() == 401
        again = await site.visitor().post("/reset-password", newPassword=OTHER, token=token)
        assert (again.status, again.code) == (400, "INVALID_TOKEN")
        assert await counts_of(place) == {"user": 1, "account": 1, "session": 0, "verification": 0}
        assert (await site.visitor().sign_in(password=OTHER)).status == 401
        assert await (await site.signed_in()).enters() == 200


@pytest.mark.usefixtures("quick")
async def test_a_name_is_kept_as_it_is_or_leaves_all_as_it_was(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        ada = await site.signed_up()
        for name, kept in NAMES.items():
            if name == LONG and isinstance(place, MariadbAccounts):
                kept = None  # there a name is a varchar(255)
            before = await rows_of(place)
            reply = await ada.post("/update-user", name=name)
            if kept is None:
                made = await site.visitor().sign_up("eve@example.test", name=name)
                assert outcome(reply) == outcome(made) == (400, "VALIDATION_ERROR")
                assert await rows_of(place) == before
            else:
                assert reply.status == 200
                assert [row["name"] for row in await place.rows("user")] == [kept]
                assert (await ada.session())["user"]["name"] == kept
            assert await ada.enters() == 200


async def test_of_many_who_sign_up_with_one_address_one_has_it(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, quick: Hashing
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        quick.passwords.after_hash = Meeting(MANY)  # so that all have found the address free
        spellings = [EMAIL, EMAIL.upper(), "Ada@example.test", EMAIL]
        visitors = [site.visitor() for _ in range(MANY)]
        replies = await asyncio.gather(
            *(visitor.sign_up(spellings[number % 4]) for number, visitor in enumerate(visitors))
        )
        assert Counter(map(outcome, replies)) == {
            (200, None): 1,
            (422, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL"): MANY - 1,
        }
        assert await counts_of(place) == {"user": 1, "account": 1, "session": 1, "verification": 0}
        assert sorted([await visitor.enters() for visitor in visitors]) == [200] + [401] * (MANY - 1)
        assert sum(bool(visitor.cookies) for visitor in visitors) == 1


@pytest.mark.usefixtures("quick")
async def test_sessions_that_are_revoked_by_many_at_once_are_gone_once(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        ada = await site.signed_up()
        doomed, *others = [await site.signed_in() for _ in range(6)]
        replies = await asyncio.gather(*(one.post("/revoke-session", token=doomed.token) for one in others))
        assert {outcome(reply) for reply in replies} == {(200, None)}
        assert await doomed.enters() == 401
        assert (await counts_of(place))["session"] == 6

        calls = [ada.post("/revoke-other-sessions")]
        calls += [one.post("/revoke-sessions") for one in others]
        replies = await asyncio.gather(*calls)
        assert {reply.status for reply in replies} <= {200, 401}  # who was too late has no session any more
        assert 200 in {reply.status for reply in replies}
        assert await asyncio.gather(*(one.enters() for one in others)) == [401] * len(others)
        assert await counts_of(place) == {
            "user": 1,
            "account": 1,
            "session": int(await ada.enters() == 200),
            "verification": 0,
        }


async def test_of_many_new_passwords_at_once_one_counts(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, quick: Hashing
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        visitors = [await site.signed_up()] + [await site.signed_in() for _ in range(4)]
        quick.passwords.after_hash = Meeting(len(visitors))  # so that all were found to know the old one
        wanted = [f"the new password {number}" for number in range(len(visitors))]
        replies = await asyncio.gather(
            *(
                visitor.post("/change-password", currentPassword=PASSWORD, newPassword=new, revokeOtherSessions=True)
                for visitor, new in zip(visitors, wanted, strict=True)
            )
        )
        quick.passwords.after_hash = None
        outcomes = [outcome(reply) for reply in replies]
        assert Counter(outcomes) == {(200, None): 1, (400, "INVALID_PASSWORD"): len(visitors) - 1}
        winner = outcomes.index((200, None))
        signed_in = [(await site.visitor().sign_in(password=new)).status for new in [PASSWORD, *wanted]]
        assert signed_in == [401] + [200 if number == winner else 401 for number in range(len(visitors))]
        assert [await visitor.enters() for visitor in visitors] == [
            200 if number == winner else 401 for number in range(len(visitors))
        ]
        assert await counts_of(place) == {"user": 1, "account": 1, "session": 2, "verification": 0}


async def test_whose_account_goes_while_signing_in_gets_no_session(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, quick: Hashing
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        await site.signed_up()

        async def lose_the_account() -> None:
            for table in ("session", "account", "user"):
                await place.execute(f"delete from {place.quoted(table)}")  # noqa: S608

        quick.passwords.after_verify = lose_the_account
        visitor = site.visitor()
        reply = await visitor.sign_in()
        assert outcome(reply) == (401, "INVALID_EMAIL_OR_PASSWORD")
        assert visitor.cookies == {}
        assert await counts_of(place) == {"user": 0, "account": 0, "session": 0, "verification": 0}


@pytest.mark.usefixtures("quick")
async def test_whose_account_goes_while_many_sign_in_leaves_no_session_behind(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """No order is forced: whatever comes first, a session without its user is never there."""
    async with running_site(upstream.url, place, tmp_path) as site:
        await site.signed_up()
        visitors = [site.visitor() for _ in range(MANY)]
        signing_in = [asyncio.ensure_future(visitor.sign_in()) for visitor in visitors]
        await asyncio.wait(signing_in, return_when=asyncio.FIRST_COMPLETED)
        if place.url.startswith("sqlite"):
            await place.execute('delete from "session"')  # this connection looks at no foreign keys
            await place.execute('delete from "account"')
        await place.execute(f"delete from {place.quoted('user')}")  # noqa: S608
        replies = await asyncio.gather(*signing_in)
        assert {outcome(reply) for reply in replies} <= {(200, None), (401, "INVALID_EMAIL_OR_PASSWORD")}
        if not place.url.startswith("sqlite"):
            assert await counts_of(place) == {"user": 0, "account": 0, "session": 0, "verification": 0}
        assert await asyncio.gather(*(visitor.session() for visitor in visitors)) == [None] * MANY


@pytest.mark.usefixtures("quick")
async def test_a_link_for_a_new_password_is_used_once_however_many_follow_it(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        await site.signed_up()
        token = token_of((await reset_link(settings_of(place), EMAIL, now_ms())).url)
        wanted = [f"the new password {number}" for number in range(5)]
        replies = await asyncio.gather(
            *(site.visitor().post("/reset-password", newPassword=new, token=token) for new in wanted)
        )
        outcomes = [outcome(reply) for reply in replies]
        assert Counter(outcomes) == {(200, None): 1, (400, "INVALID_TOKEN"): 4}
        signed_in = [(await site.visitor().sign_in(password=new)).status for new in wanted]
        assert signed_in == [200 if one == (200, None) else 401 for one in outcomes]


def token_of(link: str) -> str:
    (token,) = parse_qs(urlsplit(link.strip()).query)["token"]
    return token


def outcome(reply: Reply) -> tuple[int, str | None]:
    return reply.status, None if reply.status == 200 else reply.code
