"""The decision, from the design's text: access, precedence, navigation, conditions; then the laws."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.decide import MAX_REDIRECTS, Policy, decide, is_preflight, needs_session, wants_page
from gatekeeper.core.loop import redirects_cookie
from gatekeeper.core.model import (
    ANONYMOUS,
    UNKNOWN,
    Access,
    Allow,
    AnswerPreflight,
    AuthStatus,
    Decision,
    Deny,
    Identity,
    Reason,
    RequestFacts,
    Require,
    Route,
    SessionRecord,
    SignIn,
)
from tests.core.facts import facts
from tests.core.records import NOW_MS, record

POLICY = Policy(fresh_age_s=86_400)
LIVE = record({"created_at_ms": NOW_MS - 1_000, "expires_at_ms": NOW_MS + 1_000})
OLD = record({"created_at_ms": NOW_MS - 86_400_000, "expires_at_ms": NOW_MS + 1_000})
DEAD = record({"expires_at_ms": NOW_MS - 1})
PREFLIGHT = {"origin": "https://spa.test", "access_control_request_method": "PUT"}
USUAL = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def route(access: Access = Access.SESSION, **changes: Any) -> Route:
    fields: dict[str, Any] = {"name": "r", "identity": "none", "require": Require(), "methods": None}
    fields |= {"preflight": "deny", "encoded_slash": "reject", "upstream": ""} | changes
    return Route(access=access, **fields)


def judge(
    asked: RequestFacts,
    on: Route,
    found: SessionRecord | None = None,
    missing: Reason | None = None,
    policy: Policy = POLICY,
) -> Decision:
    return decide(asked, on, found, missing, policy, now_ms=NOW_MS)


def signed_in(found: SessionRecord, reason: Reason = Reason.SESSION) -> Allow:
    return Allow(Identity(AuthStatus.AUTHENTICATED, found), reason)


LISTED = Policy(0, websocket_origins=frozenset({"https://spa.test"}))
PUBLIC, OPTIONAL = route(Access.PUBLIC), route(Access.PUBLIC, identity="optional")
PRESENCE, SESSION, FRESH = route(Access.PRESENCE), route(Access.SESSION), route(Access.FRESH)
ADMIN = route(require=Require(roles=(frozenset({"admin"}),)))
GET_ONLY = route(methods=frozenset({"GET"}))
PROGRAM = {"accept": "*/*"}


@pytest.mark.parametrize(
    ("on", "found", "missing", "expected"),
    [
        pytest.param(PUBLIC, None, None, Allow(ANONYMOUS, Reason.PUBLIC), id="public"),
        pytest.param(PUBLIC, LIVE, None, Allow(ANONYMOUS, Reason.PUBLIC), id="public-asks-for-no-identity"),
        pytest.param(OPTIONAL, LIVE, None, signed_in(LIVE, Reason.PUBLIC), id="optional-live"),
        pytest.param(OPTIONAL, DEAD, None, Allow(ANONYMOUS, Reason.PUBLIC), id="optional-expired"),
        pytest.param(OPTIONAL, None, None, Allow(ANONYMOUS, Reason.PUBLIC), id="optional-nothing-at-all"),
        pytest.param(OPTIONAL, None, Reason.NO_COOKIE, Allow(ANONYMOUS, Reason.PUBLIC), id="optional-nobody"),
        pytest.param(OPTIONAL, None, Reason.STORE_UNAVAILABLE, Allow(UNKNOWN, Reason.PUBLIC), id="optional-store-away"),
        pytest.param(PRESENCE, None, None, Allow(ANONYMOUS, Reason.PRESENCE), id="presence-there"),
        pytest.param(
            PRESENCE, None, Reason.NO_COOKIE, SignIn(307, "/dashboard", Reason.NO_COOKIE), id="presence-not-there"
        ),
        pytest.param(SESSION, LIVE, None, signed_in(LIVE), id="session-live"),
        pytest.param(SESSION, OLD, None, signed_in(OLD), id="session-need-not-be-fresh"),
        pytest.param(SESSION, None, Reason.NO_COOKIE, SignIn(307, "/dashboard", Reason.NO_COOKIE), id="no-cookie"),
        pytest.param(SESSION, None, Reason.BAD_SIGNATURE, SignIn(307, "/dashboard", Reason.BAD_SIGNATURE), id="forged"),
        pytest.param(
            SESSION, None, Reason.SESSION_UNKNOWN, SignIn(307, "/dashboard", Reason.SESSION_UNKNOWN), id="unknown"
        ),
        pytest.param(SESSION, None, None, SignIn(307, "/dashboard", Reason.SESSION_UNKNOWN), id="nothing-at-all"),
        pytest.param(SESSION, DEAD, None, SignIn(307, "/dashboard", Reason.SESSION_EXPIRED), id="expired"),
        pytest.param(
            SESSION, None, Reason.STORE_UNAVAILABLE, Deny(503, Reason.STORE_UNAVAILABLE, retry_after=5), id="store-away"
        ),
        pytest.param(FRESH, LIVE, None, signed_in(LIVE), id="fresh"),
        pytest.param(FRESH, OLD, None, Deny(403, Reason.SESSION_NOT_FRESH), id="not-fresh"),
        pytest.param(ADMIN, LIVE, None, Deny(403, Reason.ROLE_REQUIRED), id="condition-fails"),
        pytest.param(GET_ONLY, LIVE, None, signed_in(LIVE), id="listed-method"),
    ],
)
def test_page_navigation(on: Route, found: SessionRecord | None, missing: Reason | None, expected: Decision) -> None:
    assert judge(facts(), on, found, missing) == expected


@pytest.mark.parametrize("missing", [Reason.NO_COOKIE, Reason.BAD_SIGNATURE, Reason.SESSION_UNKNOWN])
def test_programs_get_401_with_the_way_back(missing: Reason) -> None:
    decision = judge(facts("/dashboard?tab=1", **PROGRAM), SESSION, None, missing)
    assert decision == Deny(401, missing, return_to="/dashboard?tab=1")


@pytest.mark.parametrize(("method", "status"), [("GET", 307), ("HEAD", 307), ("POST", 303), ("DELETE", 303)])
def test_redirect_status_follows_the_method(method: str, status: int) -> None:
    decision = judge(facts(method=method), SESSION, None, Reason.NO_COOKIE)
    assert isinstance(decision, SignIn)
    assert decision.status == status


@pytest.mark.parametrize(
    ("method", "referer", "return_to"),
    [
        pytest.param("POST", "https://app.test/form?step=2", "/form?step=2", id="own-page"),
        pytest.param("POST", "https://APP.test/form", "/form", id="own-page-in-capitals"),
        pytest.param("POST", "https://evil.test/form", "/dashboard", id="foreign-page"),
        pytest.param("POST", "https://app.test.evil.test/form", "/dashboard", id="longer-host"),
        pytest.param("POST", "http://app.test/form", "/dashboard", id="other-scheme"),
        pytest.param("POST", None, "/dashboard", id="no-referer"),
        pytest.param("POST", "https://app.test/", "/", id="form-on-the-root-page"),
        pytest.param("POST", "https://app.test", "/", id="origin-alone"),
        pytest.param("POST", "https://app.test/a\\b", "/", id="own-page-that-no-one-can-read"),
        pytest.param("POST", "", "/dashboard", id="empty"),
        pytest.param("POST", "about:blank", "/dashboard", id="no-web-page"),
        pytest.param("POST", "//app.test/form", "/dashboard", id="no-scheme"),
        pytest.param("POST", "https://app.test//evil.test/x", "/evil.test/x", id="two-slashes-are-one"),
        pytest.param("PUT", "https://app.test/form#part", "/form", id="put-without-fragment"),
        pytest.param("GET", "https://app.test/form", "/dashboard", id="get-comes-back-to-itself"),
        pytest.param("HEAD", "https://app.test/form", "/dashboard", id="so-does-head"),
    ],
)
def test_form_comes_back_to_its_page(method: str, referer: str | None, return_to: str) -> None:
    decision = judge(facts(method=method, referer=referer), SESSION, None, Reason.NO_COOKIE)
    assert isinstance(decision, SignIn)
    assert decision.return_to == return_to


def test_public_url_is_the_own_origin() -> None:
    policy = Policy(86_400, public_origin="https://public.test")
    asked = facts(method="POST", referer="https://public.test/form")
    decision = judge(asked, SESSION, None, Reason.NO_COOKIE, policy)
    assert isinstance(decision, SignIn)
    assert decision.return_to == "/form"


def test_third_redirect_of_a_path_is_a_page_that_explains() -> None:
    header = None
    assert MAX_REDIRECTS == 2
    for count in (1, 2):
        decision = judge(facts(cookie=header), SESSION, None, Reason.BAD_SIGNATURE)
        assert decision == SignIn(307, "/dashboard", Reason.BAD_SIGNATURE, count)
        header = redirects_cookie(header, "/dashboard", count, NOW_MS, secure=False).partition(";")[0]
    assert judge(facts(cookie=header), SESSION, None, Reason.BAD_SIGNATURE) == Deny(
        401, Reason.SIGN_IN_LOOP, return_to="/dashboard", cause=Reason.BAD_SIGNATURE
    )
    elsewhere = judge(facts("/settings", cookie=header), SESSION, None, Reason.NO_COOKIE)
    assert elsewhere == SignIn(307, "/settings", Reason.NO_COOKIE, 1)
    later = decide(facts(cookie=header), SESSION, None, Reason.NO_COOKIE, POLICY, now_ms=NOW_MS + 31_000)
    assert later == SignIn(307, "/dashboard", Reason.NO_COOKIE, 1)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
@pytest.mark.parametrize("on", [PUBLIC, SESSION])
def test_trace_and_connect_are_refused_everywhere(method: str, on: Route) -> None:
    asked = RequestFacts(method, facts().target, "http", "h", "127.0.0.1")
    assert judge(asked, on, LIVE) == Deny(405, Reason.METHOD_NOT_ALLOWED, allow=USUAL)


@pytest.mark.parametrize(
    ("method", "missing", "expected"),
    [
        ("POST", None, Deny(405, Reason.METHOD_NOT_ALLOWED, allow=("GET",))),
        ("HEAD", None, signed_in(LIVE)),
        ("POST", Reason.NO_COOKIE, SignIn(303, "/dashboard", Reason.NO_COOKIE)),
    ],
)
def test_methods_are_looked_at_after_the_session(method: str, missing: Reason | None, expected: Decision) -> None:
    assert judge(facts(method=method), GET_ONLY, None if missing else LIVE, missing) == expected


def test_head_may_be_listed_alone_and_presence_has_methods_too() -> None:
    head_only = route(Access.PRESENCE, methods=frozenset({"HEAD"}))
    assert judge(facts(method="HEAD"), head_only) == Allow(ANONYMOUS, Reason.PRESENCE)
    assert judge(facts(), head_only) == Deny(405, Reason.METHOD_NOT_ALLOWED, allow=("HEAD",))


def test_method_comes_before_freshness_and_that_before_conditions() -> None:
    strict = route(Access.FRESH, methods=frozenset({"GET"}), require=Require(two_factor=True))
    assert judge(facts(method="POST"), strict, OLD) == Deny(405, Reason.METHOD_NOT_ALLOWED, allow=("GET",))
    assert judge(facts(), strict, OLD) == Deny(403, Reason.SESSION_NOT_FRESH)
    assert judge(facts(), strict, LIVE) == Deny(403, Reason.TWO_FACTOR_REQUIRED)


def test_condition_on_a_presence_rule_asks_for_the_session() -> None:
    strict = route(Access.PRESENCE, require=Require(email_verified=True))
    assert judge(facts(), strict, LIVE) == signed_in(LIVE)
    assert isinstance(judge(facts(), strict, None, Reason.SESSION_UNKNOWN), SignIn)


@pytest.mark.parametrize(
    ("preflight", "on", "expected"),
    [
        pytest.param("deny", SESSION, Deny(401, Reason.NO_COOKIE, return_to="/dashboard"), id="deny"),
        pytest.param("pass", route(preflight="pass"), Allow(ANONYMOUS, Reason.PREFLIGHT), id="pass"),
        pytest.param(
            "pass", route(Access.PRESENCE, preflight="pass"), Allow(ANONYMOUS, Reason.PREFLIGHT), id="pass-presence"
        ),
        pytest.param("answer", route(preflight="answer"), AnswerPreflight(USUAL), id="answer"),
        pytest.param(
            "answer",
            route(preflight="answer", methods=frozenset({"PUT", "GET"})),
            AnswerPreflight(("GET", "PUT")),
            id="answer-listed",
        ),
        pytest.param(
            "answer", route(preflight="answer", methods=frozenset()), AnswerPreflight(()), id="answer-nothing-in-common"
        ),
        pytest.param("public", PUBLIC, Allow(ANONYMOUS, Reason.PUBLIC), id="public"),
        pytest.param(
            "public", route(Access.PUBLIC, preflight="answer"), Allow(ANONYMOUS, Reason.PUBLIC), id="public-is-open"
        ),
        pytest.param(
            "pass", route(Access.FRESH, preflight="pass"), Allow(ANONYMOUS, Reason.PREFLIGHT), id="pass-fresh"
        ),
        pytest.param(
            "pass",
            route(preflight="pass", methods=frozenset({"GET"})),
            Allow(ANONYMOUS, Reason.PREFLIGHT),
            id="pass-asks-for-no-method",
        ),
    ],
)
def test_preflight(preflight: str, on: Route, expected: Decision) -> None:
    asked = facts(method="OPTIONS", **PROGRAM, **PREFLIGHT)
    assert judge(asked, on, None, Reason.NO_COOKIE) == expected


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "GET"}, id="not-options"),
        pytest.param({"origin": None}, id="no-origin"),
        pytest.param({"access_control_request_method": None}, id="no-method-asked-for"),
        pytest.param({"has_body": True}, id="body"),
        pytest.param({"cookie": "a=b"}, id="cookie"),
        pytest.param({"authorization": "Bearer x"}, id="authorization"),
    ],
)
def test_what_is_no_preflight_does_not_pass_as_one(changes: dict[str, Any]) -> None:
    asked = facts(**({"method": "OPTIONS", **PROGRAM, **PREFLIGHT} | changes))
    assert not is_preflight(asked)
    assert isinstance(judge(asked, route(preflight="pass"), None, Reason.NO_COOKIE), Deny)


@pytest.mark.parametrize(
    ("origin", "policy", "opens"),
    [
        pytest.param("https://app.test", POLICY, True, id="own-origin"),
        pytest.param("HTTPS://APP.TEST", POLICY, True, id="own-origin-in-capitals"),
        pytest.param("https://evil.test", POLICY, False, id="foreign-origin"),
        pytest.param("null", POLICY, False, id="null"),
        pytest.param("http://app.test", POLICY, False, id="other-scheme"),
        pytest.param(None, POLICY, True, id="no-origin"),
        pytest.param(None, Policy(0, websocket_no_origin=False), False, id="no-origin-refused"),
        pytest.param(
            "https://spa.test", Policy(0, websocket_origins=frozenset({"https://spa.test"})), True, id="listed"
        ),
        pytest.param("https://app.test", Policy(0, public_origin="https://public.test"), False, id="public-url-counts"),
    ],
)
@pytest.mark.parametrize("on", [SESSION, PRESENCE, OPTIONAL])
def test_websocket_origin_where_a_session_is_used(origin: str | None, policy: Policy, opens: bool, on: Route) -> None:
    asked = facts(is_websocket=True, origin=origin)
    decision = judge(asked, on, None if on is PRESENCE else LIVE, None, policy)
    if on is OPTIONAL:
        assert decision == (signed_in(LIVE, Reason.PUBLIC) if opens else Allow(ANONYMOUS, Reason.PUBLIC))
    elif opens:
        assert isinstance(decision, Allow)
    else:
        assert decision == Deny(403, Reason.FOREIGN_ORIGIN)


@pytest.mark.parametrize("on", [SESSION, FRESH, PRESENCE, OPTIONAL, GET_ONLY])
def test_origin_matters_to_websockets_alone(on: Route) -> None:
    for origin in ("https://evil.test", None):
        found = None if on is PRESENCE else LIVE
        plain = judge(facts(origin=origin), on, found, None, Policy(0, websocket_no_origin=False))
        assert plain == judge(facts(), on, found)
        assert isinstance(plain, Allow)


def test_foreign_websocket_on_a_public_route_without_identity_is_open() -> None:
    asked = facts(is_websocket=True, origin="https://evil.test")
    assert judge(asked, PUBLIC) == Allow(ANONYMOUS, Reason.PUBLIC)


def test_websocket_origin_comes_before_method_and_condition() -> None:
    strict = route(Access.FRESH, methods=frozenset({"POST"}), require=Require(two_factor=True))
    asked = facts(is_websocket=True, origin="https://evil.test")
    assert judge(asked, strict, OLD) == Deny(403, Reason.FOREIGN_ORIGIN)
    assert judge(asked, strict, DEAD) == Deny(401, Reason.SESSION_EXPIRED, return_to="/dashboard")


def test_websocket_of_a_dead_store_is_503_whatever_its_origin() -> None:
    for origin in ("https://evil.test", "https://app.test", None):
        asked = facts(is_websocket=True, origin=origin)
        assert judge(asked, SESSION, None, Reason.STORE_UNAVAILABLE) == Deny(
            503, Reason.STORE_UNAVAILABLE, retry_after=5
        )


def test_foreign_websocket_is_anonymous_where_identity_is_optional_even_with_a_dead_store() -> None:
    asked = facts(is_websocket=True, origin="https://evil.test")
    assert judge(asked, OPTIONAL, None, Reason.STORE_UNAVAILABLE) == Allow(ANONYMOUS, Reason.PUBLIC)


def test_websocket_without_a_session_is_401_and_never_a_redirect() -> None:
    asked = facts(is_websocket=True, origin="https://evil.test", sec_fetch_mode="websocket")
    assert judge(asked, SESSION, None, Reason.NO_COOKIE) == Deny(401, Reason.NO_COOKIE, return_to="/dashboard")


@pytest.mark.parametrize(
    ("changes", "page"),
    [
        pytest.param({"sec_fetch_mode": "navigate", "accept": "*/*"}, True, id="navigate-outranks-accept"),
        pytest.param({"sec_fetch_mode": "cors", "accept": "text/html"}, False, id="fetch-outranks-accept"),
        pytest.param({"sec_fetch_mode": "no-cors"}, False, id="image"),
        pytest.param({"sec_fetch_mode": "navigate", "is_websocket": True}, False, id="websocket"),
        pytest.param({"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, True, id="browser"),
        pytest.param({"accept": "*/*"}, False, id="curl"),
        pytest.param({"accept": None}, False, id="no-accept"),
        pytest.param({"accept": ""}, False, id="empty"),
        pytest.param({"accept": "application/json"}, False, id="json"),
        pytest.param({"accept": "text/html;q=0.9, application/json"}, False, id="json-preferred"),
        pytest.param({"accept": "text/html, application/json;q=0.9"}, True, id="html-preferred"),
        pytest.param({"accept": "text/html, application/json"}, True, id="alike"),
        pytest.param({"accept": "text/html;q=0.5, */*;q=0.8"}, False, id="anything-preferred"),
        pytest.param({"accept": "text/html;q=0.5, application/*;q=0.8, */*;q=0.1"}, False, id="application-preferred"),
        pytest.param({"accept": "text/html;q=0.5, application/json;q=0.1, */*"}, True, id="specific-range-counts"),
        pytest.param({"accept": "text/html;q=0"}, False, id="html-refused"),
        pytest.param({"accept": "text/html;q=1, application/json"}, True, id="one-is-the-default"),
        pytest.param({"accept": "text/html;level=0;v=x"}, True, id="only-q-is-a-quality"),
        pytest.param({"accept": "text/html;q=0.001"}, True, id="html-hardly-wanted"),
        pytest.param({"accept": "text/html;q=0.5, text/*;q=0.9"}, True, id="other-text-is-no-json"),
        pytest.param({"accept": "*/*, application/json;q=0.4, text/html;q=0.4"}, True, id="whatever-the-order"),
        pytest.param({"accept": ",,text/html,"}, True, id="empty-ranges"),
        pytest.param({"accept": "text/htmlx, xtext/html"}, False, id="names-alike"),
        pytest.param({"sec_fetch_mode": "", "accept": "text/html"}, False, id="empty-mode-is-a-mode"),
        pytest.param({"accept": "text/html;q=x"}, False, id="broken-quality"),
        pytest.param({"accept": "text/html;q=2"}, False, id="quality-over-one"),
        pytest.param({"accept": "text/html;q=1.2"}, False, id="quality-just-over-one"),
        pytest.param({"accept": "text/html;q=1=1"}, False, id="quality-with-more-to-it"),
        pytest.param({"accept": "text/html;q=-1"}, False, id="quality-below-zero"),
        pytest.param({"accept": "text/html;q=nan"}, False, id="quality-is-no-number"),
        pytest.param({"accept": "TEXT/HTML ; level=1 ; Q=1"}, True, id="case-and-parameters"),
        pytest.param({"accept": "text/html;q=0, text/html"}, True, id="named-twice"),
        pytest.param({"accept": "text/plain"}, False, id="other"),
    ],
)
def test_wants_page(changes: dict[str, Any], page: bool) -> None:
    assert wants_page(facts(**changes)) is page


@pytest.mark.parametrize(
    ("on", "needs"),
    [(PUBLIC, False), (OPTIONAL, True), (PRESENCE, False), (SESSION, True), (FRESH, True), (ADMIN, True)],
)
def test_needs_session(on: Route, needs: bool) -> None:
    assert needs_session(on) is needs


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        pytest.param(PUBLIC, Allow(ANONYMOUS, Reason.PUBLIC), id="public-outranks-it"),
        pytest.param(route(preflight="pass"), Allow(ANONYMOUS, Reason.PREFLIGHT), id="preflight-outranks-it"),
        pytest.param(route(preflight="answer"), AnswerPreflight(USUAL), id="so-does-our-answer"),
        pytest.param(
            route(methods=frozenset({"GET"})), Deny(503, Reason.STORE_UNAVAILABLE, retry_after=5), id="outranks-method"
        ),
        pytest.param(
            route(Access.PRESENCE, require=Require(email_verified=True)),
            Deny(503, Reason.STORE_UNAVAILABLE, retry_after=5),
            id="presence-with-a-condition",
        ),
    ],
)
def test_what_a_dead_store_outranks(on: Route, expected: Decision) -> None:
    asked = facts(method="OPTIONS", **PREFLIGHT)
    assert judge(asked, on, None, Reason.STORE_UNAVAILABLE) == expected


def test_a_live_record_outranks_what_is_said_to_be_missing() -> None:
    assert judge(facts(), SESSION, LIVE, Reason.STORE_UNAVAILABLE) == signed_in(LIVE)
    assert judge(facts(), SESSION, DEAD, Reason.STORE_UNAVAILABLE) == SignIn(307, "/dashboard", Reason.SESSION_EXPIRED)


def test_loop_page_is_for_pages_and_counts_dead_sessions_too() -> None:
    cookie = redirects_cookie(None, "/dashboard", 2, NOW_MS, secure=False).partition(";")[0]
    assert judge(facts(cookie=cookie, **PROGRAM), SESSION, None, Reason.NO_COOKIE) == Deny(
        401, Reason.NO_COOKIE, return_to="/dashboard"
    )
    assert judge(facts(cookie=cookie), SESSION, DEAD) == Deny(
        401, Reason.SIGN_IN_LOOP, return_to="/dashboard", cause=Reason.SESSION_EXPIRED
    )
    assert judge(facts(cookie=cookie), SESSION, LIVE) == signed_in(LIVE)
    assert judge(facts(cookie=cookie), SESSION, None, Reason.STORE_UNAVAILABLE) == Deny(
        503, Reason.STORE_UNAVAILABLE, retry_after=5
    )
    on_the_dot = decide(facts(cookie=cookie), SESSION, None, Reason.NO_COOKIE, POLICY, now_ms=NOW_MS + 30_000)
    assert on_the_dot == Deny(401, Reason.SIGN_IN_LOOP, return_to="/dashboard", cause=Reason.NO_COOKIE)


def test_fresh_age_of_zero_turns_the_check_off() -> None:
    assert judge(facts(), FRESH, OLD, None, Policy(0)) == signed_in(OLD)


MISSING = st.sampled_from(
    [Reason.NO_COOKIE, Reason.BAD_SIGNATURE, Reason.SESSION_UNKNOWN, Reason.STORE_UNAVAILABLE, None]
)
RECORDS = st.one_of(
    st.none(),
    st.builds(
        lambda expires, created, banned: record(
            {"expires_at_ms": NOW_MS + expires, "created_at_ms": NOW_MS + created}, banned=banned
        ),
        st.integers(-2, 2),
        st.integers(-2 * 86_400_000, 0),
        st.booleans(),
    ),
)
ROUTES = st.builds(
    route,
    st.sampled_from(list(Access)),
    identity=st.sampled_from(["none", "optional"]),
    require=st.builds(Require, email_verified=st.booleans(), two_factor=st.booleans()),
    methods=st.none() | st.just(frozenset({"GET"})),
    preflight=st.sampled_from(["deny", "pass", "answer"]),
)
FACTS = st.builds(
    facts,
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "TRACE"]),
    accept=st.sampled_from(["text/html", "*/*", None]),
    sec_fetch_mode=st.sampled_from(["navigate", "cors", None]),
    origin=st.sampled_from(["https://app.test", "https://evil.test", None]),
    access_control_request_method=st.sampled_from(["GET", None]),
    is_websocket=st.booleans(),
    has_body=st.booleans(),
)


def is_live(found: SessionRecord | None) -> bool:
    return found is not None and found.session.expires_at_ms >= NOW_MS and not found.user.banned


@given(FACTS, ROUTES, RECORDS, MISSING)
def test_law_nobody_passes_a_protected_route_without_a_live_session(
    asked: RequestFacts, on: Route, found: SessionRecord | None, missing: Reason | None
) -> None:
    decision = judge(asked, on, found, None if found else missing)
    if isinstance(decision, Allow) and on.access in (Access.SESSION, Access.FRESH):
        assert is_live(found) or (decision.reason is Reason.PREFLIGHT and decision.identity is ANONYMOUS)
    if isinstance(decision, Allow) and decision.identity.status is AuthStatus.AUTHENTICATED:
        assert is_live(found)
        assert decision.identity.record is found


@given(FACTS, ROUTES)
def test_law_a_store_that_is_away_signs_nobody_out(asked: RequestFacts, on: Route) -> None:
    decision = judge(asked, on, None, Reason.STORE_UNAVAILABLE)
    assert not isinstance(decision, SignIn)
    assert not (isinstance(decision, Deny) and decision.status == 401)


@given(FACTS, ROUTES, RECORDS, MISSING)
def test_law_an_answer_says_no_more_than_its_kind_has(
    asked: RequestFacts, on: Route, found: SessionRecord | None, missing: Reason | None
) -> None:
    decision = judge(asked, on, found, missing)
    if isinstance(decision, Deny):
        assert decision.status in {401, 403, 405, 503}
        assert (decision.return_to is not None) == (decision.status == 401)
        assert bool(decision.allow) == (decision.status == 405)
        assert (decision.retry_after is not None) == (decision.status == 503)
        assert (decision.cause is not None) == (decision.reason is Reason.SIGN_IN_LOOP)
    if isinstance(decision, SignIn):
        assert (decision.status == 307) == (asked.method in {"GET", "HEAD"})


@given(FACTS, ROUTES, RECORDS, MISSING)
def test_law_head_is_judged_like_get(
    asked: RequestFacts, on: Route, found: SessionRecord | None, missing: Reason | None
) -> None:
    get, head = (msgspec.structs.replace(asked, method=method) for method in ("GET", "HEAD"))
    assert judge(get, on, found, missing) == judge(head, on, found, missing)


@given(FACTS, ROUTES, RECORDS, MISSING)
def test_law_a_redirect_stays_here_and_is_for_pages(
    asked: RequestFacts, on: Route, found: SessionRecord | None, missing: Reason | None
) -> None:
    decision = judge(asked, on, found, missing)
    if isinstance(decision, SignIn):
        assert wants_page(asked)
        assert decision.return_to.startswith("/")
        assert not decision.return_to.startswith("//")
