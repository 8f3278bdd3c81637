"""A user's own account: name and picture, the password, and what mails lead to."""

from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from gatekeeper.core.decide import RETRY_AFTER_S
from gatekeeper.core.email_tokens import make_email_token
from gatekeeper.core.errors import StoreError, StoreUnavailable
from gatekeeper.server.answers import Answer
from gatekeeper.server.look import Look
from gatekeeper.server.passwords import Busy
from tests.core.records import NOW_MS
from tests.server.auth.calling import KEYS, OWN, PASSWORD, Result, Site, token_cookie
from tests.server.auth.replays import NAMES, request_of

HOUR_MS = 3_600_000
NEW = "another horse battery"


async def test_update_user_tells_the_gate_and_makes_the_cookies_anew() -> None:
    site = Site(user_fields=("theme",))
    signed_up = await site.sign_up()
    user_id = signed_up.document["user"]["id"]
    body = {"name": "Countess", "image": None, "theme": "dark", "role": "admin", "emailVerified": True}
    result = await site.post("/update-user", body, token_cookie(signed_up.document["token"]))
    assert result.document == {"status": True}
    user = site.accounts.users[user_id]
    assert (user.name, user.image, user.extra, user.role, user.email_verified) == (
        "Countess",
        None,
        {"theme": "dark"},
        None,
        False,
    )
    assert site.sessions.told == [("user_changed", (user_id,))]
    assert list(result.cookies) == [NAMES.session_token, NAMES.session_data]


@pytest.mark.parametrize("body", [{"name": None}, {"name": 7}, {"name": "x", "image": 7}, {"image": ["x"]}])
async def test_a_name_and_a_picture_are_texts(body: dict[str, object]) -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    result = await site.post("/update-user", body, token_cookie(token))
    assert (result.status, result.code) == (400, "VALIDATION_ERROR")
    assert "update_user" not in site.accounts.calls


@pytest.mark.parametrize("value", [{"a": 1}, [1], 2**63, -(2**63) - 1])
@pytest.mark.parametrize("call", ["update-user", "update-session"])
async def test_what_no_column_holds_is_the_sender_s_fault(call: str, value: object) -> None:
    site = Site(user_fields=("theme",), session_fields=("theme",))
    token = (await site.sign_up()).document["token"]
    result = await site.post(f"/{call}", {"theme": value}, token_cookie(token))
    assert (result.status, result.code) == (400, "VALIDATION_ERROR")
    assert not {"update_user", "update_session"} & set(site.accounts.calls)


@pytest.mark.parametrize("value", ["x", None, True, 1.5, 2**63 - 1, -(2**63)])
async def test_what_a_column_may_hold_is_written(value: object) -> None:
    site = Site(user_fields=("theme",))
    signed_up = (await site.sign_up()).document
    assert (await site.post("/update-user", {"theme": value}, token_cookie(signed_up["token"]))).status == 200
    assert site.accounts.users[signed_up["user"]["id"]].extra == {"theme": value}


async def test_a_user_who_is_deleted_meanwhile_is_nobody() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]

    async def gone(user_id: str, changes: object, *, now_ms: int) -> None:
        return None

    site.accounts.update_user = gone  # type: ignore[method-assign, assignment]  # as the store says it
    assert (await site.post("/update-user", {"name": "x"}, token_cookie(token))).status == 401


async def change(site: Site, token: str, **fields: object) -> Result:
    body = {"newPassword": NEW, "currentPassword": PASSWORD} | fields
    return await site.post("/change-password", body, token_cookie(token))


async def test_change_password_leaves_the_sessions_unless_asked_to_end_them() -> None:
    site = Site()
    first = (await site.sign_up()).document["token"]
    second = (await site.sign_in()).document["token"]
    result = await change(site, first)
    assert result.document["token"] is None
    assert set(site.accounts.sessions) == {first, second}
    assert list(site.accounts.passwords.values()) == [f"hash:{NEW}"]
    again = await change(site, first, newPassword=PASSWORD, currentPassword=NEW, revokeOtherSessions=True)
    token = again.document["token"]
    assert set(site.accounts.sessions) == {token}
    assert site.sessions.told == [("ended", ()), ("ended", (first, second))]
    assert again.cookies[NAMES.session_token].startswith(token_cookie(token))


async def test_a_wrong_present_password_is_a_try_and_changes_nothing() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    before = list(site.throttle.admitted)
    result = await change(site, token, currentPassword="wrong-password")
    assert (result.status, result.code) == (400, "INVALID_PASSWORD")
    assert site.throttle.admitted == [*before, "ada@example.test"]
    assert site.throttle.told == []
    assert list(site.accounts.passwords.values()) == [f"hash:{PASSWORD}"]


async def test_a_right_one_is_counted_once_and_taken_back() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    before = len(site.throttle.admitted)
    assert (await change(site, token)).status == 200
    assert (len(site.throttle.admitted) - before, site.throttle.told) == (1, ["succeeded"])


@pytest.mark.parametrize("stored", [None, "hash:changed meanwhile"])
async def test_a_password_that_is_not_there_or_another_one_meanwhile(stored: str | None) -> None:
    site = Site()
    signed_up = await site.sign_up()
    user_id = signed_up.document["user"]["id"]
    if stored is None:
        site.accounts.passwords[user_id] = None
        assert (await change(site, signed_up.document["token"])).code == "CREDENTIAL_ACCOUNT_NOT_FOUND"
        return
    verify = site.passwords.verify

    async def slow(password: str, hashed: str | None, line: object) -> object:
        right = await verify(password, hashed, line)  # type: ignore[arg-type]  # handed on
        site.accounts.passwords[user_id] = stored
        return right

    site.passwords.verify = slow  # type: ignore[method-assign, assignment]  # somebody else is faster
    assert (await change(site, signed_up.document["token"])).code == "INVALID_PASSWORD"
    assert site.accounts.passwords[user_id] == stored


@pytest.mark.parametrize("is_busy", [True, False])
async def test_changing_waits_as_signing_in_does(is_busy: bool) -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    site.passwords.is_busy = is_busy
    site.throttle.wait_s = 0 if is_busy else 9
    assert (await change(site, token)).status == (503 if is_busy else 429)
    assert list(site.accounts.passwords.values()) == [f"hash:{PASSWORD}"]


async def test_no_time_for_the_new_password_takes_the_try_back_once() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]

    async def busy(password: str, line: object) -> Busy:
        return Busy()

    site.passwords.hash = busy  # type: ignore[method-assign, assignment]  # the other one was the last
    assert (await change(site, token)).status == 503
    assert site.throttle.told == ["withdrawn"]


async def reset_link(site: Site, redirect_to: str | None = None) -> str:
    """The path of a link that was sent, below the base path."""
    body = {"email": "ada@example.test"} | ({} if redirect_to is None else {"redirectTo": redirect_to})
    result = await site.post("/request-password-reset", body)
    assert result.status == 200
    assert site.mail is not None
    return site.mail.sent[-1].url.removeprefix(f"{OWN}/api/auth")


async def test_a_link_for_a_new_password_holds_once_and_for_an_hour() -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    led = await site.get(await reset_link(site, "/new"))
    location = led.headers["Location"]
    assert location.startswith(f"{OWN}/new?token=")
    given = parse_qs(urlsplit(location).query)["token"][0]
    site.now_ms += HOUR_MS
    assert (await site.post("/reset-password", {"newPassword": NEW, "token": given})).document == {"status": True}
    assert list(site.accounts.passwords.values()) == [f"hash:{NEW}"]
    assert site.accounts.sessions == {}
    assert site.sessions.told == [("ended", (token,))]
    assert (await site.post("/reset-password", {"newPassword": PASSWORD, "token": given})).code == "INVALID_TOKEN"
    late = await reset_link(site, "/new")
    site.now_ms += HOUR_MS + 1
    assert (await site.get(late)).headers["Location"] == f"{OWN}/new?error=INVALID_TOKEN"


async def test_the_token_of_a_link_may_stand_in_the_query() -> None:
    site = Site()
    await site.sign_up()
    token = (await reset_link(site)).split("/")[-1].partition("?")[0]
    assert (await site.post(f"/reset-password?token={token}", {"newPassword": NEW})).document == {"status": True}
    assert list(site.accounts.passwords.values()) == [f"hash:{NEW}"]


async def test_of_two_who_use_a_link_at_once_one_does() -> None:
    site = Site()
    await site.sign_up()
    given = (await reset_link(site)).split("/")[-1].partition("?")[0]
    hash_one = site.passwords.hash

    async def slow(password: str, line: object) -> object:
        site.accounts.verifications.clear()
        return await hash_one(password, line)  # type: ignore[arg-type]  # handed on

    site.passwords.hash = slow  # type: ignore[method-assign, assignment]  # the other one is faster
    assert (await site.post("/reset-password", {"newPassword": NEW, "token": given})).code == "INVALID_TOKEN"
    assert list(site.accounts.passwords.values()) == [f"hash:{PASSWORD}"]


async def test_nobody_s_link_is_looked_for_before_a_password_is_hashed() -> None:
    site = Site()
    site.passwords.is_busy = True
    assert (await site.post("/reset-password", {"newPassword": NEW, "token": "x"})).code == "INVALID_TOKEN"
    assert site.throttle.admitted == []


async def test_an_unknown_address_is_told_the_same_and_gets_no_mail() -> None:
    site = Site()
    await site.sign_up()
    answers, work = [], []
    for email in ("ada@example.test", "n@b.test"):
        site.accounts.calls.clear()
        answers.append((await site.post("/request-password-reset", {"email": email})).answer)
        work.append([*site.accounts.calls])
    assert (answers[0], work[0]) == (answers[1], work[1])
    assert site.mail is not None
    assert len(site.mail.sent) == 1


@pytest.mark.parametrize("is_signed_in", [False, True])
@pytest.mark.parametrize("path", ["/request-password-reset", "/send-verification-email"])
async def test_mail_is_not_sent_without_end(path: str, is_signed_in: bool) -> None:
    site = Site()
    cookie = (await site.sign_up()).cookie_header if is_signed_in else None
    site.throttle.wait_s = 5
    assert (await site.post(path, {"email": "ada@example.test"}, cookie)).status == 429
    assert site.mail is not None
    assert site.mail.sent == []


@pytest.mark.parametrize("path", ["/request-password-reset", "/send-verification-email"])
async def test_mail_is_counted_for_where_it_goes_apart_from_passwords(path: str) -> None:
    site = Site()
    await site.sign_up()
    site.throttle.admitted.clear()
    for email in ("ADA@example.test", "nobody@example.test"):
        assert (await site.post(path, {"email": email})).status == 200
    await site.sign_in()
    assert site.throttle.admitted == ["mail:ada@example.test", "mail:nobody@example.test", "ada@example.test"]


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        pytest.param("/new?token=old&a=b&token=x", "/new?token=T&a=b", id="takes-the-place-of-the-first"),
        pytest.param("/new?a=%20b~*&c", "/new?a=+b%7E*&c=&token=T", id="as-a-browser-prints-it"),
        pytest.param(OWN, "/?token=T", id="a-bare-origin"),
        pytest.param("/..//x", "/..//x?token=T", id="never-another-host"),
    ],
)
async def test_where_a_link_leads(callback: str, expected: str) -> None:
    site = Site()
    await site.sign_up()
    path = await reset_link(site, callback)
    token = path.split("/")[-1].partition("?")[0]
    assert (await site.get(path)).headers["Location"] == OWN + expected.replace("T", token)


async def verify_path(site: Site, callback: str | None = None) -> str:
    body = {"email": "ada@example.test"} | ({} if callback is None else {"callbackURL": callback})
    assert (await site.post("/send-verification-email", body)).document == {"status": True}
    assert site.mail is not None
    return site.mail.sent[-1].url.removeprefix(f"{OWN}/api/auth")


async def test_verifying_an_address_tells_the_gate_once() -> None:
    site = Site()
    user_id = (await site.sign_up()).document["user"]["id"]
    path = await verify_path(site, "/welcome")
    for _ in range(2):
        assert (await site.get(path)).headers["Location"] == "/welcome"
    assert site.accounts.users[user_id].email_verified
    assert site.sessions.told == [("user_changed", (user_id,))]


async def test_a_link_to_verify_that_is_too_old_leads_on_and_says_so() -> None:
    site = Site()
    await site.sign_up()
    path = await verify_path(site, "/welcome?a=b#part")
    site.now_ms += HOUR_MS
    assert (await site.get(path)).headers["Location"] == "/welcome?a=b&error=TOKEN_EXPIRED#part"
    assert not any(user.email_verified for user in site.accounts.users.values())


async def test_the_address_of_another_account_is_not_verified_by_an_old_token() -> None:
    """An address that was given up and taken by somebody else is not theirs to verify by the first one's mail."""
    site = Site()
    await site.sign_up()
    token = make_email_token("ada@example.test", "somebody-else", KEYS, now_ms=NOW_MS)
    result = await site.get(f"/verify-email?token={token}")
    assert (result.status, result.code) == (401, "INVALID_TOKEN")


async def test_a_verified_address_gets_no_mail() -> None:
    site = Site()
    user_id = (await site.sign_up()).document["user"]["id"]
    site.accounts.users[user_id] = replace(site.accounts.users[user_id], email_verified=True)
    for email in ("ada@example.test", "nobody@example.test"):
        assert (await site.post("/send-verification-email", {"email": email})).document == {"status": True}
    assert site.mail is not None
    assert site.mail.sent == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(StoreUnavailable("disk full"), 503, "STORE_UNAVAILABLE", id="no-answer"),
        pytest.param(StoreError("a NUL"), 400, "VALIDATION_ERROR", id="cannot-be-stored"),
    ],
)
async def test_a_store_that_fails_signs_nobody_out(error: StoreError, status: int, code: str) -> None:
    site = Site()
    token = (await site.sign_up()).document["token"]
    site.accounts.error = error
    for path in ("/sign-out", "/revoke-sessions"):
        result = await site.post(path, None, token_cookie(token))
        assert (result.status, result.code, result.cookies) == (status, code, {})
    assert token in site.accounts.sessions
    assert (await site.get("/get-session", token_cookie(token))).status == status


async def test_a_store_that_does_not_answer_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "gatekeeper")
    site = Site()
    await site.sign_up()
    site.accounts.error = StoreUnavailable("the database is locked")
    for _ in range(3):
        assert (await site.sign_in()).headers["Retry-After"] == str(RETRY_AFTER_S)
        assert (await site.get("/get-session")).status == 200  # which asks nobody
    site.accounts.error = None
    assert (await site.sign_in()).status == 200
    assert (await site.sign_in()).status == 200
    assert [record.getMessage() for record in caplog.records] == [
        "account calls cannot be carried out: the database is locked",
        "account calls can be carried out again",
    ]


async def test_paths_are_calls_only_below_the_base_path() -> None:
    site = Site(base_path="/auth")
    assert site.api.owns("/auth/ok")
    assert not site.api.owns("/authok")
    assert site.api.owns("/auth")
    assert not site.api.owns("/api/auth/ok")
    sent = {"method": "GET", "path": "/auth/ok", "headers": {}, "body": None}
    answer: Answer = await site.api.answer(request_of(sent, OWN))
    assert answer.body == b'{"ok":true}'


@pytest.mark.parametrize(("language", "tag"), [("de-AT,de;q=0.9", "de"), ("en", "en"), ("fr", "en")])
async def test_mails_are_in_the_language_of_who_asks(language: str, tag: str) -> None:
    site = Site()
    await site.sign_up()
    assert site.mail is not None
    for path in ("/request-password-reset", "/send-verification-email"):
        site.mail.sent.clear()
        await site.post(path, {"email": "ada@example.test"}, accept_language=language)
        assert [message.words.tag for message in site.mail.sent] == [tag]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "UNKNOWN"),
        ("?error=state_mismatch", "state_mismatch"),
        ("?error=it's", "it&#39;s"),
        ("?error=%3Cscript%3E", "UNKNOWN"),
        ("?error=a&error=b", "UNKNOWN"),
    ],
)
async def test_error_page_shows_words_alone(query: str, expected: str) -> None:
    result = await Site().get(f"/error{query}")
    assert f"<dd>{expected}</dd>".encode() in result.answer.body
    assert "default-src 'none'" in result.headers["Content-Security-Policy"]


async def test_the_error_page_is_in_the_visitors_language_and_the_sites_dress() -> None:
    site = Site(look=Look(name="Analytical Engines"))
    result = await site.get("/error?error=x", accept_language="de")
    page = result.answer.body.decode()
    assert '<html lang="de">' in page
    assert "Das hat nicht geklappt" in page
    assert "Analytical Engines" in page
    assert result.headers["Vary"] == "Accept-Language"
