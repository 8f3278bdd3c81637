"""Where account calls come from, and where they may lead to."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.model import RequestFacts, Target
from gatekeeper.server.auth_call import AuthRequest
from gatekeeper.server.auth_origins import (
    callback_fault,
    form_origin_fault,
    is_trusted_target,
    link_fault,
    origin_fault,
)
from gatekeeper.server.auth_refusals import (
    CROSS_SITE_SIGN_IN,
    INVALID_CALLBACK,
    INVALID_ORIGIN,
    NO_ORIGIN,
    Refusal,
)

OWN = "https://app.example.test"
TRUSTED = frozenset({"https://friend.example.test:8443", "http://127.0.0.1:3000"})


def asked(dest: str | None = None, **facts: Any) -> AuthRequest:
    target = Target("/api/auth/sign-out", None, (), ())
    return AuthRequest(RequestFacts("POST", target, "https", "app.example.test", "", **facts), OWN, sec_fetch_dest=dest)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({}, None, id="no-cookie-is-not-asked"),
        pytest.param({"origin": "https://evil.test"}, None, id="no-cookie-foreign-origin"),
        pytest.param({"cookie": "a=b"}, NO_ORIGIN, id="any-cookie-is"),
        pytest.param({"cookie": ""}, NO_ORIGIN, id="an-empty-cookie-header-is"),
        pytest.param({"cookie": "a=b", "origin": ""}, NO_ORIGIN, id="empty-origin"),
        pytest.param({"cookie": "a=b", "origin": "null"}, NO_ORIGIN, id="null"),
        pytest.param({"cookie": "a=b", "origin": "null", "sec_fetch_site": "same-origin"}, None, id="null-same-origin"),
        pytest.param(
            {"cookie": "a=b", "origin": "null", "sec_fetch_site": "same-site"}, NO_ORIGIN, id="null-same-site"
        ),
        pytest.param({"cookie": "a=b", "origin": OWN}, None, id="own"),
        pytest.param({"cookie": "a=b", "origin": OWN.upper() + "/"}, None, id="own-spelt-otherwise"),
        pytest.param({"cookie": "a=b", "origin": OWN + ":443"}, None, id="own-with-its-port"),
        pytest.param({"cookie": "a=b", "origin": OWN + ":444"}, INVALID_ORIGIN, id="other-port"),
        pytest.param({"cookie": "a=b", "origin": "http://app.example.test"}, INVALID_ORIGIN, id="other-scheme"),
        pytest.param({"cookie": "a=b", "referer": OWN + "/page"}, None, id="referer-stands-in"),
        pytest.param({"cookie": "a=b", "origin": "", "referer": OWN + "/page"}, None, id="referer-for-an-empty-origin"),
        pytest.param({"cookie": "a=b", "origin": "https://evil.test", "referer": OWN}, INVALID_ORIGIN, id="not-beside"),
        pytest.param({"cookie": "a=b", "referer": "/page"}, INVALID_ORIGIN, id="a-path-is-no-origin"),
        pytest.param({"cookie": "a=b", "origin": "https://friend.example.test:8443"}, None, id="trusted"),
        pytest.param({"cookie": "a=b", "origin": "https://friend.example.test"}, INVALID_ORIGIN, id="trusted-no-port"),
        pytest.param({"cookie": "a=b", "origin": OWN + ".evil.test"}, INVALID_ORIGIN, id="suffix"),
        pytest.param({"cookie": "a=b", "origin": OWN + "@evil.test"}, INVALID_ORIGIN, id="user-name"),
        pytest.param(
            {"cookie": "a=b", "origin": "https://evil.test\\@app.example.test"}, INVALID_ORIGIN, id="backslash"
        ),
    ],
)
def test_origin_of_a_change(facts: dict[str, str], expected: Refusal | None) -> None:
    assert origin_fault(asked(**facts), TRUSTED) == expected


@pytest.mark.parametrize(
    ("facts", "dest", "expected"),
    [
        pytest.param({}, None, None, id="a-program"),
        pytest.param({"origin": "https://evil.test"}, None, INVALID_ORIGIN, id="foreign-origin"),
        pytest.param({"referer": "https://evil.test/x"}, None, INVALID_ORIGIN, id="foreign-referer"),
        pytest.param({"origin": OWN}, None, None, id="own"),
        pytest.param({"sec_fetch_site": "same-origin"}, None, NO_ORIGIN, id="a-browser-without-origin"),
        pytest.param({}, "document", NO_ORIGIN, id="a-browser-by-its-dest"),
        pytest.param({"sec_fetch_mode": " "}, None, None, id="blank-metadata-is-none"),
        pytest.param(
            {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "origin": OWN},
            None,
            CROSS_SITE_SIGN_IN,
            id="cross-site-form",
        ),
        pytest.param({"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors", "origin": OWN}, None, None, id="cors"),
        pytest.param({"cookie": "a=b", "origin": OWN, "sec_fetch_site": "same-origin"}, None, None, id="with-a-cookie"),
        pytest.param({"cookie": "a=b"}, None, NO_ORIGIN, id="with-a-cookie-no-origin"),
    ],
)
def test_origin_of_a_sign_in(facts: dict[str, str], dest: str | None, expected: Refusal | None) -> None:
    assert form_origin_fault(asked(dest, **facts), TRUSTED) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("/", True, id="root"),
        pytest.param("/a?next=//evil.test#%2f", True, id="query-and-fragment-say-nothing"),
        pytest.param("/a/b%20c", True, id="escape"),
        pytest.param("//evil.test", False, id="scheme-relative"),
        pytest.param("/\\evil.test", False, id="backslash"),
        pytest.param("/a\\b", False, id="backslash-inside"),
        pytest.param("/%2Fevil.test", False, id="escaped-slash"),
        pytest.param("/%5cevil.test", False, id="escaped-backslash"),
        pytest.param("/\tevil", False, id="tab"),
        pytest.param("/a\x85b", False, id="c1-control"),
        pytest.param("relative", False, id="relative"),
        pytest.param(" /x", False, id="blank-first"),
        pytest.param(OWN, True, id="own"),
        pytest.param(OWN + "?x", True, id="own-with-query"),
        pytest.param(OWN + "/x y", False, id="blank-inside"),
        pytest.param(OWN.replace("//", "/"), False, id="one-slash"),
        pytest.param(OWN.replace("//", "///"), False, id="three-slashes"),
        pytest.param("https://evil.test#@app.example.test", False, id="fragment-before-at"),
        pytest.param("https://evil.test\\@app.example.test", False, id="backslash-as-slash"),
        pytest.param("https://user@app.example.test/", False, id="user-name"),
        pytest.param("https:app.example.test", False, id="no-slashes"),
        pytest.param("https://app.example.test:bad/", False, id="no-port"),
        pytest.param("javascript:alert(1)", False, id="script"),
        pytest.param("http://127.0.0.1:3000/x", True, id="trusted"),
        pytest.param("http://127.0.0.1:3001/x", False, id="trusted-other-port"),
    ],
)
def test_targets(url: str, expected: bool) -> None:
    assert is_trusted_target(url, asked(), TRUSTED) is expected


@given(
    st.text(alphabet=st.sampled_from("htps:/\\@?#.ape%25[]\t\n x1"), max_size=30),
    st.sampled_from(["", OWN, "https://"]),
)
def test_what_is_trusted_leads_to_a_trusted_host(text: str, start: str) -> None:
    """As a browser reads it: a backslash is a slash there, tabs and line ends are none."""
    url = start + text
    if not is_trusted_target(url, asked(), TRUSTED):
        return
    read = url.strip("".join(map(chr, range(33)))).replace("\t", "").replace("\n", "").replace("\\", "/")
    if read.startswith("/"):
        assert not read.startswith("//")
    else:
        parts = urlsplit(read)
        assert (parts.hostname, parts.port or 443) in (("app.example.test", 443), ("127.0.0.1", 3000))


@pytest.mark.parametrize(
    ("body", "query", "expected"),
    [
        pytest.param({}, {}, None, id="nothing"),
        pytest.param([], {"callbackURL": "https://evil.test"}, INVALID_CALLBACK, id="in-the-query"),
        pytest.param({"callbackURL": "/ok"}, {"callbackURL": "https://evil.test"}, None, id="the-body-s-counts"),
        pytest.param({"callbackURL": 0}, {}, None, id="what-is-false-is-none"),
        pytest.param({"callbackURL": ""}, {"callbackURL": "//x"}, INVALID_CALLBACK, id="empty-is-none"),
        pytest.param({"callbackURL": []}, {}, Refusal(400, "Invalid callbackURL: expected a string"), id="list"),
        pytest.param(
            {}, {"callbackURL": ["/a", "/b"]}, Refusal(400, "Invalid callbackURL: expected a string"), id="two"
        ),
        pytest.param(
            {"redirectTo": "//x"}, {}, Refusal(403, "Invalid redirectURL", "INVALID_REDIRECT_URL"), id="redirectTo"
        ),
        pytest.param({}, {"redirectTo": "//x"}, None, id="only-callbackURL-in-the-query"),
        pytest.param(
            {"errorCallbackURL": "//x", "newUserCallbackURL": "//x"},
            {},
            Refusal(403, "Invalid errorCallbackURL", "INVALID_ERROR_CALLBACK_URL"),
            id="the-first",
        ),
    ],
)
def test_callbacks_of_a_change(body: Any, query: dict[str, str | list[str]], expected: Refusal | None) -> None:
    assert callback_fault(body, query, asked(), TRUSTED) == expected


def test_callback_of_a_link() -> None:
    assert link_fault({}, asked(), TRUSTED) is None
    assert link_fault({"callbackURL": ""}, asked(), TRUSTED) is None
    assert link_fault({"callbackURL": "/welcome"}, asked(), TRUSTED) is None
    assert link_fault({"callbackURL": "https://evil.test"}, asked(), TRUSTED) == INVALID_CALLBACK
