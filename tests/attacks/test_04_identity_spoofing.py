"""Class 4: a client that says itself who it is."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attacks.site import SIGNED_IN, USER_ID, Site
from tests.server.upstreams import Received

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard, {{path: /seen, access: presence}}, {{path: /passed, preflight: pass}}]
public: [{{path: /known, identity: optional}}]
"""
TCHARS = "!#$%&'*+-.^_`|~"
OURS = [
    "Status",
    "User-Id",
    "Email",
    "Email-Verified",
    "Session-Id",
    "Impersonated-By",
    "Organization-Id",
    "Roles",
    "Name",
]
MORE = ["Assertion", "Anything", "", "-", "X", "User", "Request-User", "a" * 100]


def identity_of(request: Received) -> list[tuple[str, str]]:
    """Everything that an app which folds names the lenient way would take for identity."""
    folded = [(re.sub("[^a-z0-9]", "-", name.lower()), value) for name, value in request.headers]
    return [(name, value) for name, value in folded if name.startswith(("x-auth-", "x-middleware-"))]


@pytest.mark.parametrize("separator", TCHARS)
async def test_every_separator_that_a_name_may_have(site: Site, separator: str) -> None:
    lines = [f"X{separator}Auth{separator}{name.replace('-', separator)}: forged" for name in OURS + MORE]
    lines += [f"x-AUTH{separator}{name}: forged" for name in OURS] + [
        f"X{separator}auth-{name}: forged" for name in OURS
    ]
    assert (await site.ask("GET", "/open", *lines)).status == 200
    assert (await site.ask("GET", "/dashboard", *lines, SIGNED_IN)).status == 200
    public, protected = site.upstream.requests
    assert identity_of(public) == [("x-auth-status", "anonymous")]
    assert dict(identity_of(protected))["x-auth-user-id"] == USER_ID
    names = [name for name, _ in identity_of(protected)]
    assert len(names) == len(set(names))
    assert b"forged" not in public.head + protected.head


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        pytest.param("/open", (), "anonymous", id="public"),
        pytest.param("/open", (SIGNED_IN,), "anonymous", id="public-with-a-session"),
        pytest.param("/known", (), "anonymous", id="optional"),
        pytest.param("/known", (SIGNED_IN,), "authenticated", id="optional-with-a-session"),
        pytest.param("/known", ("Cookie: better-auth.session_token=x",), "anonymous", id="optional-with-a-bad-cookie"),
        pytest.param("/seen", ("Cookie: better-auth.session_token=x",), "anonymous", id="presence"),
        pytest.param("/seen", (SIGNED_IN,), "anonymous", id="presence-with-a-session"),
        pytest.param("/dashboard", (SIGNED_IN,), "authenticated", id="protected"),
    ],
)
async def test_on_every_kind_of_rule(site: Site, target: str, lines: tuple[str, ...], status: str) -> None:
    forged = [f"X-Auth-{name}: forged" for name in OURS] + [f"x_auth_{name}: forged" for name in OURS]
    for method in ("GET", "POST", "HEAD", "OPTIONS", "PROPFIND"):
        await site.ask(method, target, *forged, *lines)
    assert len(site.upstream.requests) == 5
    for request in site.upstream.requests:
        assert b"forged" not in request.head
        assert request.values("x-auth-status") == [status]
        assert request.values("x-auth-user-id") == ([USER_ID] if status == "authenticated" else [])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("X-Auth-User-Id : forged", id="blank-before-the-colon"),
        pytest.param("X-Auth-User-Id\t: forged", id="tab-before-the-colon"),
        pytest.param(" X-Auth-User-Id: forged", id="blank-before-the-name"),
        pytest.param("\tX-Auth-User-Id: forged", id="tab-before-the-name"),
        pytest.param("X-Auth-User-Id\0: forged", id="nul-in-the-name"),
        pytest.param("X-Auth-User-Id\x0b: forged", id="vertical-tab-in-the-name"),
        pytest.param("X-Auth-User-Id\xa0: forged", id="latin-1-blank-in-the-name"),
        pytest.param("X-Auth-User\xadId: forged", id="soft-hyphen-in-the-name"),
        pytest.param("X-Auth(User)Id: forged", id="brackets-in-the-name"),
        pytest.param("X/Auth/User/Id: forged", id="slashes-in-the-name"),
        pytest.param("X-Auth User Id: forged", id="blanks-in-the-name"),
        pytest.param('"X-Auth-User-Id": forged', id="quotes-around-the-name"),
        pytest.param("X-Before: a\r\n X-Auth-User-Id: forged", id="folded"),
        pytest.param("X-Before: a\r\n\t\r\nX-Auth-User-Id: forged", id="folded-onto-nothing"),
        pytest.param("X-Before: a\rX-Auth-User-Id: forged", id="behind-a-bare-cr"),
        pytest.param("X-Before: a\nX-Auth-User-Id: forged", id="behind-a-bare-lf"),
        pytest.param("X-Before: a\r\r\nX-Auth-User-Id: forged", id="behind-a-double-cr"),
        pytest.param("X-Before: a\0\r\nX-Auth-User-Id: forged", id="behind-a-nul"),
        pytest.param("X-Before: a\x0b\x0c\x1c\x1d\x1eX-Auth-User-Id: forged", id="behind-separators-of-unicode"),
        pytest.param(":\r\nX-Auth-User-Id: forged", id="behind-an-empty-name"),
        pytest.param("X-Auth-User-Id", id="without-a-colon"),
        pytest.param("X-Auth-User-Id=forged", id="with-an-equals-sign"),
        pytest.param("X-Before\r\nX-Auth-User-Id: forged", id="behind-a-line-without-a-colon"),
    ],
)
async def test_a_malformed_line_is_a_malformed_request(site: Site, line: str) -> None:
    raw = f"GET /open HTTP/1.1\r\nHost: h\r\n{line}\r\nConnection: close\r\n\r\n".encode("latin-1")
    assert [answer.status for answer in await site.say(raw)] == [400]
    first = f"GET /open HTTP/1.1\r\n{line}\r\nHost: h\r\nConnection: close\r\n\r\n".encode("latin-1")
    assert [answer.status for answer in await site.say(first)] == [400]
    assert site.reached == []


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("3\r\nabc\r\n0\r\nX-Auth-User-Id: forged\r\nX_Auth_Status: forged\r\n\r\n", id="trailers"),
        pytest.param("3;X-Auth-User-Id=forged\r\nabc\r\n0;x=forged\r\n\r\n", id="chunk-extensions"),
        pytest.param('3;a="\\"forged"\r\nabc\r\n0\r\n\r\n', id="quoted-chunk-extension"),
    ],
)
async def test_nothing_of_a_chunked_coding_becomes_a_header(site: Site, rest: str) -> None:
    fields = f"{SIGNED_IN}\r\nTrailer: X-Auth-User-Id\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    await site.say(f"POST /dashboard HTTP/1.1\r\nHost: h\r\n{fields}\r\n{rest}")
    request = site.received
    assert (request.body, request.trailers) == (b"abc", b"")
    assert b"forged" not in request.head
    assert request.values("trailer") == []
    assert request.values("x-auth-user-id") == [USER_ID]


async def test_a_name_too_long_to_be_remembered_is_judged_all_the_same(site: Site) -> None:
    for length in (57, 58, 64, 65, 400):
        await site.ask("GET", "/open", f"X-Auth-{'a' * length}: forged", f"x_auth_{'B' * length}: forged")
    assert len(site.upstream.requests) == 5
    assert all(b"forged" not in request.head for request in site.upstream.requests)


async def test_names_that_only_look_like_ours_pass(site: Site) -> None:
    lines = ["X-Author: a", "X-Authority-Id: a", "Auth-User: a", "X-Auth: a", "XAuth-User-Id: a", "X--Auth-User-Id: a"]
    await site.ask("GET", "/open", *lines)
    assert all(line.encode() + b"\r\n" in site.received.head for line in lines)


async def test_frameworks_switches_are_dropped(site: Site) -> None:
    lines = [f"X{s}Middleware{s}Subrequest: forged" for s in TCHARS] + [
        "x-middleware-rewrite: forged",
        "X-Middleware-: forged",
    ]
    await site.ask("GET", "/open", *lines)
    await site.ask("GET", "/dashboard", *lines, SIGNED_IN)
    assert all(b"forged" not in request.head for request in site.upstream.requests)


async def test_each_request_of_a_connection_is_somebody_of_its_own(site: Site) -> None:
    """A verdict is not kept: neither for the next request, nor for the one before."""
    conversation = await site.open()
    for lines in ((), (SIGNED_IN,), (), (SIGNED_IN,), ("X-Auth-User-Id: forged",)):
        fields = "".join(f"{line}\r\n" for line in lines)
        conversation.send(f"GET /known HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    conversation.send("GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert len(await conversation.end()) == 6
    users = [request.values("x-auth-user-id") for request in site.upstream.requests]
    assert users == [[], [USER_ID], [], [USER_ID], [], []]
    assert all(b"forged" not in request.head for request in site.upstream.requests)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(
        st.tuples(
            *[st.sampled_from([c, c.upper()]) if c.isalpha() else st.sampled_from(TCHARS) for c in "x-auth-user-id"]
        ),
        min_size=1,
        max_size=20,
    ),
    connection=st.sampled_from(
        ["close", "close, x-auth-user-id", "close, X-Auth-Status, X-Auth-Email", "close, x_auth_user_id"]
    ),
)
async def test_no_spelling_survives(site: Site, names: list[tuple[str, ...]], connection: str) -> None:
    site.forget()
    fields = "".join(f"{''.join(name)}: forged\r\n" for name in names)
    await site.say(f"GET /dashboard HTTP/1.1\r\nHost: h\r\n{SIGNED_IN}\r\n{fields}Connection: {connection}\r\n\r\n")
    assert b"forged" not in site.received.head
    assert [value for name, value in identity_of(site.received) if name == "x-auth-user-id"] == [USER_ID]
