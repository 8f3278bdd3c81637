"""Header policy: what is refused, what is dropped, what is kept byte for byte, and the heads that are built."""

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatekeeper.core import headers as headers_module
from gatekeeper.core.forwarding import Forwarding, ForwardingHeaders, forwarding_lines
from gatekeeper.core.headers import (
    ClientHead,
    OwnNames,
    framing_of,
    may_carry_identity,
    read_head,
    upstream_head,
)
from gatekeeper.core.identity import ReservedNames, identity_lines
from gatekeeper.core.model import Reason
from gatekeeper.core.response_headers import read_response, response_field
from tests.core.records import authenticated

Field = tuple[bytes, bytes]
HOST: Field = (b"Host", b"app.example")


def read(*fields: Field, http_1_0: bool = False) -> ClientHead:
    head = read_head([HOST, *fields], http_1_0=http_1_0)
    assert isinstance(head, ClientHead)
    return head


def judge(*fields: Field, http_1_0: bool = False) -> Reason | None:
    head = read_head(fields, http_1_0=http_1_0)
    return head if isinstance(head, Reason) else None


# --- dropped, in every spelling ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"X-Auth-User-Id", id="identity"),
        pytest.param(b"x-auth-user-id", id="identity-lower"),
        pytest.param(b"X_Auth_User_Id", id="identity-underscores"),
        pytest.param(b"X-Auth_User-Id", id="identity-mixed"),
        pytest.param(b"X.Auth.User.Id", id="identity-dots"),
        pytest.param(b"X~Auth!User*Id", id="identity-odd-token-characters"),
        pytest.param(b"X-Auth-Status", id="status"),
        pytest.param(b"X-Auth-Assertion", id="assertion"),
        pytest.param(b"X-Auth-User-Email", id="unknown-name-of-the-family"),
        pytest.param(b"x-middleware-subrequest", id="next-js"),
        pytest.param(b"X_Middleware_Prefetch", id="next-js-underscores"),
        pytest.param(b"Forwarded", id="forwarded"),
        pytest.param(b"X-Forwarded", id="x-forwarded"),
        pytest.param(b"Forwarded-For", id="forwarded-for"),
        pytest.param(b"X_Forwarded_For", id="forwarded-for-underscores"),
        pytest.param(b"X-Forwarded_For", id="forwarded-for-mixed"),
        pytest.param(b"X_Forwarded-Proto", id="forwarded-proto-mixed"),
        pytest.param(b"X.Forwarded.Host", id="forwarded-host-dots"),
        pytest.param(b"X-Forwarded-Port", id="forwarded-port"),
        pytest.param(b"X-Forwarded-Prefix", id="forwarded-prefix"),
        pytest.param(b"X-Forwarded-Uri", id="forwarded-uri"),
        pytest.param(b"X-Forwarded-Method", id="forwarded-method"),
        pytest.param(b"X-Forwarded-User", id="forwarded-user"),
        pytest.param(b"X-Forwarded-Ssl", id="forwarded-ssl"),
        pytest.param(b"X-Real-IP", id="real-ip"),
        pytest.param(b"x_real_ip", id="real-ip-underscores"),
        pytest.param(b"X-Client-IP", id="client-ip"),
        pytest.param(b"X-Cluster-Client-IP", id="cluster-client-ip"),
        pytest.param(b"True-Client-IP", id="true-client-ip"),
        pytest.param(b"CF-Connecting-IP", id="cf-connecting-ip"),
        pytest.param(b"Fastly-Client-IP", id="fastly-client-ip"),
        pytest.param(b"X-Remote-IP", id="remote-ip"),
        pytest.param(b"X-Remote-Addr", id="remote-addr"),
        pytest.param(b"X-Original-URL", id="original-url"),
        pytest.param(b"X_Original_Uri", id="original-uri"),
        pytest.param(b"X-Original-Method", id="original-method"),
        pytest.param(b"X-Original-Host", id="original-host"),
        pytest.param(b"X-Original-Forwarded-For", id="original-forwarded-for"),
        pytest.param(b"X-Rewrite-URL", id="rewrite-url"),
        pytest.param(b"X-HTTP-Host", id="http-host"),
        pytest.param(b"X-Host", id="x-host"),
        pytest.param(b"X-Scheme", id="scheme"),
        pytest.param(b"X-Url-Scheme", id="url-scheme"),
        pytest.param(b"Front-End-Https", id="front-end-https"),
        pytest.param(b"Proxy", id="httpoxy"),
        pytest.param(b"Keep-Alive", id="keep-alive"),
        pytest.param(b"Keep_Alive", id="keep-alive-underscore"),
        pytest.param(b"Proxy-Connection", id="proxy-connection"),
        pytest.param(b"Proxy-Authenticate", id="proxy-authenticate"),
        pytest.param(b"Proxy-Authorization", id="proxy-authorization"),
        pytest.param(b"TE", id="te"),
        pytest.param(b"Trailer", id="trailer"),
        pytest.param(b"HTTP2-Settings", id="http2-settings"),
        pytest.param(b"Upgrade", id="upgrade"),
        pytest.param(b"Expect", id="expect"),
        pytest.param(b"X-Request-Id", id="request-id"),
        pytest.param(b"X_Request_Id", id="request-id-underscores"),
        pytest.param(b"Content_Length", id="content-length-underscore"),
        pytest.param(b"Transfer_Encoding", id="transfer-encoding-underscore"),
        pytest.param(b"Transfer.Encoding", id="transfer-encoding-dot"),
        pytest.param(b"Sec_Fetch_Mode", id="sec-fetch-mode-underscores"),
        pytest.param(b"Access-Control_Request-Method", id="request-method-mixed"),
    ],
)
def test_never_kept(name: bytes) -> None:
    for spelling in (name, name.lower(), name.upper()):
        head = read((b"A", b"1"), (spelling, b"forged"), (b"B", b"2"))
        assert head.kept == [(b"A", b"1"), (b"B", b"2")]
        assert head.framing == "none"
        assert head.sec_fetch_mode is None


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"Accept", id="accept"),
        pytest.param(b"Authorization", id="authorization"),
        pytest.param(b"Content-Type", id="content-type"),
        pytest.param(b"X-Auth", id="x-auth-without-a-dash"),
        pytest.param(b"X-Authority", id="a-longer-word"),
        pytest.param(b"My-X-Auth-User", id="not-at-the-start"),
        pytest.param(b"X-Forwarding", id="forwarding"),
        pytest.param(b"X-Original", id="x-original-without-a-dash"),
        pytest.param(b"X-HTTP-Method-Override", id="method-override-by-default"),
        pytest.param(b"Via", id="via"),
        pytest.param(b"user_agent", id="harmless-underscore"),
        pytest.param(b"Sec-WebSocket-Key", id="websocket-key"),
        pytest.param(b"x" * 65, id="a-long-name"),
    ],
)
def test_kept_as_it_came(name: bytes) -> None:
    field = (name, b"  as it \xe4 came\t")
    assert read(field).kept == [field]
    assert read(field, field).kept == [field, field]


def test_first_of_a_name_among_what_is_kept() -> None:
    head = read((b"User-Agent", b"caf\xe9"), (b"user-agent", b"other"), (b"X-Forwarded-For", b"1.2.3.4"))
    assert head.first(b"user-agent") == "caf\xe9"
    assert head.first(b"content-type") is None
    assert head.first(b"x-forwarded-for") is None


TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~"


@st.composite
def spellings(draw: st.DrawFn, names: list[str]) -> bytes:
    """Another spelling of one of the names: any letter case, and any sign of a token for each dash."""
    spelled = ""
    for character in draw(st.sampled_from(names)):
        if character == "-":
            spelled += draw(st.sampled_from(TOKEN_CHARACTERS))
        else:
            spelled += draw(st.sampled_from([character.lower(), character.upper()]))
    return spelled.encode()


RESERVED = [
    "x-auth-user-id", "x-auth-email", "x-auth-email-verified", "x-auth-name", "x-auth-roles", "x-auth-status",
    "x-auth-organization-id", "x-auth-session-id", "x-auth-impersonated-by", "x-auth-assertion", "x-auth-zz",
    "x-middleware-subrequest",
]  # fmt: skip
FORWARDING = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix", "x-real-ip",
              "x-original-url", "x-rewrite-url"]  # fmt: skip


@given(spellings(RESERVED + FORWARDING), st.booleans())
def test_no_spelling_of_a_reserved_name_survives(name: bytes, http_1_0: bool) -> None:
    assert read((name, b"forged"), http_1_0=http_1_0).kept == []


def test_what_is_known_of_names_is_bounded_in_number_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[bytes, Any] = {}
    monkeypatch.setattr(headers_module, "_known_readers", known)
    monkeypatch.setattr(headers_module, "_MEMO_LIMIT", 3)
    sizes: list[int] = []
    for number in range(10):
        name = b"X-Auth-%d" % number if number % 2 else b"A-%d" % number
        assert read((name, b"1")).kept == ([] if number % 2 else [(name, b"1")])
        sizes.append(len(known))
    assert max(sizes) == 3
    known.clear()
    read((b"n" * 64, b"1"), (b"n" * 65, b"1"))
    assert set(known) == {b"Host", b"n" * 64}


def test_a_known_name_is_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers_module, "_known_readers", {})
    read((b"A", b"1"))
    monkeypatch.setattr(headers_module, "_choose_reader", None)
    assert read((b"A", b"1")).kept == [(b"A", b"1")]


# --- Connection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        pytest.param([b"X-Hop"], [b"X-Other", b"Accept"], id="named"),
        pytest.param([b"x-HOP"], [b"X-Other", b"Accept"], id="in-another-case"),
        pytest.param([b"close, X-Hop"], [b"X-Other", b"Accept"], id="among-others"),
        pytest.param([b"close,X-Hop ,\tX-Other"], [b"Accept"], id="two"),
        pytest.param([b"close", b"X-Hop"], [b"X-Other", b"Accept"], id="on-a-second-line"),
        pytest.param([b",, ,"], [b"X-Hop", b"X-Other", b"Accept"], id="empty-tokens"),
        pytest.param([b"keep-alive"], [b"X-Hop", b"X-Other", b"Accept"], id="keep-alive"),
        pytest.param([b"keep-alive", b"X-Hop"], [b"X-Other", b"Accept"], id="keep-alive-and-a-second-line"),
        pytest.param([b"Keep-Alive"], [b"X-Hop", b"X-Other", b"Accept"], id="keep-alive-in-another-case"),
        pytest.param([b"X-Auth-User-Id, X-Forwarded-For"], [b"X-Hop", b"X-Other", b"Accept"], id="names-of-ours"),
        pytest.param([], [b"X-Hop", b"X-Other", b"Accept"], id="no-connection"),
    ],
)
def test_what_connection_names_stays_behind(connection: list[bytes], kept: list[bytes]) -> None:
    lines = [(b"Connection", value) for value in connection]
    head = read(*lines, (b"X-Hop", b"1"), (b"X-Other", b"2"), (b"Accept", b"*/*"))
    assert [name for name, _ in head.kept] == kept
    # wherever it stands
    head = read((b"X-Hop", b"1"), (b"X-Other", b"2"), (b"Accept", b"*/*"), *lines)
    assert [name for name, _ in head.kept] == kept


END_TO_END = [
    b"Content-Type", b"Content-Encoding", b"Authorization", b"Origin", b"Referer", b"Accept", b"User-Agent", b"Range",
    b"If-Match", b"If-None-Match", b"If-Modified-Since", b"If-Unmodified-Since", b"If-Range", b"Sec-Fetch-Mode",
    b"Sec-Fetch-Site", b"Sec-Fetch-Dest", b"Access-Control-Request-Method", b"Access-Control-Request-Headers",
]  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(name, id=name.decode().lower()) for name in END_TO_END])
def test_connection_cannot_take_away_an_end_to_end_field(name: bytes) -> None:
    assert read((name, b"v"), (b"Connection", b"close, " + name), (b"X", b"1")).kept == [(name, b"v"), (b"X", b"1")]


def test_connection_cannot_take_away_what_is_read_apart() -> None:
    head = read(
        (b"Connection", b"host, cookie, content-length, x-request-id, X-Hop"),
        (b"Cookie", b"a=1"),
        (b"Content-Length", b"3"),
        (b"X-Hop", b"1"),
    )
    assert (head.host, head.cookie, head.framing, head.kept) == ("app.example", "a=1", 3, [])


# --- Host ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        pytest.param(b"app.example", True, id="name"),
        pytest.param(b"APP.example:8080", True, id="port"),
        pytest.param(b"127.0.0.1", True, id="ipv4"),
        pytest.param(b"[::1]:3000", True, id="ipv6"),
        pytest.param(b"a" * 261, True, id="longest"),
        pytest.param(b"a" * 262, False, id="too-long"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"a b", False, id="blank"),
        pytest.param(b"user@app.example", False, id="user-information"),
        pytest.param(b"app.example/x", False, id="path"),
        pytest.param(b"app.example?x", False, id="query"),
        pytest.param(b"app.example#x", False, id="fragment"),
        pytest.param(b"app.example\\x", False, id="backslash"),
        pytest.param(b'"app"', False, id="quotes"),
        pytest.param(b"app:port", False, id="port-no-number"),
        pytest.param(b"app:123456", False, id="port-too-long"),
        pytest.param(b"[::1", False, id="open-bracket"),
        pytest.param(b"\xe4.example", False, id="not-ascii"),
        pytest.param(b"a\r\nb", False, id="line-end"),
        pytest.param(b"a%2", False, id="broken-escape"),
    ],
)
@pytest.mark.parametrize("http_1_0", [False, True])
def test_host(value: bytes, is_good: bool, http_1_0: bool) -> None:
    head = read_head([(b"Host", value)], http_1_0=http_1_0)
    if is_good:
        assert isinstance(head, ClientHead)
        assert head.host == value.decode()
    else:
        assert head is Reason.BAD_HOST


def test_one_host_exactly() -> None:
    assert judge((b"Accept", b"*/*")) is Reason.BAD_HOST
    assert read_head([]) is Reason.BAD_HOST
    assert judge(HOST, HOST) is Reason.BAD_HOST
    assert judge(HOST, (b"hOST", b"evil.example")) is Reason.BAD_HOST
    assert judge(HOST, HOST, http_1_0=True) is Reason.BAD_HOST


def test_http_1_0_needs_no_host() -> None:
    head = read_head([(b"Accept", b"*/*")], http_1_0=True)
    assert isinstance(head, ClientHead)
    assert head.host == ""


# --- framing -------------------------------------------------------------------------------------------------------

CL = b"Content-Length"
TE = b"Transfer-Encoding"


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        pytest.param([], "none", id="nothing"),
        pytest.param([(CL, b"0")], 0, id="zero"),
        pytest.param([(CL, b"5")], 5, id="length"),
        pytest.param([(CL, b"007")], 7, id="leading-zeros"),
        pytest.param([(CL, b"9" * 18)], 10**18 - 1, id="longest"),
        pytest.param([(TE, b"chunked")], "chunked", id="chunked"),
        pytest.param([(TE, b"CHUNKED")], "chunked", id="chunked-in-another-case"),
    ],
)
def test_framing(fields: list[Field], framing: Any) -> None:
    assert read(*fields).framing == framing
    assert read(*[(name.lower(), value) for name, value in fields]).framing == framing


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(CL, b"5"), (TE, b"chunked")], id="cl-te"),
        pytest.param([(TE, b"chunked"), (CL, b"5")], id="te-cl"),
        pytest.param([(TE, b"chunked"), (CL, b"0")], id="te-cl-zero"),
        pytest.param([(CL, b"5"), (CL, b"6")], id="two-different-lengths"),
        pytest.param([(CL, b"5"), (CL, b"5")], id="two-equal-lengths"),
        pytest.param([(CL, b"5, 5")], id="a-list-of-lengths"),
        pytest.param([(CL, b"")], id="empty-length"),
        pytest.param([(CL, b"+5")], id="plus"),
        pytest.param([(CL, b"-5")], id="minus"),
        pytest.param([(CL, b"0x5")], id="hex"),
        pytest.param([(CL, b"5_0")], id="underscore"),
        pytest.param([(CL, b"5 0")], id="blank-inside"),
        pytest.param([(CL, b"5.0")], id="fraction"),
        pytest.param([(CL, b"\xb2")], id="digit-not-ascii"),
        pytest.param([(CL, b"1" * 19)], id="too-many-digits"),
        pytest.param([(CL, b"9" * 5000)], id="far-too-many-digits"),
        pytest.param([(TE, b"chunked"), (TE, b"chunked")], id="te-twice"),
        pytest.param([(TE, b"chunked"), (TE, b"identity")], id="te-te"),
        pytest.param([(TE, b"gzip, chunked")], id="te-list"),
        pytest.param([(TE, b"chunked, chunked")], id="te-chunked-twice"),
        pytest.param([(TE, b"chunked, identity")], id="te-chunked-identity"),
        pytest.param([(TE, b"gzip")], id="te-gzip"),
        pytest.param([(TE, b"identity")], id="te-identity"),
        pytest.param([(TE, b"xchunked")], id="te-xchunked"),
        pytest.param([(TE, b"chunked;q=1")], id="te-parameter"),
        pytest.param([(TE, b'"chunked"')], id="te-quoted"),
        pytest.param([(TE, b"\x0bchunked")], id="te-vertical-tab"),
        pytest.param([(TE, b"chunked,")], id="te-comma"),
        pytest.param([(TE, b"")], id="te-empty"),
        pytest.param([(TE, b""), (CL, b"5")], id="te-empty-and-length"),
    ],
)
@pytest.mark.parametrize("http_1_0", [False, True])
def test_framing_that_two_readers_may_read_differently(fields: list[Field], http_1_0: bool) -> None:
    assert judge(HOST, *fields, http_1_0=http_1_0) is Reason.BAD_FRAMING
    assert read_response([response_field(*field) for field in fields], status=200, method="GET") is None


def test_http_1_0_has_lengths_but_no_codings() -> None:
    assert judge(HOST, (TE, b"chunked"), http_1_0=True) is Reason.BAD_FRAMING
    assert read((CL, b"5"), http_1_0=True).framing == 5


# --- what somebody looks at ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        pytest.param(b"Accept", "accept", id="accept"),
        pytest.param(b"Authorization", "authorization", id="authorization"),
        pytest.param(b"Origin", "origin", id="origin"),
        pytest.param(b"Referer", "referer", id="referer"),
        pytest.param(b"Sec-Fetch-Mode", "sec_fetch_mode", id="sec-fetch-mode"),
        pytest.param(b"Sec-Fetch-Site", "sec_fetch_site", id="sec-fetch-site"),
        pytest.param(b"Access-Control-Request-Method", "access_control_request_method", id="request-method"),
    ],
)
def test_a_value_that_is_looked_at_is_the_first_and_all_are_kept(name: bytes, attribute: str) -> None:
    fields = [(name, b"one\xe4"), (name.upper(), b"two")]
    head = read(*fields)
    assert getattr(head, attribute) == "oneä"
    assert head.kept == fields
    assert getattr(read(), attribute) is None
    assert getattr(read((name, b""), (name, b"two")), attribute) == ""


def test_cookie_lines_are_joined_and_not_kept() -> None:
    assert read().cookie is None
    assert read((b"Cookie", b"a=1")).cookie == "a=1"
    head = read((b"Cookie", b"a=1"), (b"X", b"1"), (b"cookie", b"b=\xe4"))
    assert head.cookie == "a=1; b=ä"
    assert head.kept == [(b"X", b"1")]


@pytest.mark.parametrize(
    ("fields", "http_1_0", "wants"),
    [
        pytest.param([(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")], False, True, id="handshake"),
        pytest.param([(b"Connection", b"keep-alive, upgrade"), (b"Upgrade", b"WebSocket")], False, True, id="list"),
        pytest.param([(b"Upgrade", b" websocket "), (b"Connection", b"Upgrade")], False, True, id="blanks"),
        pytest.param([(b"Upgrade", b"websocket")], False, False, id="no-connection"),
        pytest.param([(b"Upgrade", b"websocket"), (b"Connection", b"keep-alive")], False, False, id="not-named"),
        pytest.param([(b"Upgrade", b"websocket"), (b"Connection", b"close")], False, False, id="close"),
        pytest.param([(b"Connection", b"Upgrade")], False, False, id="no-upgrade"),
        pytest.param([(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade")], False, False, id="h2c"),
        pytest.param([(b"Upgrade", b"h2c, websocket"), (b"Connection", b"Upgrade")], False, False, id="a-choice"),
        pytest.param([(b"Upgrade", b"h2c"), (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")], False, False,
                     id="a-choice-on-two-lines"),
        pytest.param([(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")], True, False, id="http-1-0"),
    ],
)  # fmt: skip
def test_wants_websocket(fields: list[Field], http_1_0: bool, wants: bool) -> None:
    head = read(*fields, http_1_0=http_1_0)
    assert head.wants_websocket is wants
    assert head.kept == []


WEBSOCKET: list[Field] = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        pytest.param([*WEBSOCKET, (b"Sec-WebSocket-Key", KEY)], KEY, id="handshake"),
        pytest.param([(b"SEC-WEBSOCKET-KEY", KEY), *WEBSOCKET], KEY, id="any-case-and-order"),
        pytest.param(WEBSOCKET, None, id="none"),
        pytest.param([*WEBSOCKET, (b"Sec-WebSocket-Key", KEY), (b"Sec-WebSocket-Key", KEY)], None, id="two"),
        pytest.param([*WEBSOCKET, (b"Sec-WebSocket-Key", KEY), (b"sec-websocket-key", b"")], None, id="two-one-empty"),
        pytest.param([*WEBSOCKET, (b"Sec-WebSocket-Key", b"")], None, id="empty"),
        pytest.param([*WEBSOCKET, (b"Sec-WebSocket-Key", KEY[:-1])], None, id="malformed"),
        pytest.param([(b"Sec-WebSocket-Key", KEY)], None, id="no-handshake"),
        pytest.param([(b"Sec-WebSocket-Key", KEY), (b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")], None, id="h2c"),
    ],
)
def test_websocket_key(fields: list[Field], key: bytes | None) -> None:
    head = read(*fields)
    assert head.websocket_key == key
    assert head.kept == [field for field in fields if field[0].lower() == b"sec-websocket-key"]


def test_other_spellings_of_a_websocket_key_are_dropped() -> None:
    head = read(*WEBSOCKET, (b"Sec_WebSocket_Key", KEY))
    assert (head.websocket_key, head.kept) == (None, [])


@pytest.mark.parametrize(
    ("value", "expects"),
    [
        pytest.param(b"100-continue", True, id="usual"),
        pytest.param(b" 100-Continue ", True, id="case-and-blanks"),
        pytest.param(b"200-ok", False, id="other"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_expects_continue(value: bytes, expects: bool) -> None:
    head = read((b"Expect", value))
    assert head.expects_continue is expects
    assert head.kept == []
    assert not read().expects_continue


def test_forwarding_headers_are_noted_and_never_kept() -> None:
    head = read(
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-Proto", b"https"),
        (b"x-forwarded-host", b"app.example"),
        (b"X-Request-ID", b"abc"),
        (b"X-Forwarded-For", b"10.0.0.1\xe4"),
    )
    assert head.given == ForwardingHeaders("203.0.113.9, 10.0.0.1ä", "https", "app.example", "abc")
    assert head.kept == []


def test_without_forwarding_headers_there_are_none() -> None:
    assert read((b"Forwarded", b"for=6.6.6.6"), (b"X-Real-IP", b"6.6.6.6"), (b"X_Forwarded_For", b"6")).given is None
    assert read((b"X-Request-Id", b"abc")).given == ForwardingHeaders(request_id="abc")
    assert read((b"X-Forwarded-For", b"")).given == ForwardingHeaders(forwarded_for="")


def test_heads_share_nothing() -> None:
    read((b"A", b"1"), (CL, b"5"), (b"Connection", b"x"), (b"Upgrade", b"websocket"))
    assert read() == read_head([HOST])
    assert (read().kept, read().framing, read().wants_websocket) == ([], "none", False)


@pytest.mark.parametrize(
    "name",
    [b"X-HTTP-Method-Override", b"x-http-method", b"X_Method_Override", b"X-Http_Method-Override"],
    ids=lambda name: name.decode(),
)
def test_method_overrides_go_where_a_rule_lists_methods(name: bytes) -> None:
    head = read((b"A", b"1"), (name, b"DELETE"), (b"X-HTTP-Methods", b"2"))
    assert (name, b"DELETE") in head.kept
    assert head.without_method_override().kept == [(b"A", b"1"), (b"X-HTTP-Methods", b"2")]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, [(b"A", b"1"), (b"B", b"2")]),
        (b"Bearer new", [(b"A", b"1"), (b"B", b"2"), (b"Authorization", b"Bearer new")]),
    ],
)
def test_authorization_is_replaced_or_taken_away(value: bytes | None, kept: list[tuple[bytes, bytes]]) -> None:
    head = read((b"A", b"1"), (b"authorization", b"Bearer one"), (b"B", b"2"), (b"Authorization", b"Basic two"))
    head.kept_lines()
    assert head.with_authorization(value).kept == kept
    assert b"one" not in head.with_authorization(value).kept_lines()


def test_what_is_made_of_a_head_is_made_once_and_does_not_mix() -> None:
    override = (b"X-HTTP-Method-Override", b"DELETE")
    for lines_first in (True, False):
        head = read((b"A", b"1"), override)
        if lines_first:
            assert head.kept_lines() == b"A: 1\r\nX-HTTP-Method-Override: DELETE\r\n"
        without = head.without_method_override()
        assert without.kept_lines() == b"A: 1\r\n"
        assert head.kept_lines() == b"A: 1\r\nX-HTTP-Method-Override: DELETE\r\n"
        assert head.kept_lines() is head.kept_lines()
        assert head.without_method_override() is without
        assert without.without_method_override().kept_lines() == b"A: 1\r\n"
    assert read((b"A", b"2")).kept_lines() == b"A: 2\r\n"


# --- the request for the upstream ----------------------------------------------------------------------------------


def build(head: ClientHead, *, cookie: str | None = None, method: str = "GET", target: str = "/x?y") -> bytes:
    before_id, after_id = upstream_head(
        method, target, head, cookie=cookie, forwarding=b"X-Forwarded-For: 1\r\n", identity=b"X-Auth-Status: a\r\n"
    )
    return before_id + b"id" + after_id


def test_upstream_head() -> None:
    head = read((b"B", b"  2\xe4 "), (b"a", b"1"), (b"Connection", b"close"), (b"Cookie", b"dropped=1"), (CL, b"007"))
    assert build(head, cookie="c=ä", method="POST") == (
        b"POST /x?y HTTP/1.1\r\nHost: app.example\r\nB:   2\xe4 \r\na: 1\r\nCookie: c=\xe4\r\nContent-Length: 7\r\n"
        b"X-Forwarded-For: 1\r\nX-Request-Id: id\r\nX-Auth-Status: a\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        pytest.param([], b"", id="none"),
        pytest.param([(CL, b"0")], b"Content-Length: 0\r\n", id="zero"),
        pytest.param([(CL, b"12")], b"Content-Length: 12\r\n", id="length"),
        pytest.param([(TE, b"Chunked")], b"Transfer-Encoding: chunked\r\n", id="chunked"),
    ],
)
def test_upstream_framing(fields: list[Field], line: bytes) -> None:
    assert build(read(*fields)) == (
        b"GET /x?y HTTP/1.1\r\nHost: app.example\r\n" + line + b"X-Forwarded-For: 1\r\n"
        b"X-Request-Id: id\r\nX-Auth-Status: a\r\n\r\n"
    )


def test_an_upgrade_is_asked_for_once_in_our_words() -> None:
    head = read((b"Upgrade", b"WebSocket"), (b"Connection", b"x, upgrade"), (b"Sec-WebSocket-Key", KEY), (b"x", b"y"))
    sent = upstream_head("GET", "/x", head, cookie=None, forwarding=b"F: 1\r\n", identity=b"I: 2\r\n", upgrade=True)
    assert b"id".join(sent) == (
        b"GET /x HTTP/1.1\r\nHost: app.example\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nF: 1\r\nX-Request-Id: id\r\nI: 2\r\n\r\n"
    )
    assert b"pgrade" not in build(head)


@pytest.mark.parametrize("cookie", [None, ""])
def test_no_cookie_line_without_a_cookie(cookie: str | None) -> None:
    assert b"Cookie" not in build(read((b"Cookie", b"a=1")), cookie=cookie)


NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(rb"[\t -~\x80-\xff]*")


def parse_strictly(raw: bytes) -> tuple[bytes, list[Field]]:
    """The request line and the fields of a head, every byte accounted for (RFC 9112 §3, §5)."""
    assert raw.endswith(b"\r\n\r\n")
    first, *lines = raw[:-4].split(b"\r\n")
    assert re.fullmatch(rb"[!-~]+ [!-~]+ HTTP/1\.1", first)
    fields: list[Field] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon
        assert NAME.fullmatch(name)
        assert VALUE.fullmatch(value)
        assert value.startswith(b" ")
        fields.append((name, value[1:]))
    return first, fields


NAMES = (
    st.from_regex(NAME.pattern, fullmatch=True)
    | spellings(RESERVED + FORWARDING)
    | spellings(["content-length", "transfer-encoding", "keep-alive", "x-request-id", "user-agent", "upgrade", "te"])
    | st.sampled_from([b"Accept", b"Cookie", b"Connection", b"Content-Type", b"Upgrade", b"X-Custom", b"Origin"])
)
VALUES = st.from_regex(VALUE.pattern, fullmatch=True) | st.sampled_from(
    [b"chunked", b"5", b"0", b"websocket", b"close, X-Custom", b"a=1; b=2", b"X-Auth-User-Id", b"accept, host"]
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
MAY_GO = {"keep-alive", "te", "upgrade", "content-length", "transfer-encoding", "x-request-id", "connection", "cookie",
          "expect", "proxy", "forwarded", "trailer", "host"}  # fmt: skip


def fold(name: bytes) -> str:
    return re.sub("[^a-z0-9]", "-", name.decode("latin-1").lower())


@given(FIELDS, st.sampled_from(["GET", "POST", "HEAD"]), st.booleans())
@example(
    [(b"Connection", b"X-Auth-Status, X-Forwarded-For, Host, content-length"), (b"Content-Length", b"3")], "GET", True
)
def test_the_upstream_reads_one_request_with_our_headers_in_it(fields: list[Field], method: str, listed: bool) -> None:
    head = read_head([HOST, *fields])
    if isinstance(head, Reason):
        assert any(fold(name) in ("host", "content-length", "transfer-encoding") for name, _ in fields)
        return
    if listed:
        head = head.without_method_override()
    ours = [
        *forwarding_lines(Forwarding("203.0.113.9", "https", head.host)).split(b"\r\n")[:-1],
        b"X-Request-Id: abc",
        *identity_lines(authenticated()).split(b"\r\n")[:-1],
    ]
    before_id, after_id = upstream_head(
        method,
        "/dashboard?x=1",
        head,
        cookie=head.cookie,
        forwarding=b"".join(line + b"\r\n" for line in ours[:5]),
        identity=b"".join(line + b"\r\n" for line in ours[6:]),
    )
    first, sent = parse_strictly(before_id + b"abc" + after_id)
    assert first == method.encode() + b" /dashboard?x=1 HTTP/1.1"
    folded = [fold(name) for name, _ in sent]
    assert sent[0] == HOST
    assert folded.count("host") == 1
    assert folded.count("content-length") + folded.count("transfer-encoding") <= 1
    assert folded.count("cookie") <= 1
    assert [name + b": " + value for name, value in sent[-len(ours) :]] == ours
    theirs = sent[1 : -len(ours)]
    for name in folded[1 : -len(ours)]:
        assert not name.startswith(("x-auth-", "x-middleware-", "x-forwarded-", "x-original-"))
        assert name not in {"connection", "keep-alive", "te", "upgrade", "x-request-id", "x-real-ip", "x-rewrite-url"}
    for own in ours:
        assert folded.count(fold(own.partition(b":")[0])) == 1
    # everything of theirs came so, in that order, and nothing else is missing
    made = {"cookie", "content-length", "transfer-encoding"}
    rest = [field for field in theirs if fold(field[0]) not in made]
    assert rest == head.kept
    named = {
        token.strip().lower() for name, value in fields if name.lower() == b"connection" for token in value.split(b",")
    }
    position = 0
    for name, value in fields:
        if position < len(rest) and (name, value) == rest[position]:
            position += 1
            continue
        folded_name = fold(name)
        assert (
            folded_name in MAY_GO
            or name.lower() in named
            or folded_name.startswith(
                ("x-auth-", "x-middleware-", "x-forwarded", "x-original-", "x-real-ip", "x-rewrite-url")
            )
            or (listed and "method" in folded_name)
        )
    assert position == len(rest)


def test_ordinary_connection_words_name_no_field() -> None:
    fields = [(b"Close", b"1"), (b"X", b"2")]
    assert read((b"Connection", b"close, te"), *fields).kept == fields


@pytest.mark.parametrize("value", [b"keep-alive, X-Hop", b"X-Hop"])
def test_what_connection_names_is_dropped_wherever_it_stands(value: bytes) -> None:
    fields = [(b"x-hop", b"1"), (b"X-Kept", b"2"), (b"X-HOP", b"3")]
    assert read((b"Connection", value), *fields).kept == [(b"X-Kept", b"2")]


def test_a_message_without_framing_fields_has_no_body() -> None:
    assert framing_of([], []) == "none"


def test_the_first_field_of_a_name() -> None:
    head = read((b"If-None-Match", b'"a\xe4"'), (b"if-none-match", b'"b"'))
    assert head.first(b"if-none-match") == '"aä"'
    assert head.first(b"if-match") is None


# --- names that the settings reserve -------------------------------------------------------------------------------

OWN = OwnNames(ReservedNames(frozenset({"remote-user", "x-me"}), ("x-pomerium-",)))


@pytest.mark.parametrize(
    "name",
    [
        b"Remote-User",
        b"remote_user",
        b"REMOTE.USER",
        b"X-Me",
        b"x_me",
        b"X-Pomerium-Jwt-Assertion",
        b"x_pomerium_claim",
    ],
    ids=lambda name: name.decode(),
)
def test_what_the_settings_reserve_does_not_exist(name: bytes) -> None:
    for _ in range(2):  # found out, and then remembered
        head = read_head([HOST, (b"A", b"1"), (name, b"forged")], own=OWN)
        assert isinstance(head, ClientHead)
        assert head.kept == [(b"A", b"1")]
        assert (name, b"forged") in read((b"A", b"1"), (name, b"forged")).kept


def test_what_is_reserved_anyway_stays_so() -> None:
    head = read_head([HOST, (b"X-Auth-User-Id", b"1"), (b"X_Forwarded_For", b"1"), (b"Accept", b"a")], own=OWN)
    assert isinstance(head, ClientHead)
    assert head.kept == [(b"Accept", b"a")]
    assert head.accept == "a"


def test_reserved_names_remember_few_and_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers_module, "_MEMO_LIMIT", 3)
    own = OwnNames(ReservedNames(frozenset({"remote-user"})))
    for number in range(9):
        read_head([HOST, (b"X-%d" % number, b""), (b"X" * 65, b"")], own=own)
        assert len(own.readers) <= 3
        assert b"X" * 65 not in own.readers
    assert repr(own) == "<OwnNames <ReservedNames ['remote-user'] []>>"


@pytest.mark.parametrize(
    "name",
    ["X-WEBAUTH-USER", "Remote-User", "X-Forwarded-User", "X-Auth-Request-User", "User", "x_user.name", "a" * 64],
)
def test_names_that_may_carry_an_identity(name: str) -> None:
    assert may_carry_identity(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "X User", "X:User", "X-Üser", "X\r\nY", "a" * 65),
        *("Host", "Content-Length", "Transfer_Encoding", "Connection", "TE", "Upgrade", "Keep-Alive", "Expect"),
        *("Cookie", "Authorization", "Origin", "Accept", "Accept-Language", "Content-Type", "Range", "If-None-Match"),
        *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded", "X-Real-IP"),
        *("X-Request-Id", "X_Request_Id", "X-Original-URL", "X-Middleware-Subrequest", "X-HTTP-Method-Override"),
        *("Sec-Fetch-Mode", "Access-Control-Request-Method", "Proxy-Authorization", "Date", "Cache-Control", "Via"),
    ],
)
def test_names_that_mean_something_else(name: str) -> None:
    assert not may_carry_identity(name)
