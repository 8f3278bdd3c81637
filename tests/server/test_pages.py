import json
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.decide import wants_page
from gatekeeper.core.loop import COOKIE, read_redirects
from gatekeeper.core.model import (
    AnswerPreflight,
    Deny,
    Reason,
    RequestFacts,
    Session,
    SessionRecord,
    SignIn,
    Target,
    User,
)
from gatekeeper.core.urls import encode_uri_component, parse_target, safe_callback
from gatekeeper.server.answers import STYLESHEET, phrase, to_ascii
from gatekeeper.server.documents import iso_date
from gatekeeper.server.pages import (
    CLEAR_COOKIES,
    Answer,
    PageSettings,
    answer,
    cleared,
    error_answer,
    sign_in_url,
    static,
    whoami,
)
from gatekeeper.server.texts import cause_for, text_for

NOW_MS = 1_790_000_000_500
VARY = "Cookie, Authorization, Accept, Sec-Fetch-Mode"
SETTINGS = PageSettings("/sign-in", trusted_origins=frozenset({"https://app.example.com"}))


def facts(target: str = "/dashboard", method: str = "GET", **given: Any) -> RequestFacts:
    parsed = parse_target(method, target)
    assert isinstance(parsed, Target)
    return RequestFacts(method, parsed, given.pop("scheme", "https"), "app.example.com", "192.0.2.1", **given)


def page(target: str = "/dashboard", **given: Any) -> RequestFacts:
    return facts(target, sec_fetch_mode="navigate", **given)


def header(given: Answer, name: str) -> str | None:
    values = headers(given, name)
    assert len(values) < 2
    return values[0] if values else None


def headers(given: Answer, name: str) -> list[str]:
    return [value.decode("ascii") for key, value in given.headers if key.decode("ascii") == name]


def document(given: Answer) -> dict[str, Any]:
    assert header(given, "Content-Type") == "application/json"
    parsed = json.loads(given.body)
    assert isinstance(parsed, dict)
    return parsed


def html(given: Answer) -> str:
    assert header(given, "Content-Type") == "text/html; charset=utf-8"
    return given.body.decode()


class TestSignIn:
    def test_redirects_to_sign_in_with_the_way_back(self) -> None:
        made = answer(SignIn(307, "/dashboard?tab=1", Reason.NO_COOKIE), page(), SETTINGS, now_ms=NOW_MS)
        assert made.status == 307
        assert header(made, "Location") == "/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1"
        assert header(made, "Cache-Control") == "no-store"
        assert header(made, "Vary") == VARY

    def test_a_form_is_answered_with_303(self) -> None:
        made = answer(SignIn(303, "/x", Reason.NO_COOKIE), page(method="POST"), SETTINGS, now_ms=NOW_MS)
        assert made.status == 303

    def test_the_body_links_there_for_old_clients(self) -> None:
        made = answer(SignIn(307, "/a?b='&c", Reason.NO_COOKIE), page(), SETTINGS, now_ms=NOW_MS)
        link = re.search(r'href="([^"]+)"', html(made))
        assert link is not None
        assert unescape(link[1]) == header(made, "Location")

    @pytest.mark.parametrize("secure", [False, True])
    def test_counts_redirects_in_a_cookie(self, secure: bool) -> None:
        settings = PageSettings("/sign-in", secure_cookies=secure)
        made = answer(SignIn(307, "/dashboard", Reason.NO_COOKIE, 2), page(), settings, now_ms=NOW_MS)
        cookie = header(made, "Set-Cookie")
        assert cookie is not None
        assert cookie.startswith(f"{COOKIE}=")
        assert ("; Secure" in cookie) is secure
        assert read_redirects(cookie.partition(";")[0], "/dashboard", NOW_MS) == 2

    @pytest.mark.parametrize(
        ("sign_in", "public_origin", "expected"),
        [
            pytest.param("/sign-in", None, "/sign-in?callbackUrl=%2Fa%3Fb", id="path"),
            pytest.param("/sign-in", "https://app.test", "/sign-in?callbackUrl=%2Fa%3Fb", id="path-stays-relative"),
            pytest.param("/sign-in?lang=de", None, "/sign-in?lang=de&callbackUrl=%2Fa%3Fb", id="own-query"),
            pytest.param(
                "https://id.test/in",
                "https://app.test",
                "https://id.test/in?callbackUrl=https%3A%2F%2Fapp.test%2Fa%3Fb",
                id="other-origin",
            ),
            pytest.param("https://id.test/in", None, "https://id.test/in?callbackUrl=%2Fa%3Fb", id="origin-unknown"),
            pytest.param("/anmeldung-für", None, "/anmeldung-f%C3%BCr?callbackUrl=%2Fa%3Fb", id="non-ascii"),
            pytest.param("/in\r\nX: y", None, "/in%0D%0AX:%20y?callbackUrl=%2Fa%3Fb", id="no-new-line"),
        ],
    )
    def test_where_signing_in_begins(self, sign_in: str, public_origin: str | None, expected: str) -> None:
        assert sign_in_url(PageSettings(sign_in, public_origin), "/a?b") == expected

    def test_without_a_way_back_there_is_no_parameter(self) -> None:
        assert sign_in_url(SETTINGS, None) == "/sign-in"


class TestDeny:
    def test_401_is_json_that_names_sign_in(self) -> None:
        made = answer(Deny(401, Reason.NO_COOKIE, return_to="/dashboard"), facts(), SETTINGS, now_ms=NOW_MS)
        assert made.status == 401
        assert made.body == (
            b'{"error":"Unauthorized","code":"NO_COOKIE","signInUrl":"/sign-in?callbackUrl=%2Fdashboard"}'
        )
        assert header(made, "Cache-Control") == "no-store"
        assert header(made, "Vary") == VARY

    @pytest.mark.parametrize(
        ("decision", "error"),
        [
            pytest.param(Deny(400, Reason.ENCODED_SLASH), "Bad Request", id="400"),
            pytest.param(Deny(403, Reason.ROLE_REQUIRED), "Forbidden", id="403"),
            pytest.param(Deny(405, Reason.METHOD_NOT_ALLOWED, allow=("GET",)), "Method Not Allowed", id="405"),
            pytest.param(Deny(413, Reason.BODY_TOO_LARGE), "Content Too Large", id="413"),
            pytest.param(Deny(503, Reason.STORE_UNAVAILABLE, retry_after=5), "Service Unavailable", id="503"),
        ],
    )
    def test_a_program_gets_json_and_a_person_a_page(self, decision: Deny, error: str) -> None:
        program = answer(decision, facts(), SETTINGS, now_ms=NOW_MS)
        assert program.status == decision.status
        assert document(program) == {"error": error, "code": decision.reason.value}
        person = answer(decision, page(), SETTINGS, now_ms=NOW_MS, request_id="r-17")
        assert person.status == decision.status
        text = text_for(decision.status, decision.reason)
        assert unescape(html(person)).count(text.title) == 2
        assert text.advice in unescape(html(person))
        assert f"{decision.status} {decision.reason.value}" in html(person)
        assert "r-17" in html(person)

    def test_405_says_what_is_allowed(self) -> None:
        decision = Deny(405, Reason.METHOD_NOT_ALLOWED, allow=("GET", "POST"))
        assert header(answer(decision, facts(), SETTINGS, now_ms=NOW_MS), "Allow") == "GET, POST"

    def test_503_says_when_to_come_back(self) -> None:
        decision = Deny(503, Reason.STORE_UNAVAILABLE, retry_after=5)
        for asked in (facts(), page()):
            assert header(answer(decision, asked, SETTINGS, now_ms=NOW_MS), "Retry-After") == "5"

    def test_a_server_fault_offers_to_try_again_but_never_to_repeat_a_form(self) -> None:
        decision = Deny(503, Reason.STORE_UNAVAILABLE)
        again = answer(decision, page("/dashboard?tab=1"), SETTINGS, now_ms=NOW_MS)
        assert '<a class="button" href="/dashboard?tab=1">Try again</a>' in html(again)
        assert "Try again" not in html(answer(decision, page(method="POST"), SETTINGS, now_ms=NOW_MS))

    def test_pages_carry_a_policy_without_scripts_and_inline_styles(self) -> None:
        made = answer(Deny(403, Reason.ROLE_REQUIRED), page(), SETTINGS, now_ms=NOW_MS)
        assert header(made, "Content-Security-Policy") == (
            "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        assert header(made, "X-Content-Type-Options") == "nosniff"
        assert header(made, "Referrer-Policy") == "same-origin"
        assert not re.search(r"<script|<style|style=|onclick", html(made))
        assert '<html lang="en">' in html(made)
        assert html(made).count("<h1>") == 1
        assert STYLESHEET in html(made)

    def test_every_reason_and_status_has_words(self) -> None:
        for reason in Reason:
            for status in (400, 403, 404, 405, 413, 418, 500, 502, 503, 504):
                assert all(text_for(status, reason))


class TestTrustedOrigins:
    @pytest.mark.parametrize(
        "decision",
        [
            pytest.param(Deny(401, Reason.NO_COOKIE, return_to="/"), id="401"),
            pytest.param(Deny(403, Reason.ROLE_REQUIRED), id="403"),
            pytest.param(Deny(503, Reason.STORE_UNAVAILABLE), id="503"),
        ],
    )
    def test_may_read_denials(self, decision: Deny) -> None:
        made = answer(decision, facts(origin="https://app.example.com"), SETTINGS, now_ms=NOW_MS)
        assert header(made, "Access-Control-Allow-Origin") == "https://app.example.com"
        assert header(made, "Access-Control-Allow-Credentials") == "true"
        assert header(made, "Vary") == f"{VARY}, Origin"

    @pytest.mark.parametrize(
        "origin",
        [
            None,
            "null",
            "*",
            "https://app.example.com.evil.test",
            "https://APP.example.com",
            "http://app.example.com",
            "https://app.example.com:443",
        ],
    )
    def test_others_may_not(self, origin: str | None) -> None:
        denied = answer(Deny(401, Reason.NO_COOKIE, return_to="/"), facts(origin=origin), SETTINGS, now_ms=NOW_MS)
        refused = answer(AnswerPreflight(("GET",)), facts(origin=origin), SETTINGS, now_ms=NOW_MS)
        read = whoami(RECORD, facts(origin=origin), SETTINGS)
        assert refused.status == 403
        assert document(refused)["code"] == "PREFLIGHT_DENIED"
        for made in (denied, refused, read):
            assert not [name for name, _ in made.headers if name.startswith(b"Access-Control")]

    def test_get_their_preflight_answered(self) -> None:
        asked = facts(method="OPTIONS", origin="https://app.example.com", access_control_request_method="PUT")
        made = answer(AnswerPreflight(("GET", "PUT")), asked, SETTINGS, now_ms=NOW_MS)
        assert made.status == 204
        assert made.body == b""
        assert header(made, "Access-Control-Allow-Origin") == "https://app.example.com"
        assert header(made, "Access-Control-Allow-Credentials") == "true"
        assert header(made, "Access-Control-Allow-Methods") == "GET, PUT"
        assert header(made, "Access-Control-Allow-Headers") == "authorization, content-type, x-requested-with"
        assert header(made, "Access-Control-Max-Age") == "600"
        assert header(made, "Vary") == "Access-Control-Request-Method, Access-Control-Request-Headers, Origin"


class TestSignInLoop:
    def loop(self, cause: Reason | None, settings: PageSettings = SETTINGS, **given: Any) -> Answer:
        decision = Deny(401, Reason.SIGN_IN_LOOP, return_to="/dashboard?a='1", cause=cause)
        return answer(decision, page(**given), settings, now_ms=NOW_MS)

    @pytest.mark.parametrize(
        ("cause", "visitor", "operator"),
        [
            (Reason.NO_COOKIE, "did not send back the cookie", "session.cookie.prefix"),
            (Reason.BAD_SIGNATURE, "could not be confirmed", "secret"),
            (Reason.SESSION_EXPIRED, "already run out", "clocks"),
            (Reason.SESSION_UNKNOWN, "not known here", "same database"),
            (Reason.USER_BANNED, "blocked", "banned"),
            (Reason.INTERNAL_ERROR, "could not recognise", "gatekeeper explain"),
            (None, "did not send back the cookie", "session.cookie.prefix"),
        ],
    )
    def test_names_the_cause_for_visitor_and_operator(self, cause: Reason | None, visitor: str, operator: str) -> None:
        text = unescape(html(self.loop(cause)))
        assert visitor in text
        assert operator in text
        assert f"401 SIGN_IN_LOOP / {(cause or Reason.NO_COOKIE).value}" in text

    def test_knows_secure_cookies_over_http(self) -> None:
        settings = PageSettings("/sign-in", secure_cookies=True)
        assert "https:// instead" in html(self.loop(Reason.NO_COOKIE, settings, scheme="http"))
        assert "https:// instead" not in html(self.loop(Reason.NO_COOKIE, settings, scheme="https"))
        assert "https:// instead" not in html(self.loop(Reason.NO_COOKIE, SETTINGS, scheme="http"))
        assert cause_for(Reason.BAD_SIGNATURE, secure_over_http=True) == cause_for(
            Reason.BAD_SIGNATURE, secure_over_http=False
        )

    def test_offers_to_clear_cookies_and_keeps_them_until_then(self) -> None:
        made = self.loop(Reason.BAD_SIGNATURE)
        assert f'<form class="actions" method="post" action="{CLEAR_COOKIES}">' in html(made)
        assert "Clear cookies and sign in anew" in html(made)
        field = re.search(r'name="callbackUrl" value="([^"]*)"', html(made))
        assert field is not None
        assert unescape(field[1]) == "/dashboard?a='1"
        assert headers(made, "Set-Cookie") == []

    def test_without_a_way_back_leads_to_the_page_asked_for(self) -> None:
        made = answer(Deny(401, Reason.SIGN_IN_LOOP), page("/a?b=1"), SETTINGS, now_ms=NOW_MS)
        assert 'name="callbackUrl" value="/a?b=1"' in html(made)

    def test_its_form_may_lead_to_a_sign_in_page_elsewhere(self) -> None:
        settings = PageSettings("https://id.test/in", "https://app.test")
        policy = header(self.loop(Reason.NO_COOKIE, settings), "Content-Security-Policy")
        assert policy is not None
        assert "form-action 'self' https://id.test;" in policy


class TestCleared:
    def test_removes_the_cookies_and_leads_to_sign_in(self) -> None:
        made = cleared(["better-auth.session_token", "better-auth.session_data.0"], SETTINGS, "/dashboard?tab=1")
        assert made.status == 303
        assert header(made, "Location") == "/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1"
        assert headers(made, "Set-Cookie") == [
            "better-auth.session_token=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax",
            "better-auth.session_data.0=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax",
            "gatekeeper.redirects=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax",
        ]

    def test_with_a_domain_removes_both_variants(self) -> None:
        settings = PageSettings("/sign-in", secure_cookies=True, cookie_domain="example.com")
        made = cleared(["__Secure-a", "__Host-b"], settings, "/")
        assert headers(made, "Set-Cookie") == [
            "__Secure-a=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax",
            "__Secure-a=; Max-Age=0; Domain=example.com; Path=/; HttpOnly; Secure; SameSite=Lax",
            "__Host-b=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax",
            "gatekeeper.redirects=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax",
            "gatekeeper.redirects=; Max-Age=0; Domain=example.com; Path=/; HttpOnly; Secure; SameSite=Lax",
        ]

    def test_a_prefixed_name_is_secure_whatever_the_setting(self) -> None:
        assert "; Secure" in headers(cleared(["__Secure-a"], SETTINGS, "/"), "Set-Cookie")[0]

    @pytest.mark.parametrize("name", ["", "a b", "a;b", "a=b", "a\r\nX: y", "ä", "x" * 300])
    def test_passes_over_what_is_no_cookie_name(self, name: str) -> None:
        assert len(headers(cleared([name], SETTINGS, "/"), "Set-Cookie")) == 1

    @pytest.mark.parametrize("text", [None, "", "//evil.test", "https://evil.test/", "/\\evil.test", "javascript:x"])
    def test_never_leads_away(self, text: str | None) -> None:
        assert header(cleared([], SETTINGS, text), "Location") == "/sign-in?callbackUrl=%2F"


class TestErrorAnswer:
    def test_without_facts_is_minimal_json(self) -> None:
        made = error_answer(400, Reason.BAD_FRAMING, None, SETTINGS)
        assert document(made) == {"error": "Bad Request", "code": "BAD_FRAMING"}
        assert header(made, "Cache-Control") == "no-store"

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (502, Reason.UPSTREAM_REFUSED),
            (502, Reason.UPSTREAM_PROTOCOL),
            (504, Reason.UPSTREAM_TIMEOUT),
            (500, Reason.INTERNAL_ERROR),
            (404, Reason.NOT_FOUND),
        ],
    )
    def test_is_a_page_or_json_by_accept(self, status: int, reason: Reason) -> None:
        assert document(error_answer(status, reason, facts(), SETTINGS))["code"] == reason.value
        assert "<h1>" in html(error_answer(status, reason, facts(accept="text/html"), SETTINGS))

    def test_may_say_when_to_come_back(self) -> None:
        assert header(error_answer(503, Reason.INTERNAL_ERROR, None, SETTINGS, retry_after=3), "Retry-After") == "3"
        assert header(error_answer(503, Reason.INTERNAL_ERROR, page(), SETTINGS, retry_after=3), "Retry-After") == "3"

    def test_a_status_without_a_name(self) -> None:
        assert phrase(799) == "Error"
        assert phrase(422) == "Unprocessable Content"


USER = User("u1", "Zoë", "zoe@example.com", True, None, 1_750_000_000_000, 1_750_000_000_007)
SESSION = Session("s1", "T" * 32, "u1", 1_760_000_000_000, 1_750_000_000_000, 1_750_000_000_999, "192.0.2.7", None)
RECORD = SessionRecord(SESSION, USER)


class TestWhoami:
    def test_has_the_documents_fields_and_no_token(self) -> None:
        made = whoami(RECORD)
        assert made.status == 200
        assert document(made) == {
            "user": {
                "id": "u1",
                "name": "Zoë",
                "email": "zoe@example.com",
                "emailVerified": True,
                "image": None,
                "createdAt": "2025-06-15T15:06:40.000Z",
                "updatedAt": "2025-06-15T15:06:40.007Z",
            },
            "session": {
                "id": "s1",
                "userId": "u1",
                "expiresAt": "2025-10-09T08:53:20.000Z",
                "createdAt": "2025-06-15T15:06:40.000Z",
                "updatedAt": "2025-06-15T15:06:40.999Z",
                "ipAddress": "192.0.2.7",
                "userAgent": None,
            },
        }
        assert header(made, "Cache-Control") == "no-store"
        assert header(made, "Vary") == "Cookie, Authorization"

    def test_shows_fields_of_plugins_where_present_and_declared_ones(self) -> None:
        user = User(
            "u1",
            "",
            "e@x.test",
            False,
            "/me.png",
            0,
            0,
            two_factor_enabled=False,
            role="admin",
            extra={"plan": "pro", "id": "other", "token": "x"},
        )
        session = Session(
            "s1",
            "T" * 32,
            "u1",
            0,
            0,
            0,
            None,
            None,
            impersonated_by="u2",
            active_organization_id="o1",
            extra={"device": {"os": "x"}, "token": "secret", "userId": "other", "raw": object},
        )
        shown = document(whoami(SessionRecord(session, user)))
        assert shown["user"]["twoFactorEnabled"] is False
        assert shown["user"]["role"] == "admin"
        assert shown["user"]["plan"] == "pro"
        assert shown["user"]["id"] == "u1"
        assert shown["session"]["device"] == {"os": "x"}
        assert shown["session"]["impersonatedBy"] == "u2"
        assert shown["session"]["activeOrganizationId"] == "o1"
        assert shown["session"]["userId"] == "u1"
        assert "token" not in shown["user"]
        assert "token" not in shown["session"]

    def test_is_401_without_a_session(self) -> None:
        made = whoami(None, reason=Reason.SESSION_EXPIRED)
        assert made.status == 401
        assert document(made) == {"error": "Unauthorized", "code": "SESSION_EXPIRED"}
        assert header(made, "Cache-Control") == "no-store"

    def test_a_trusted_origin_may_read_it(self) -> None:
        for record in (RECORD, None):
            made = whoami(record, facts(origin="https://app.example.com"), SETTINGS)
            assert header(made, "Access-Control-Allow-Origin") == "https://app.example.com"
            assert header(made, "Vary") == "Cookie, Authorization, Origin"

    @pytest.mark.parametrize(
        ("ms", "expected"),
        [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_795_000_000_123, "2026-11-18T11:06:40.123Z"),
            (10**18, "9999-12-31T23:59:59.999Z"),
            (-(10**18), "0001-01-01T00:00:00.000Z"),
        ],
    )
    def test_dates_have_milliseconds_and_z(self, ms: int, expected: str) -> None:
        assert iso_date(ms) == expected


class TestStatic:
    def test_the_stylesheet_is_served_with_type_and_etag(self) -> None:
        made = static(STYLESHEET)
        assert made is not None
        assert made.status == 200
        assert header(made, "Content-Type") == "text/css; charset=utf-8"
        assert header(made, "Cache-Control") == "public, max-age=3600"
        assert b"prefers-color-scheme: dark" in made.body

    def test_is_304_for_whoever_has_it(self) -> None:
        made = static(STYLESHEET)
        assert made is not None
        etag = header(made, "ETag")
        for tags in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            again = static(STYLESHEET, tags)
            assert again is not None
            assert (again.status, again.body) == (304, b"")
            assert header(again, "ETag") == etag
        other = static(STYLESHEET, '"x"')
        assert other is not None
        assert other.status == 200

    @pytest.mark.parametrize("path", ["/.gatekeeper/static/", "/.gatekeeper/static/../pages.py", "/x", ""])
    def test_there_is_nothing_else(self, path: str) -> None:
        assert static(path) is None


# Laws, for any request.

OUR_TAGS = set(
    re.findall("[a-z0-9]+", "html head meta title link body main h1 h2 p a form input button details summary")
)
OUR_TAGS |= {"dl", "div", "dt", "dd", ""}

anything = st.text(st.characters(max_codepoint=255), max_size=40)
targets = st.builds(Target, anything.map(lambda text: "/" + text), st.none() | anything, st.just(()), st.just(()))
any_facts = st.builds(
    RequestFacts,
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"]),
    target=targets,
    scheme=st.sampled_from(["http", "https"]),
    host=anything,
    client_address=anything,
    cookie=st.none() | anything,
    accept=st.none() | st.sampled_from(["text/html", "*/*"]) | anything,
    authorization=st.none() | anything,
    origin=st.none() | st.sampled_from(["https://app.example.com", "https://bücher.test", "null"]) | anything,
    referer=st.none() | anything,
    sec_fetch_mode=st.none() | st.sampled_from(["navigate", "cors"]),
    is_websocket=st.booleans(),
)
any_deny = st.builds(
    Deny,
    st.sampled_from([400, 401, 403, 405, 500, 502, 503, 504]),
    st.sampled_from(list(Reason)),
    return_to=st.none() | anything.map(lambda text: "/" + text),
    allow=st.lists(anything, max_size=2).map(tuple),
    retry_after=st.none() | st.integers(0, 100),
    cause=st.none() | st.sampled_from(list(Reason)),
)
any_sign_in = st.builds(
    SignIn,
    st.sampled_from([303, 307]),
    anything.map(lambda text: "/" + text),
    st.sampled_from(list(Reason)),
    st.integers(1, 3),
)
any_decision = any_deny | any_sign_in | st.builds(AnswerPreflight, st.lists(anything, max_size=2).map(tuple))
any_settings = st.builds(
    PageSettings,
    sign_in=st.sampled_from(["/sign-in", "/in?x=1", "https://id.test/in"]),
    public_origin=st.sampled_from([None, "https://app.example.com"]),
    trusted_origins=st.just(frozenset({"https://app.example.com", "https://bücher.test"})),
    secure_cookies=st.booleans(),
    cookie_domain=st.sampled_from([None, "example.com"]),
)


def check_form(made: Answer) -> None:
    """What holds for every answer: clean header lines, no cache, a body that is what it says."""
    for name, value in made.headers:
        assert re.fullmatch(rb"[A-Za-z-]+", name)
        assert re.fullmatch(rb"[ -~]*", value), (name, value)
        assert name.lower() not in (b"content-length", b"connection", b"date")
    assert header(made, "Cache-Control") == "no-store"
    kind = header(made, "Content-Type")
    if kind == "application/json":
        assert isinstance(json.loads(made.body), dict)
    else:
        assert kind is None if made.status == 204 else kind == "text/html; charset=utf-8"
    assert header(made, "Access-Control-Allow-Origin") in (None, "https://app.example.com", "https://b%C3%BCcher.test")


@given(any_decision, any_facts, any_settings, st.none() | anything)
def test_no_request_bends_the_form_of_an_answer(
    decision: SignIn | Deny | AnswerPreflight, given: RequestFacts, settings: PageSettings, request_id: str | None
) -> None:
    check_form(answer(decision, given, settings, now_ms=NOW_MS, request_id=request_id))


@given(st.sampled_from([400, 500, 502, 503, 504]), st.sampled_from(list(Reason)), st.none() | any_facts)
def test_no_request_bends_the_form_of_an_error(status: int, reason: Reason, given: RequestFacts | None) -> None:
    made = error_answer(status, reason, given, SETTINGS)
    assert made.status == status
    check_form(made)
    if given is not None and not wants_page(given) and reason is not Reason.SIGN_IN_LOOP:
        assert document(made)["code"] == reason.value


@given(any_sign_in, any_facts, any_settings)
def test_the_way_back_is_one_parameter_that_reads_back(
    decision: SignIn, given: RequestFacts, settings: PageSettings
) -> None:
    location = header(answer(decision, given, settings, now_ms=NOW_MS), "Location")
    assert location is not None
    parts = urlsplit(location)
    base = urlsplit(settings.sign_in)
    assert (parts.scheme, parts.netloc, parts.path) == (base.scheme, base.netloc, base.path)
    (way_back,) = parse_qs(parts.query, keep_blank_values=True)["callbackUrl"]
    assert way_back.endswith(decision.return_to)
    assert location.endswith(encode_uri_component(way_back))


@given(any_deny, any_facts, anything)
def test_markup_in_a_request_stays_text(decision: Deny, given: RequestFacts, request_id: str) -> None:
    made = answer(decision, given, SETTINGS, now_ms=NOW_MS, request_id=f'"><i>{request_id}')
    if header(made, "Content-Type") != "application/json":
        assert set(re.findall(r"<\s*/?\s*([A-Za-z0-9]*)", html(made))) <= OUR_TAGS


@given(st.lists(anything, max_size=3), any_settings, st.none() | st.text(max_size=60))
def test_clearing_leads_to_sign_in_and_nowhere_else(
    names: list[str], settings: PageSettings, return_to: str | None
) -> None:
    made = cleared(names, settings, return_to)
    check_form(made)
    way_back = safe_callback(return_to, settings.public_origin)
    assert header(made, "Location") == sign_in_url(settings, way_back)
    assert all("=; Max-Age=0; " in line for line in headers(made, "Set-Cookie"))


@given(any_facts, any_decision, any_settings)
def test_nothing_of_a_credential_is_answered(
    given: RequestFacts, decision: SignIn | Deny | AnswerPreflight, settings: PageSettings
) -> None:
    secret = "5ecret-c00kie-value"
    asked = RequestFacts(
        given.method,
        given.target,
        given.scheme,
        given.host,
        given.client_address,
        cookie=f"better-auth.session_token={secret}; {COOKIE}={secret}",
        authorization=f"Bearer {secret}",
        accept=given.accept,
        sec_fetch_mode=given.sec_fetch_mode,
    )
    made = answer(decision, asked, settings, now_ms=NOW_MS)
    assert secret.encode() not in made.body + b"".join(value for _, value in made.headers)


@given(st.text(max_size=40))
def test_header_values_are_ascii_whatever_they_were(text: str) -> None:
    assert re.fullmatch(rb"[ -~]*", to_ascii(text))
