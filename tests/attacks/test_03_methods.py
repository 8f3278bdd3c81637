"""Class 3: a method or a preflight that is let past the session check."""

import pytest

from tests.attacks.site import LAST, SIGNED_IN, Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
trusted_origins: ['https://spa.example.test']
protect:
  - /dashboard
  - {{path: /listed, methods: [GET, POST]}}
  - {{path: /passed, preflight: pass, methods: [GET]}}
  - {{path: /answered, preflight: answer}}
  - {{path: /passed/inside, preflight: deny}}
"""

KNOWN = [
    *("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PROPPATCH", "MKCOL"),
    *(
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "SEARCH",
        "BIND",
        "REBIND",
        "UNBIND",
        "ACL",
        "REPORT",
        "MKACTIVITY",
        "CHECKOUT",
    ),
    *(
        "MERGE",
        "M-SEARCH",
        "NOTIFY",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "PURGE",
        "MKCALENDAR",
        "LINK",
        "UNLINK",
        "SOURCE",
        "QUERY",
    ),
    *(
        "PRI",
        "DESCRIBE",
        "ANNOUNCE",
        "SETUP",
        "PLAY",
        "PAUSE",
        "TEARDOWN",
        "FLUSH",
        "RECORD",
        "GET_PARAMETER",
        "REDIRECT",
    ),
]
ODD = [
    *(
        "get",
        "Get",
        "GETT",
        "GE",
        "G ET",
        " GET",
        "GET\t",
        "\tGET",
        "GET\0",
        "",
        "GET/",
        "GET,POST",
        "GET;x",
        "G\xcbT",
    ),
    *("POST\x0b", "POST\x85", "OPTIONS*", "[GET]", "X" * 40, "TRACE\r", "%47ET", '"GET"', "GET:"),
]
PREFLIGHT = ("Origin: https://spa.example.test", "Access-Control-Request-Method: PUT")


@pytest.mark.parametrize("method", KNOWN)
async def test_no_method_gets_past_the_check(site: Site, method: str) -> None:
    for extra in ((), ("Content-Length: 0",), ("Origin: https://evil.test",), PREFLIGHT):
        for target in ("/dashboard", "/listed/x", "//dashboard;x"):
            answer = await site.ask(method, target, *extra)
            assert 400 <= answer.status < 500, (method, target)
    assert site.reached == []


@pytest.mark.parametrize("method", ODD, ids=ascii)
async def test_an_odd_method_is_refused(site: Site, method: str) -> None:
    for target in ("/dashboard", "/open"):
        raw = f"{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode("latin-1")
        answers = await site.say(raw)
        assert [answer.status for answer in answers if answer.status not in (400, 505)] == []
    assert site.reached == []


async def test_blanks_in_the_request_line_hide_nothing(site: Site) -> None:
    for line in ("GET  {} HTTP/1.1", "GET {}  HTTP/1.1", "GET\t{} HTTP/1.1", "GET {}\tHTTP/1.1", "GET {} HTTP/1.1 "):
        for target in ("/dashboard", "/open"):
            raw = f"{line.format(target)}\r\nHost: h\r\nConnection: close\r\n\r\n"
            statuses = [answer.status for answer in await site.say(raw)]
            assert statuses in ([400], [401], [200]), (line, target)
    assert set(site.reached) <= {"/open"}


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
async def test_what_reflects_or_tunnels_is_refused_even_with_a_session(site: Site, method: str) -> None:
    for target in ("/dashboard", "/open", "/.gatekeeper/whoami"):
        answer = await site.ask(method, target, SIGNED_IN)
        assert answer.status in (400, 405)
        assert b"SiteSite" not in answer.body
    assert site.reached == []


async def test_head_is_judged_like_get_and_has_no_body(site: Site) -> None:
    for target, lines, status in (
        ("/dashboard", (), 401),
        ("/dashboard", ("Accept: text/html",), 307),
        ("/listed", (SIGNED_IN,), 200),
        ("/open", (), 200),
    ):
        conversation = await site.open()
        fields = "".join(f"{line}\r\n" for line in lines)
        conversation.send(f"HEAD {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode() + LAST)
        first, last = await conversation.end(to_head=True)
        assert (first.status, first.body) == (status, b"")
        assert last.status == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param(PREFLIGHT, 200, id="as-browsers-send-it"),
        pytest.param(PREFLIGHT[:1], 401, id="without-a-method"),
        pytest.param(PREFLIGHT[1:], 401, id="without-an-origin"),
        pytest.param((*PREFLIGHT, "Cookie: a=b"), 401, id="with-a-cookie"),
        pytest.param((*PREFLIGHT, "Cookie:"), 401, id="with-an-empty-cookie"),
        pytest.param((*PREFLIGHT, "Authorization: Basic eDp5"), 401, id="with-credentials"),
        pytest.param((*PREFLIGHT, "Content-Length: 1"), 401, id="with-a-body"),
        pytest.param((*PREFLIGHT, "Transfer-Encoding: chunked"), 401, id="with-a-chunked-body"),
        pytest.param((*PREFLIGHT, "Content-Length: 0"), 200, id="with-an-empty-body"),
        pytest.param(("Origin_: x", "Access_Control_Request_Method: PUT"), 401, id="other-spellings"),
        pytest.param(("Origin: null", PREFLIGHT[1]), 200, id="of-a-null-origin-it-tells-nothing-either"),
    ],
)
async def test_only_a_true_preflight_passes_and_as_nobody(site: Site, lines: tuple[str, ...], status: int) -> None:
    conversation = await site.open()
    fields = "".join(f"{line}\r\n" for line in (*lines, "X-Auth-User-Id: forged", "Connection: close"))
    conversation.send(f"OPTIONS /passed/x HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    (answer,) = await conversation.end()
    assert answer.status == status
    assert (site.reached != []) is (status == 200)
    for request in site.upstream.requests:
        assert [(n, v) for n, v in request.headers if n.lower().startswith("x-auth")] == [
            ("X-Auth-Status", "anonymous")
        ]
        assert request.values("cookie") == request.values("authorization") == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PROPFIND"])
async def test_preflight_headers_on_another_method_pass_nothing(site: Site, method: str) -> None:
    for target in ("/passed", "/answered"):
        assert (await site.ask(method, target, *PREFLIGHT)).status == 401
    assert site.reached == []


@pytest.mark.parametrize(
    ("target", "origin", "status"),
    [
        ("/answered", "https://spa.example.test", 204),
        ("/answered", "https://spa.example.test.evil.test", 403),
        ("/answered", "https://spa.example.test:443", 403),
        ("/answered", "https://SPA.example.test", 403),
        ("/answered", "null", 403),
        ("/answered/../dashboard", "https://spa.example.test", 401),
        ("/answered/%2e%2e/passed/inside", "https://spa.example.test", 401),
        ("/passed/inside", "https://spa.example.test", 401),
        ("/PASSED/inside;x", "https://spa.example.test", 401),
    ],
)
async def test_whose_preflight_is_answered(site: Site, target: str, origin: str, status: int) -> None:
    answer = await site.ask("OPTIONS", target, f"Origin: {origin}", "Access-Control-Request-Method: GET")
    assert answer.status == status
    allowed = answer.values(b"access-control-allow-origin")
    assert allowed in ([], [b"https://spa.example.test"])
    assert (allowed == [b"https://spa.example.test"]) is (origin == "https://spa.example.test")
    assert site.reached == []


@pytest.mark.parametrize(
    "line",
    [
        *(
            "X-HTTP-Method-Override: DELETE",
            "X-Http-Method: DELETE",
            "X_Method_Override: DELETE",
            "x-http_method.override: DELETE",
        ),
    ],
)
async def test_a_listed_method_cannot_be_overridden(site: Site, line: str) -> None:
    answer = await site.ask("POST", "/listed", SIGNED_IN, line, body=b"x")
    assert answer.status == 200
    assert b"DELETE" not in site.received.head
    assert (await site.ask("DELETE", "/listed", SIGNED_IN, "X-HTTP-Method-Override: GET")).status == 405


@pytest.mark.parametrize("method", ["DELETE", "PUT", "OPTIONS", "PROPFIND", "PURGE"])
async def test_what_a_rule_does_not_list_is_refused_after_the_session_check(site: Site, method: str) -> None:
    assert (await site.ask(method, "/listed")).status == 401
    refused = await site.ask(method, "/listed/%2e/x", SIGNED_IN)
    assert (refused.status, refused.values(b"allow")) == (405, [b"GET, POST"])
    assert site.reached == []
