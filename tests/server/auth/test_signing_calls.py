"""Signing up, in and out."""

import pytest
from msgspec.structs import replace

from gatekeeper.core.attempts import account_key, known_device
from gatekeeper.core.cookies import find_cookie
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.server.auth_signing import session_address
from tests.core.records import NOW_MS
from tests.server.auth.calling import DAY_MS, KEYS, PASSWORD, Site, token_cookie
from tests.server.auth.replays import DEVICE, NAMES


async def test_sign_up_is_off_unless_it_is_on() -> None:
    site = Site(sign_up=False)
    result = await site.post("/sign-up/email", {"name": "N", "email": "n@example.test", "password": PASSWORD})
    assert (result.status, result.code) == (400, "EMAIL_PASSWORD_SIGN_UP_DISABLED")
    assert site.accounts.calls == []


async def test_sign_up_makes_a_user_with_a_hash_and_a_session() -> None:
    site = Site()
    result = await site.sign_up("ADA@Example.test", image="https://img.example/1.png", role="admin", id="mine")
    user = result.document["user"]
    made = site.accounts.users[user["id"]]
    assert (made.email, made.image, made.role, made.email_verified) == (
        "ada@example.test",
        "https://img.example/1.png",
        None,
        False,
    )
    assert user["id"] != "mine"
    assert site.accounts.passwords == {made.id: f"hash:{PASSWORD}"}
    session = site.accounts.sessions[result.document["token"]]
    assert (session.user_id, session.expires_at_ms) == (made.id, NOW_MS + 2 * DAY_MS)


async def test_a_taken_address_is_told_also_to_who_asks_at_the_same_moment() -> None:
    site = Site()
    await site.sign_up()
    body = {"name": "N", "email": "ADA@example.test", "password": PASSWORD}
    assert (await site.post("/sign-up/email", body)).status == 422
    assert "create_user" in site.accounts.calls  # by the first one

    async def not_yet(email: str) -> None:
        return None

    site.accounts.find_by_email = not_yet  # type: ignore[method-assign, assignment]  # the other one wins later
    result = await site.post("/sign-up/email", body)
    assert (result.status, result.code) == (422, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL")
    assert len(site.accounts.users) == 1


async def test_who_asks_for_many_addresses_is_held_up_before_learning_which_are_taken() -> None:
    site = Site()
    await site.sign_up()
    site.throttle.wait_s = 7
    body = {"name": "N", "email": "ada@example.test", "password": PASSWORD}
    result = await site.post("/sign-up/email", body)
    assert (result.status, result.headers["Retry-After"]) == (429, "7")


async def test_each_sign_in_has_a_session_of_its_own() -> None:
    site = Site()
    await site.sign_up()
    results = [await site.sign_in(), await site.sign_in()]
    tokens = {result.document["token"] for result in results}
    assert len(tokens) == 2
    assert tokens <= set(site.accounts.sessions)
    assert len({session.id for session in site.accounts.sessions.values()}) == 3


async def test_who_is_not_to_be_remembered_has_a_day() -> None:
    site = Site()
    await site.sign_up()
    result = await site.sign_in(rememberMe=False)
    assert site.accounts.sessions[result.document["token"]].expires_at_ms == NOW_MS + DAY_MS
    assert list(result.cookies)[:3] == [NAMES.session_token, NAMES.dont_remember, NAMES.session_data]
    assert not [name for name, line in result.cookies.items() if name != DEVICE and "Max-Age" in line]
    again = await site.sign_in(cookie=result.cookie_header)
    assert "Max-Age=0" in again.cookies[NAMES.dont_remember]


async def test_a_session_says_from_where_it_was_begun() -> None:
    site = Site()
    await site.sign_up()
    body = {"email": "ada@example.test", "password": PASSWORD}
    result = await site.post("/sign-in/email", body, x_forwarded_for="2001:db8:1:2:3:4:5:6", user_agent="agent/1")
    session = site.accounts.sessions[result.document["token"]]
    assert (session.ip_address, session.user_agent) == ("2001:0db8:0001:0002:0000:0000:0000:0000", "agent/1")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:DB8::1", "2001:0db8:0000:0000:0000:0000:0000:0000"),
        ("unix", ""),
        ("", ""),
    ],
)
def test_addresses_are_kept_as_better_auth_keeps_them(address: str, expected: str) -> None:
    assert session_address(address) == expected


async def test_the_same_answer_and_as_much_work_for_who_is_not_there() -> None:
    site = Site()
    await site.sign_up()
    site.accounts.passwords[next(iter(site.accounts.users))] = None
    no_password = await site.sign_in()
    unknown = await site.sign_in("nobody@example.test")
    for result in (no_password, unknown):
        assert (result.status, result.code, result.cookies) == (401, "INVALID_EMAIL_OR_PASSWORD", {})
    assert site.passwords.looked_at == [None, None]
    assert site.throttle.told == []


async def test_a_banned_user_cannot_sign_in_and_is_told_only_with_the_right_password() -> None:
    site = Site()
    user_id = (await site.sign_up()).document["user"]["id"]
    site.accounts.users[user_id] = replace(site.accounts.users[user_id], banned=True, ban_expires_ms=NOW_MS + 1)
    assert (await site.sign_in(password="wrong-password")).code == "INVALID_EMAIL_OR_PASSWORD"
    banned = await site.sign_in()
    assert (banned.status, banned.code) == (403, "BANNED_USER")
    assert banned.cookies == {}
    site.now_ms += 1
    assert (await site.sign_in()).status == 200


async def test_a_user_who_is_deleted_while_signing_in_is_nobody() -> None:
    site = Site()
    await site.sign_up()

    async def gone(session: object, *, now_ms: int) -> None:
        return None

    site.accounts.create_session = gone  # type: ignore[method-assign, assignment]  # as the store says it
    assert (await site.sign_in()).code == "INVALID_EMAIL_OR_PASSWORD"


@pytest.mark.parametrize("path", ["/sign-in/email", "/sign-up/email", "/reset-password"])
async def test_who_tried_too_often_waits(path: str) -> None:
    site = Site()
    await site.sign_up()
    token = await _reset_token(site)
    site.throttle.wait_s = 37
    body = {"name": "N", "email": "n@example.test", "password": PASSWORD, "newPassword": PASSWORD, "token": token}
    result = await site.post(path, body)
    assert (result.status, result.document) == (429, {"message": "Too many requests. Please try again later."})
    assert (result.headers["Retry-After"], result.headers["X-Retry-After"]) == ("37", "37")
    assert site.passwords.looked_at == []


@pytest.mark.parametrize("path", ["/sign-in/email", "/sign-up/email", "/reset-password"])
async def test_a_password_that_nobody_has_time_for_is_no_try(path: str) -> None:
    site = Site()
    await site.sign_up()
    token = await _reset_token(site)
    site.passwords.is_busy = True
    body = {"name": "N", "email": "n@example.test", "password": PASSWORD, "newPassword": PASSWORD, "token": token}
    result = await site.post(path, body)
    assert (result.status, result.code) == (503, "BUSY")
    assert int(result.headers["Retry-After"]) > 0
    assert site.throttle.told == ["withdrawn"]


async def _reset_token(site: Site) -> str:
    assert site.mail is not None
    await site.post("/request-password-reset", {"email": "ada@example.test"})
    return site.mail.sent[0].token


async def test_a_right_password_is_told_to_the_throttle_and_makes_the_device_known() -> None:
    site = Site()
    await site.sign_up()
    result = await site.sign_in("ADA@example.test")
    assert site.throttle.told == ["succeeded"]
    assert site.throttle.admitted[-1] == "ada@example.test"
    value = find_cookie(result.cookie_header, DEVICE)
    assert known_device(value, account_key("ada@example.test"), KEYS, NOW_MS // 1000) is not None
    wrong = await site.sign_in(password="wrong-password")
    assert wrong.cookies == {}
    assert site.throttle.told == ["succeeded"]


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        pytest.param(None, (False, "absent", None), id="none"),
        pytest.param("", (False, "", None), id="empty"),
        pytest.param("/next?a=b", (True, "/next?a=b", "/next?a=b"), id="path"),
        pytest.param("/ä", (True, "/ä", "/%C3%A4"), id="no-ascii"),
    ],
)
async def test_where_a_sign_in_leads(callback: str | None, expected: tuple[bool, str, str | None]) -> None:
    site = Site()
    await site.sign_up()
    result = await site.sign_in(**({} if callback is None else {"callbackURL": callback}))
    document = result.document
    assert (document["redirect"], document.get("url", "absent"), result.headers.get("Location")) == expected


async def test_sign_out_ends_the_session_and_what_the_gate_believes_of_it() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    result = await site.post("/sign-out", {}, token_cookie(token))
    assert result.document == {"success": True}
    assert site.accounts.sessions == {}
    assert site.sessions.told == [("ended", (token,))]


async def test_sign_out_ends_both_sessions_of_a_header_and_a_cookie() -> None:
    site = Site(bearer=True)
    first, second = (await site.sign_up()).document["token"], (await site.sign_in()).document["token"]
    value = token_cookie(second).partition("=")[2]
    await site.post("/sign-out", {}, token_cookie(first), Authorization=f"Bearer {value}")
    assert site.accounts.sessions == {}
    assert site.sessions.told == [("ended", (second,)), ("ended", (first,))]


async def test_of_two_sessions_the_one_that_was_ended_is_known_to_be_when_the_store_fails_then() -> None:
    site = Site(bearer=True)
    first, second = (await site.sign_up()).document["token"], (await site.sign_in()).document["token"]
    delete = site.accounts.delete_session

    async def once(token: str) -> bool:
        site.accounts.error = StoreUnavailable("gone") if token == first else None
        return await delete(token)

    site.accounts.delete_session = once  # type: ignore[method-assign]  # the second one fails
    value = token_cookie(second).partition("=")[2]
    result = await site.post("/sign-out", {}, token_cookie(first), Authorization=f"Bearer {value}")
    assert (result.status, result.cookies) == (503, {})
    assert set(site.accounts.sessions) == {first}
    assert site.sessions.told == [("ended", (second,))]
