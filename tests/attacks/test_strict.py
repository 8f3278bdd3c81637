"""The readers behind these tests refuse what they should: else nothing that is tested by them would mean anything."""

import pytest

from tests.attacks.strict import count_requests, is_under, plausible_paths, read_responses, request_trouble
from tests.attacks.verdict import TOKEN, proves_session
from tests.server.gates import COOKIE, cookie_value

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"junk",
        OK + b"junk",
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + OK,
        OK.replace(b"Length: 2", b"Length: 2\r\nContent-Length: 2"),
        OK.replace(b"Length: 2", b"Length: 2\r\nTransfer-Encoding: chunked"),
        OK.replace(b"Length: 2", b"Length: +2"),
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_no_strict_client_takes(data: bytes) -> None:
    assert read_responses(data).trouble is not None


def test_what_a_strict_client_takes() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    stream = read_responses(interim + OK + chunked + OK[:-1])
    assert stream.trouble is None
    assert [(answer.status, answer.body, answer.complete) for answer in stream.answers] == [
        *((200, b"ok", True), (404, b"ok", True), (200, b"o", False)),
    ]
    assert [answer.body for answer in read_responses(OK[:-2] + OK, may_be_head=True).answers] == [b"", b"ok"]


@pytest.mark.parametrize(
    "lines",
    [
        *(b"", b"Host: h\r\nHost: h\r\n", b"Host: h\r\nX : y\r\n", b"Host: h\r\nX: a\x1b\r\n", b"Host: h\r\n y\r\n"),
        *(b"Host: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", b"Host: h\r\nConnection: close\r\n"),
        *(b"Host: h\r\nUpgrade: h2c\r\n", b"Host: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n", b"Host: h\n\r\n"),
    ],
)
def test_what_must_not_reach_an_app(lines: bytes) -> None:
    assert request_trouble(b"GET /x HTTP/1.1\r\n" + lines + b"\r\n") is not None
    assert request_trouble(b"GET /x HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n") is None


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/dashboard",
            "//dashboard/x",
            "/x/../dashboard",
            "/%64ashboard",
            "/DASHBOARD",
            "/dashboard;x/y",
            "/dashboard%3bx",
        ),
        *(
            "/x%2f..%2fdashboard",
            "/x\\..\\dashboard",
            "/dashboard%00x",
            "/dashboard. ",
            "/.../dashboard",
            "/x/..;/dashboard",
        ),
        *("http://h/dashboard", "/;/dashboard", "/dashboard?x", "/x/%2e%2e/dashboard"),
    ],
)
def test_what_some_backend_reads_as_protected(target: str) -> None:
    assert is_under(plausible_paths(target), (b"/dashboard",))


@pytest.mark.parametrize(
    "target", ["/dashboardx", "/x/dashboard", "/%2564ashboard", "/x?/dashboard", "/", "/dash/board"]
)
def test_what_no_backend_does(target: str) -> None:
    assert not is_under(plausible_paths(target), (b"/dashboard",))


def test_how_many_requests_are_beyond_doubt() -> None:
    get, post = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert count_requests(get + post + chunked + get) == 4
    assert count_requests(get + post[:-1]) == 1
    for doubtful in (
        get[:-1],
        chunked[:-1],
        b"\n" + get,
        post.replace(b"5", b"+5"),
        get.replace(b"Host", b" H"),
    ):
        assert count_requests(get + doubtful + get) == 1


def test_what_proves_a_session() -> None:
    value = cookie_value(TOKEN)
    for header in (f"{COOKIE}={value}", f'a=b; {COOKIE} = "{value}"', f"{COOKIE}={value.replace('%3D', '%3d')}"):
        assert proves_session(header)
    for header in (
        f"{COOKIE}=x; {COOKIE}={value}",
        f"x{COOKIE}={value}",
        f"{COOKIE}={value[:-3]}",
        f"{COOKIE}={TOKEN}",
        "",
    ):
        assert not proves_session(header)
