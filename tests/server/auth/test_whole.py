"""Account calls with everything that they stand on: the real store, queue of passwords and counts of tries."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from gatekeeper.core.attempts import Limit
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_call import Services
from gatekeeper.server.data_cookies import DataCookies
from gatekeeper.server.passwords import Passwords
from gatekeeper.server.throttle import Throttle
from gatekeeper.stores.opening_accounts import open_accounts
from tests.core.records import NOW_MS
from tests.server.auth.calling import COMPACT, KEYS, MINUTE_MS, OWN, PASSWORD, SECRET, Result, token_cookie
from tests.server.auth.fakes import FakeSessions
from tests.server.auth.replays import DEVICE, request_of, settings_for
from tests.stores.account_places import SqliteAccounts
from tests.stores.opening import settings_on


class Whole:
    """A site whose clock is in hand; hashing is cheap, all else is as in a gate."""

    def __init__(self, api: AuthApi, place: SqliteAccounts) -> None:
        self.api = api
        self.place = place

    async def post(self, path: str, body: str, address: str, cookie: str = "") -> Result:
        headers = {"Origin": OWN, "Content-Type": "application/json", "X-Forwarded-For": address}
        headers |= {"Cookie": cookie} if cookie else {}
        sent = {"method": "POST", "path": f"/api/auth{path}", "headers": headers, "body": body}
        return Result(await self.api.answer(request_of(sent, OWN)))

    async def sign_in(self, password: str, address: str, cookie: str = "") -> Result:
        body = f'{{"email":"ada@example.test","password":"{password}"}}'
        return await self.post("/sign-in/email", body, address, cookie)


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[Whole]:
    place = SqliteAccounts(tmp_path / "auth.db")
    await place.create("core")
    accounts, attempts = open_accounts(settings_on(place.url))
    passwords = Passwords(
        1,
        make=lambda password, salt: f"{salt.hex()}:{password}",
        verify=lambda stored, password: stored is not None and stored.endswith(f":{password}"),
    )
    services = Services(
        accounts=accounts,
        sessions=FakeSessions(accounts),
        passwords=passwords,
        throttle=Throttle(attempts, Limit(5, MINUTE_MS)),
        mail=None,
        random_bytes=os.urandom,
        new_uuid=lambda: str(uuid4()),
        audit=lambda event, **fields: None,
        data_cookies=DataCookies(COMPACT, KEYS, lambda: str(uuid4())),
    )
    yield Whole(AuthApi(settings_for(SECRET, COMPACT), services, lambda: NOW_MS), place)
    await passwords.close()
    await accounts.close()


async def test_guessing_locks_out_strangers_and_not_the_owner_s_device(whole: Whole) -> None:
    body = f'{{"name":"Ada","email":"ada@example.test","password":"{PASSWORD}"}}'
    signed_up = await whole.post("/sign-up/email", body, "203.0.113.1")
    assert signed_up.status == 200
    device = signed_up.cookies[DEVICE].partition(";")[0]
    for number in range(5):
        assert (await whole.sign_in("wrong-password", f"198.51.100.{number}")).status == 401
    refused = await whole.sign_in(PASSWORD, "198.51.100.9")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "60")
    owner = await whole.sign_in(PASSWORD, "203.0.113.1", device)
    assert owner.status == 200
    assert await whole.place.count("session") == 2


async def test_sign_out_and_change_of_password_in_the_database(whole: Whole) -> None:
    body = f'{{"name":"Ada","email":"ada@example.test","password":"{PASSWORD}"}}'
    first = (await whole.post("/sign-up/email", body, "203.0.113.1")).document["token"]
    second = (await whole.sign_in(PASSWORD, "203.0.113.2")).document["token"]
    assert (await whole.post("/sign-out", "{}", "203.0.113.2", token_cookie(second))).status == 200
    assert [row["token"] for row in await whole.place.rows("session")] == [first]
    body = f'{{"currentPassword":"{PASSWORD}","newPassword":"another horse","revokeOtherSessions":true}}'
    third = (await whole.post("/change-password", body, "203.0.113.1", token_cookie(first))).document["token"]
    assert [row["token"] for row in await whole.place.rows("session")] == [third]
    assert (await whole.sign_in(PASSWORD, "203.0.113.3")).status == 401
    assert (await whole.sign_in("another horse", "203.0.113.3")).status == 200
