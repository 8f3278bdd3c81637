"""Header policy for responses: framing, what stays behind, what caches may keep, and the head that is built."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core import response_headers as headers_module
from gatekeeper.core.response_headers import (
    UpstreamHead,
    cache_control_for,
    client_head,
    read_response,
    response_field,
    sets_cookie,
)

Field = tuple[bytes, bytes]
CL = b"Content-Length"
TE = b"Transfer-Encoding"

# --- the upstream's response ---------------------------------------------------------------------------------------


def judge(fields: Iterable[Field], status: int = 200, method: str = "GET") -> UpstreamHead | None:
    return read_response([response_field(*field) for field in fields], status=status, method=method)


def answer(*fields: Field, status: int = 200, method: str = "GET") -> UpstreamHead:
    head = judge(fields, status, method)
    assert head is not None
    return head


def kept(head: UpstreamHead) -> list[Field]:
    """Names and values of the lines that pass on."""
    split = [line.removesuffix(b"\r\n").partition(b": ") for line in head.kept]
    return [(name, value) for name, _, value in split]


@pytest.mark.parametrize(
    ("fields", "sets"),
    [
        pytest.param([], False, id="no-cookie"),
        pytest.param([(b"X-Set-Cookie", b"a=1")], False, id="another-field"),
        pytest.param([(b"Set-Cookie", b"a=1; Path=/")], True, id="set"),
        pytest.param([(b"set-cookie", b"a=; Max-Age=0")], True, id="cleared"),
        pytest.param([(b"SET-COOKIE", b" a =1")], True, id="blanks"),
        pytest.param([(b"Set-Cookie", b"b=1"), (b"Set-Cookie", b"a=1")], True, id="the-second-one"),
        pytest.param([(b"Set-Cookie", b"ab=1"), (b"Set-Cookie", b"b=a=1")], False, id="names-that-are-alike"),
    ],
)
def test_whether_the_app_sets_a_cookie(fields: list[Field], sets: bool) -> None:
    assert sets_cookie(answer(*fields), "a") is sets


@pytest.mark.parametrize(
    ("method", "status", "fields", "has_body", "framing"),
    [
        pytest.param("GET", 200, [(CL, b"5")], True, 5, id="length"),
        pytest.param("GET", 200, [(CL, b"0")], True, 0, id="zero"),
        pytest.param("GET", 200, [(TE, b"chunked")], True, "chunked", id="chunked"),
        pytest.param("GET", 200, [], True, "close", id="by-the-end"),
        pytest.param("POST", 404, [], True, "close", id="error-by-the-end"),
        pytest.param("HEAD", 200, [(CL, b"5")], False, 5, id="head-tells-the-length"),
        pytest.param("HEAD", 200, [(TE, b"chunked")], False, "none", id="head-chunked"),
        pytest.param("HEAD", 200, [], False, "none", id="head"),
        pytest.param("GET", 304, [(CL, b"5")], False, 5, id="304-tells-the-length"),
        pytest.param("GET", 304, [(TE, b"chunked")], False, "none", id="304-chunked"),
        pytest.param("GET", 304, [], False, "none", id="304"),
        pytest.param("GET", 204, [(CL, b"0")], False, "none", id="204-has-no-length"),
        pytest.param("HEAD", 204, [(CL, b"5")], False, "none", id="head-204-has-no-length"),
        pytest.param("GET", 204, [(TE, b"chunked")], False, "none", id="204-chunked"),
        pytest.param("GET", 199, [(CL, b"5")], False, "none", id="interim-has-no-length"),
        pytest.param("GET", 100, [], False, "none", id="interim"),
        pytest.param("GET", 205, [(CL, b"0")], True, 0, id="205-is-framed-like-others"),
        pytest.param("GET", 303, [], True, "close", id="303"),
    ],
)
def test_response_framing(method: str, status: int, fields: list[Field], has_body: bool, framing: Any) -> None:
    head = answer(*fields, status=status, method=method)
    assert (head.has_body, head.framing, kept(head)) == (has_body, framing, [])


@pytest.mark.parametrize(
    "name",
    [b"Keep-Alive", b"proxy-connection", b"Proxy-Authenticate", b"TE", b"Trailer", b"Upgrade", b"HTTP2-Settings",
     b"Connection", b"Content-Length", b"Cache-Control"],
    ids=lambda name: name.decode(),
)  # fmt: skip
def test_a_response_keeps_no_hop_by_hop_and_no_framing(name: bytes) -> None:
    assert kept(answer((b"A", b"1"), (name, b"0"), (b"B", b"2"))) == [(b"A", b"1"), (b"B", b"2")]
    assert kept(answer((name.lower(), b"0"))) == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(CL, b"1"), (TE, b"chunked")], id="both"),
        pytest.param([(CL, b"1"), (CL, b"1")], id="twice"),
        pytest.param([(CL, b"+1")], id="sign"),
        pytest.param([(TE, b"gzip")], id="other-coding"),
    ],
)
def test_framing_that_cannot_be_trusted(fields: list[Field]) -> None:
    assert judge(fields) is None


def test_a_response_without_fields_ends_with_its_connection() -> None:
    assert answer() == UpstreamHead([]) == UpstreamHead([], has_body=True, framing="close")


def test_a_response_keeps_the_rest_as_it_came() -> None:
    fields = [(b"Set-Cookie", b"a=1"), (b"x", b" \xe4 "), (b"set-cookie", b"b=2"), (b"Server", b"s"), (b"n" * 65, b"")]
    head = answer(*fields)
    assert kept(head) == fields
    assert head.has_set_cookie
    assert not answer((b"Set-Cookie2", b"a=1")).has_set_cookie


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        pytest.param([], None, id="none"),
        pytest.param([b"no-store"], b"no-store", id="one"),
        pytest.param([b"public", b"max-age=5"], b"public, max-age=5", id="two-lines"),
        pytest.param([b""], b"", id="empty"),
    ],
)
def test_cache_control_lines_are_joined(values: list[bytes], joined: bytes | None) -> None:
    assert answer(*[(b"Cache-Control", value) for value in values]).cache_control == joined


def test_what_a_response_says_of_its_connection() -> None:
    assert not answer().closes
    assert not answer((b"Connection", b"keep-alive")).closes
    assert answer((b"Connection", b"Close")).closes
    assert answer((b"Connection", b"keep-alive"), (b"connection", b"X-Hop, CLOSE ")).closes
    assert answer((b"Connection", b"close"), (b"Connection", b"X-Hop")).closes
    assert not answer((b"Connection", b"x-close")).closes
    assert answer((b"Keep-Alive", b"timeout=5"), (b"Upgrade", b"h2c")).keep_alive == b"timeout=5"
    assert answer().keep_alive is None


@pytest.mark.parametrize(
    ("fields", "streams"),
    [
        pytest.param([(b"Content-Type", b"text/event-stream")], True, id="usual"),
        pytest.param([(b"content-type", b"Text/Event-Stream; charset=utf-8")], True, id="case-and-parameters"),
        pytest.param([(b"Content-Type", b"text/event")], False, id="cut-short"),
        pytest.param([(b"Content-Type", b"text/html; x=text/event-stream")], False, id="parameter"),
        pytest.param([(b"X-Content-Type", b"text/event-stream")], False, id="another-field"),
        pytest.param([], False, id="none"),
    ],
)
def test_event_streams(fields: list[Field], streams: bool) -> None:
    head = answer(*fields)
    assert head.is_event_stream is streams
    assert kept(head) == fields


RESPONSE_END_TO_END = [
    b"Content-Type", b"Content-Encoding", b"Set-Cookie", b"Location", b"ETag", b"Vary", b"Last-Modified", b"Expires",
    b"Date", b"Content-Security-Policy", b"Strict-Transport-Security", b"WWW-Authenticate", b"X-Frame-Options",
    b"Access-Control-Allow-Origin", b"Access-Control-Allow-Credentials", b"X-Content-Type-Options",
]  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(name, id=name.decode().lower()) for name in RESPONSE_END_TO_END])
def test_a_response_cannot_lose_an_end_to_end_field(name: bytes) -> None:
    head = answer((b"Connection", b"X-Hop, " + name), (name, b"v"), (b"X-HOP", b"1"), (b"X", b"2"))
    assert kept(head) == [(name, b"v"), (b"X", b"2")]


def test_a_response_cannot_lose_what_is_read_apart() -> None:
    head = answer((b"Connection", b"cache-control, content-length"), (b"Cache-Control", b"no-store"), (CL, b"5"))
    assert (head.cache_control, head.framing) == (b"no-store", 5)


def test_ordinary_connection_words_name_no_field() -> None:
    fields = [(b"Close", b"1"), (b"X", b"2")]
    assert kept(answer((b"Connection", b"close, keep-alive"), *fields)) == fields


def test_what_is_known_of_response_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[bytes, bytes] = {}
    monkeypatch.setattr(headers_module, "_known_names", known)
    monkeypatch.setattr(headers_module, "_MEMO_LIMIT", 3)
    sizes: list[int] = []
    for number in range(8):
        assert kept(answer((b"N-%d" % number, b"1"), (b"Upgrade", b"x"))) == [(b"N-%d" % number, b"1")]
        sizes.append(len(known))
    assert max(sizes) == 3
    known.clear()
    answer((b"n" * 64, b"1"), (b"n" * 65, b"1"))
    assert known == {b"n" * 64: b""}


# --- the response for the client -----------------------------------------------------------------------------------


def respond(
    fields: UpstreamHead,
    status: int = 200,
    *,
    http_1_0: bool = False,
    keep_alive: bool = True,
    protected: bool = False,
    varies: bool = False,
    cookies: tuple[bytes, ...] = (),
) -> list[bytes]:
    raw = client_head(
        status,
        b"Fine",
        fields,
        http_1_0=http_1_0,
        keep_alive=keep_alive,
        protected=protected,
        varies=varies,
        cookies=cookies,
    )
    assert raw.endswith(b"\r\n\r\n")
    first, *lines = raw[:-4].split(b"\r\n")
    assert first == b"HTTP/1.1 %d Fine" % status
    return lines


CHUNKED_LINE = b"Transfer-Encoding: chunked"
CLOSE_LINE = b"Connection: close"
KEEP_LINE = b"Connection: keep-alive"


@pytest.mark.parametrize(
    ("method", "status", "fields", "http_1_0", "keep_alive", "lines"),
    [
        pytest.param("GET", 200, [(CL, b"5")], False, True, [b"Content-Length: 5"], id="length"),
        pytest.param("GET", 200, [(CL, b"5")], False, False, [b"Content-Length: 5", CLOSE_LINE], id="length-close"),
        pytest.param("GET", 200, [(CL, b"5")], True, True, [b"Content-Length: 5", KEEP_LINE], id="1.0-length-kept"),
        pytest.param("GET", 200, [(CL, b"5")], True, False, [b"Content-Length: 5", CLOSE_LINE], id="1.0-length-close"),
        pytest.param("GET", 200, [(CL, b"0")], False, True, [b"Content-Length: 0"], id="empty"),
        pytest.param("GET", 200, [(TE, b"chunked")], False, True, [CHUNKED_LINE], id="chunked"),
        pytest.param("GET", 200, [], False, True, [CHUNKED_LINE], id="close-delimited-becomes-chunked"),
        pytest.param("GET", 200, [(TE, b"chunked")], True, False, [CLOSE_LINE], id="1.0-chunked-ends-by-close"),
        pytest.param("HEAD", 200, [(CL, b"5")], False, True, [b"Content-Length: 5"], id="head-length"),
        pytest.param("HEAD", 200, [(TE, b"chunked")], False, True, [], id="head-chunked"),
        pytest.param("HEAD", 200, [], True, True, [KEEP_LINE], id="1.0-head"),
        pytest.param("GET", 204, [(CL, b"0")], False, True, [], id="204"),
        pytest.param("GET", 304, [(CL, b"5")], False, True, [b"Content-Length: 5"], id="304-length"),
        pytest.param("GET", 304, [(TE, b"chunked")], False, True, [], id="304-chunked"),
        pytest.param("GET", 101, [(b"Upgrade", b"x"), (b"Connection", b"upgrade")], False, False,
                     [b"Connection: Upgrade", b"Upgrade: websocket"], id="101"),
    ],
)  # fmt: skip
def test_client_framing(
    method: str, status: int, fields: list[Field], http_1_0: bool, keep_alive: bool, lines: list[bytes]
) -> None:
    head = answer(*fields, status=status, method=method)
    assert respond(head, status, http_1_0=http_1_0, keep_alive=keep_alive) == lines


def test_client_head_in_its_order() -> None:
    head = answer((b"ETag", b'"x"'), (b"Cache-Control", b"public"), (b"X-\xe4", b"\xe4"), (CL, b"1"))
    assert respond(head, protected=True, varies=True, keep_alive=False) == [
        b'ETag: "x"',
        b"X-\xe4: \xe4",
        b"Cache-Control: private",
        b"Vary: Cookie",
        b"Content-Length: 1",
        b"Connection: close",
    ]


def test_a_response_that_gets_a_cookie_is_for_nobody_else() -> None:
    head = answer((b"Set-Cookie", b"theirs=1"), (b"Cache-Control", b"public, max-age=600"), (CL, b"0"))
    assert respond(head, cookies=(b"a=1; Path=/", b"b=2")) == [
        b"Set-Cookie: theirs=1",
        b"Cache-Control: private, no-store",
        b"Set-Cookie: a=1; Path=/",
        b"Set-Cookie: b=2",
        b"Content-Length: 0",
    ]


def test_a_cookie_that_the_upstream_sets_itself_is_left_to_it() -> None:
    theirs = (b"set-cookie", b"a=; Max-Age=0; Path=/")
    assert respond(answer(theirs, (CL, b"0")), cookies=(b"a=1; Path=/", b"ab=2")) == [
        b"set-cookie: a=; Max-Age=0; Path=/",
        b"Cache-Control: private, no-store",
        b"Set-Cookie: ab=2",
        b"Content-Length: 0",
    ]
    assert respond(answer(theirs, (b"X-A", b"ab=2"), (CL, b"0")), cookies=(b"a=1",)) == [
        b"set-cookie: a=; Max-Age=0; Path=/",
        b"X-A: ab=2",
        b"Content-Length: 0",
    ]


def test_an_unprotected_response_is_left_alone() -> None:
    assert respond(answer((CL, b"0"))) == [b"Content-Length: 0"]
    head = answer((b"Vary", b"Accept"), (b"Cache-Control", b"public"), (CL, b"0"))
    assert respond(head, varies=True) == [
        b"Vary: Accept", b"Cache-Control: public", b"Vary: Cookie", b"Content-Length: 0"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given_value", "protected_value"),
    [
        pytest.param(None, b"private, no-store", id="none"),
        pytest.param(b"", b"private, no-store", id="empty"),
        pytest.param(b"public", b"private", id="public"),
        pytest.param(b"PUBLIC, max-age=60", b"private, max-age=60", id="public-with-an-age"),
        pytest.param(b"max-age=60,public", b"private, max-age=60", id="public-last"),
        pytest.param(b"public , must-revalidate", b"private, must-revalidate", id="blank-before-the-comma"),
        pytest.param(b"public=1, max-age=60", b"private, max-age=60", id="public-with-a-value"),
        pytest.param(b"max-age=60", b"private, max-age=60", id="an-age-alone-is-shared"),
        pytest.param(b"s-maxage=60, max-age=5", b"private, max-age=5", id="shared-age"),
        pytest.param(b"S-MaxAge = 60", b"private", id="shared-age-spelled-oddly"),
        pytest.param(b"no-cache", b"private, no-cache", id="no-cache-may-be-stored"),
        pytest.param(b"no-store", b"no-store", id="no-store"),
        pytest.param(b"No-Store, max-age=0", b"No-Store, max-age=0", id="no-store-with-more"),
        pytest.param(b"private", b"private", id="private"),
        pytest.param(b"Private, max-age=60", b"Private, max-age=60", id="private-with-an-age"),
        pytest.param(b"private, public", b"private", id="both"),
        pytest.param(b"public, no-store", b"private, no-store", id="public-and-no-store"),
        pytest.param(b'private="x-user"', b"private", id="private-for-one-field"),
        pytest.param(b'private="a, b", max-age=60', b"private, max-age=60", id="private-for-some-fields"),
        pytest.param(b'no-cache="a, private, b"', b'private, no-cache="a, private, b"', id="a-word-in-quotes"),
        pytest.param(b'x="a\\", private, ", max-age=1', b'private, x="a\\", private, ", max-age=1', id="escaped-quote"),
        pytest.param(b'x="open, private', b"private, no-store", id="open-quote"),
        pytest.param(b'", x="public, private"', b"private, no-store", id="quotes-out-of-step"),
        pytest.param(b'private, ", x="public"', b"private, no-store", id="quotes-out-of-step-behind-private"),
        pytest.param(b"max age=1", b"private, no-store", id="two-words"),
        pytest.param(b"x = y, z", b"private, x = y, z", id="blanks-around-equals"),
        pytest.param(b"no-store=1", b"private, no-store=1", id="no-store-with-a-value"),
        pytest.param(b"privately", b"private, privately", id="a-longer-word"),
        pytest.param(b" , max-age=1, ", b"private, max-age=1", id="blank-directives"),
        pytest.param(b",,max-age=1,,", b"private, max-age=1", id="empty-directives"),
    ],
)
def test_cache_control(given_value: bytes | None, protected_value: bytes) -> None:
    assert cache_control_for(given_value, protected=True, sets_cookie=False) == protected_value
    assert cache_control_for(given_value, protected=False, sets_cookie=False) == given_value
    for protected in (False, True):
        assert cache_control_for(given_value, protected=protected, sets_cookie=True) == b"private, no-store"


@given(st.lists(st.sampled_from([b"public", b"private", b"max-age=1", b'private="a,b"', b"s-maxage=3", b"no-store",
                                 b'x="public, private"', b"", b'"', b"no-cache"])))  # fmt: skip
def test_no_shared_cache_keeps_a_protected_response(directives: list[bytes]) -> None:
    given_value = b", ".join(directives)
    made = cache_control_for(given_value, protected=True, sets_cookie=False)
    assert made is not None
    unquoted = re.sub(rb'"[^"]*("|$)', b"", made)
    words = {word.strip() for word in unquoted.split(b",")}
    assert words & {b"private", b"no-store"}
    assert b"public" not in words
    # saying it twice changes nothing
    assert cache_control_for(made, protected=True, sets_cookie=False) == made


def test_a_response_for_http_1_0_is_never_chunked() -> None:
    for fields in ([], [(TE, b"chunked")]):
        assert CHUNKED_LINE not in respond(answer(*fields), http_1_0=True, keep_alive=False)


@pytest.mark.parametrize(
    "name", [b"CDN-Cache-Control", b"Cloudflare-CDN-Cache-Control", b"surrogate-control", b"X-Accel-Expires"]
)
def test_what_overrules_cache_control_passes_on_public_rules_alone(name: bytes) -> None:
    fields = judge([(name, b"max-age=60")])
    assert fields is not None
    assert kept(fields) == []

    def head(*, protected: bool, cookies: tuple[bytes, ...] = ()) -> bytes:
        return client_head(
            200, b"OK", fields, http_1_0=False, keep_alive=True, protected=protected, varies=False, cookies=cookies
        )

    start = b"HTTP/1.1 200 OK\r\n" + name + b": max-age=60\r\n"
    assert head(protected=False) == start + b"Transfer-Encoding: chunked\r\n\r\n"
    assert name not in head(protected=True)
    assert name not in head(protected=False, cookies=(b"a=b",))


# --- what is made once ---------------------------------------------------------------------------------------------


@given(
    asked=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans()), max_size=20),
    length=st.booleans(),
)
def test_a_head_that_was_made_before_is_the_one_that_would_be_made(
    asked: list[tuple[bool, bool, bool, bool, bool]], length: bool
) -> None:
    fields = [(b"Cache-Control", b"public, max-age=9"), (b"X-Accel-Expires", b"9"), *([(CL, b"5")] if length else [])]
    again = answer(*fields)
    for http_1_0, keep_alive, protected, varies, adds_cookie in asked:
        how = {"http_1_0": http_1_0, "keep_alive": keep_alive, "protected": protected, "varies": varies}
        cookies = (b"a=b",) if adds_cookie else ()
        assert respond(again, **how, cookies=cookies) == respond(answer(*fields), **how, cookies=cookies)


def test_a_cookie_of_ours_is_given_to_one_client_alone() -> None:
    head = answer((CL, b"0"))
    for cookie in (b"a=1", b"b=2"):
        assert respond(head, cookies=(cookie,))[1:2] == [b"Set-Cookie: " + cookie]
    assert respond(head) == [b"Content-Length: 0"]
    assert respond(head, cookies=(b"c=3",))[1:2] == [b"Set-Cookie: c=3"]
    assert respond(head) == [b"Content-Length: 0"]


def test_heads_share_nothing_that_was_made() -> None:
    assert respond(answer((CL, b"1"))) == [b"Content-Length: 1"]
    assert respond(answer((CL, b"2"))) == [b"Content-Length: 2"]
