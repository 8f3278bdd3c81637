"""What a request without a user gets: the same as from the gate, and never a redirect that runs in a circle."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.decide import wants_page
from gatekeeper.core.model import Deny, RequestFacts, SignIn, Target
from gatekeeper.core.model import Reason as GateReason
from gatekeeper.core.urls import callback_for, callback_from_referer, is_on_origin, parse_target
from gatekeeper.integrations.guard import refusal
from gatekeeper.integrations.model import Answer, Reason, Request
from gatekeeper.server import pages
from tests.integrations.gate import ISSUER

NAVIGATION = {"sec-fetch-mode": "navigate"}
SIGNED_OUT = Reason.MISSING


def asked(method: str = "GET", target: str = "/dashboard", **headers: str) -> Request:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, target, lambda name: [sent[name]] if name in sent else [])


def refused(request: Request, reason: Reason = SIGNED_OUT, sign_in: str = "/sign-in") -> Answer:
    return refusal(request, reason, sign_in=sign_in, own_origin=ISSUER)


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "sec-fetch-mode": st.sampled_from(["navigate", "cors", ""]),
        "accept": st.sampled_from(
            ["text/html", "*/*", "application/json", "text/html;q=0.5, */*;q=0.8", "text/html;q=x"]
        ),
        "referer": st.sampled_from([f"{ISSUER}/form?a=1#b", f"{ISSUER}", f"{ISSUER}/x?#y", "https://evil.test/form"]),
        "upgrade": st.sampled_from(["websocket", "WebSocket", "h2c"]),
    },
)
TARGETS = [
    "/dashboard",
    "/",
    "/dashboard?tab=1&x=%20y",
    "/a%20b?",
    "/%2Fevil.test",
    "/x?u=//evil.test",
    "/x?" + "a" * 3000,
    "/" + "a" * 3000,
    "/x?a=%0d%0a",
]


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
    st.sampled_from(TARGETS),
    HEADERS,
    st.sampled_from(["/sign-in", "/sign-in?x=1", "https://login.example.com/in"]),
)
def test_law_a_signed_out_request_gets_what_the_gate_answers(
    method: str, raw: str, headers: dict[str, str], sign_in: str
) -> None:
    target = parse_target("GET", raw)
    assert isinstance(target, Target)
    facts = RequestFacts(
        method=method,
        target=target,
        scheme="https",
        host="app.example.com",
        client_address="192.0.2.1",
        accept=headers.get("accept"),
        sec_fetch_mode=headers.get("sec-fetch-mode"),
        is_websocket=headers.get("upgrade", "").lower() == "websocket",
    )
    referer = headers.get("referer")
    way_back = callback_for(target)
    if method not in ("GET", "HEAD") and referer is not None and is_on_origin(referer, ISSUER):
        way_back = callback_from_referer(referer, ISSUER)
    page = wants_page(facts)
    status = 307 if method in ("GET", "HEAD") else 303
    decision = SignIn(status, way_back, GateReason.NO_COOKIE) if page else Deny(401, GateReason.NO_COOKIE, way_back)
    theirs = pages.answer(decision, facts, pages.PageSettings(sign_in, ISSUER), now_ms=0)
    ours = refused(Request(method, raw, lambda name: [headers[name]] if name in headers else []), sign_in=sign_in)
    kept = [(name.decode(), value.decode()) for name, value in theirs.headers if name != b"Set-Cookie"]
    assert (ours.status, list(ours.headers)) == (theirs.status, kept)
    assert ours.body == theirs.body.replace(b"NO_COOKIE", b"ASSERTION_MISSING")


def test_a_signed_out_program_reads_where_to_sign_in() -> None:
    answer = refused(asked(accept="application/json"))
    assert answer.status == 401
    assert json.loads(answer.body) == {
        "error": "Unauthorized",
        "code": "ASSERTION_MISSING",
        "signInUrl": "/sign-in?callbackUrl=%2Fdashboard",
    }


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.MISSING, Reason.KEYS_UNAVAILABLE}))
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_has_a_refused_assertion_is_not_led_in_a_circle(reason: Reason, method: str) -> None:
    for headers in (NAVIGATION, {"accept": "text/html"}, {}):
        answer = refused(Request(method, "/x", lambda name, sent=headers: [sent[name]] if name in sent else []), reason)
        assert answer.status == 401
        assert "Location" not in dict(answer.headers)
        assert f"ASSERTION_{reason}".encode() in answer.body


def test_nor_is_who_the_gate_knows_without_saying_so_in_an_assertion() -> None:
    answer = refused(asked(sec_fetch_mode="navigate", x_auth_status="authenticated"))
    assert (answer.status, "Location" in dict(answer.headers)) == (401, False)
    assert refused(asked(sec_fetch_mode="navigate", x_auth_status="anonymous")).status == 307


@pytest.mark.parametrize(
    ("request_", "reason", "code"),
    [
        (asked(x_auth_status="unknown"), Reason.MISSING, "STORE_UNAVAILABLE"),
        (asked(), Reason.KEYS_UNAVAILABLE, "ASSERTION_KEYS_UNAVAILABLE"),
    ],
)
def test_what_cannot_be_told_is_503(request_: Request, reason: Reason, code: str) -> None:
    answer = refused(request_, reason)
    assert (answer.status, dict(answer.headers)["Retry-After"]) == (503, "5")
    assert json.loads(answer.body) == {"error": "Service Unavailable", "code": code}


def test_so_it_is_for_persons() -> None:
    for request in (asked(x_auth_status="unknown", accept="text/html"), asked(sec_fetch_mode="navigate")):
        reason = Reason.MISSING if request.header("x-auth-status") else Reason.KEYS_UNAVAILABLE
        answer = refused(request, reason)
        assert (answer.status, dict(answer.headers)["Content-Type"]) == (503, "text/html; charset=utf-8")
        assert dict(answer.headers)["Retry-After"] == "5"


def test_a_form_of_an_odd_page_leads_home() -> None:
    answer = refused(asked("POST", "/save", sec_fetch_mode="navigate", referer=f"{ISSUER}//evil.test"))
    assert (answer.status, dict(answer.headers)["Location"]) == (303, "/sign-in?callbackUrl=%2F")


def test_a_status_does_not_excuse_a_refused_assertion() -> None:
    assert refused(asked(x_auth_status="unknown"), Reason.EXPIRED).status == 401


ODD = st.lists(
    st.sampled_from(["/", "\\", "..", "%2f", "%5c", "\r\n", " ", "x", "?", "#", "@evil.test", "é", '"', "<"]),
    max_size=8,
)


@settings(deadline=None)
@given(ODD.map("".join) | ODD.map("".join).map("/".__add__), st.sampled_from(["GET", "POST"]))
def test_law_no_target_splits_a_header_or_leaves_the_origin(target: str, method: str) -> None:
    answer = refused(asked(method, target, sec_fetch_mode="navigate", referer=ISSUER + target))
    location = dict(answer.headers)["Location"]
    assert location.isascii()
    assert location.isprintable()
    parts = urlsplit(location)
    way_back = parse_qs(parts.query)["callbackUrl"][0]
    assert (parts.scheme, parts.netloc, parts.path) == ("", "", "/sign-in")
    assert way_back.startswith("/")
    assert not way_back.startswith(("//", "/\\"))
    assert answer.body.count(b"<") == refused(asked(sec_fetch_mode="navigate")).body.count(b"<")
