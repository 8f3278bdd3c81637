"""Class 7: a Host that leads elsewhere, is there twice, or is none."""

import pytest

from tests.attacks.site import SIGNED_IN, Site

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("", id="none"),
        pytest.param("Host:\r\n", id="empty"),
        pytest.param("Host: \t \r\n", id="blank"),
        pytest.param("Host: h\r\nHost: h\r\n", id="twice-the-same"),
        pytest.param("Host: h\r\nhost: evil.test\r\n", id="twice-in-other-case"),
        pytest.param("Host: h\r\nX: y\r\nHOST:\r\n", id="a-second-that-is-empty"),
        pytest.param("Host: h, evil.test\r\n", id="a-list"),
        pytest.param("Host: h;evil.test\r\n", id="a-semicolon"),
        pytest.param("Host: user@h\r\n", id="a-user"),
        pytest.param("Host: user:pass@h\r\n", id="a-user-and-a-password"),
        pytest.param("Host: h/dashboard\r\n", id="a-path"),
        pytest.param("Host: h?x\r\n", id="a-query"),
        pytest.param("Host: h#x\r\n", id="a-fragment"),
        pytest.param("Host: h\\x\r\n", id="a-backslash"),
        pytest.param("Host: http://h\r\n", id="a-url"),
        pytest.param("Host: h evil.test\r\n", id="a-blank-inside"),
        pytest.param("Host: h\tevil.test\r\n", id="a-tab-inside"),
        pytest.param("Host: h:80:80\r\n", id="two-ports"),
        pytest.param("Host: h:8o\r\n", id="a-port-with-a-letter"),
        pytest.param("Host: h:-1\r\n", id="a-negative-port"),
        pytest.param("Host: h:+80\r\n", id="a-port-with-a-sign"),
        pytest.param("Host: h:123456\r\n", id="a-port-of-six-digits"),
        pytest.param("Host: h:\xb2\r\n", id="a-port-with-a-digit-of-latin-1"),
        pytest.param("Host: [::1\r\n", id="an-open-bracket"),
        pytest.param("Host: ::1\r\n", id="ipv6-without-brackets"),
        pytest.param("Host: [::1]x\r\n", id="text-behind-the-bracket"),
        pytest.param("Host: x[::1]\r\n", id="text-before-the-bracket"),
        pytest.param("Host: [fe80::1%25eth0]\r\n", id="a-zone"),
        pytest.param("Host: [v1.x]\r\n", id="an-address-of-the-future"),
        pytest.param("Host: []\r\n", id="empty-brackets"),
        pytest.param("Host: %68\r\n", id="an-escape"),
        pytest.param("Host: h\xe9\r\n", id="latin-1"),
        pytest.param("Host: h<x>\r\n", id="angle-brackets"),
        pytest.param('Host: "h"\r\n', id="quotes"),
        pytest.param("Host: $h\r\n", id="a-dollar"),
        pytest.param("Host: " + "a" * 300 + "\r\n", id="long"),
        pytest.param("Host : h\r\n", id="blank-before-the-colon"),
        pytest.param("X: y\r\n Host: h\r\n", id="folded"),
        pytest.param("Ho-st: h\r\nH\xf6st: h\r\n", id="another-name"),
        pytest.param("H_ost: h\r\n", id="another-spelling"),
    ],
)
async def test_a_host_that_is_none(site: Site, lines: str) -> None:
    for target in ("/open", "/dashboard", "http://h/open"):
        raw = f"GET {target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode("latin-1")
        assert [answer.status for answer in await site.say(raw)] == [400]
    assert site.reached == []


@pytest.mark.parametrize(
    "host", ["h", "H.Example.TEST", "h:", "h:0", "h:99999", "127.1", "[::1]", "[::1]:80", "a_b.c~d-e", "xn--x"]
)
async def test_a_host_is_forwarded_as_it_came(site: Site, host: str) -> None:
    assert (await site.ask("GET", "/open", f"Host: {host}")).status == 200
    assert site.received.values("host") == [host]
    assert site.received.values("x-forwarded-host") == [host]


@pytest.mark.parametrize(
    ("target", "forwarded"),
    [
        ("http://evil.test/x", "/x"),
        ("http://evil.test:99/x?y", "/x?y"),
        ("https://127.0.0.1/x", "/x"),
        ("HTTP://[::1]/x", "/x"),
        ("http://evil.test?x", "/?x"),
    ],
)
async def test_the_authority_of_a_target_counts_nowhere(site: Site, target: str, forwarded: str) -> None:
    assert (await site.ask("GET", target, "Host: h")).status == 200
    assert site.reached == [forwarded]
    assert site.received.values("host") == site.received.values("x-forwarded-host") == ["h"]
    assert b"evil" not in site.received.head


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "evil.test:80", "[::6]", "localhost"])
async def test_a_redirect_stays_where_it_is_whatever_the_host(site: Site, host: str) -> None:
    for target in ("/dashboard", "http://evil.test/dashboard", "//evil.test/../dashboard"):
        answer = await site.ask("GET", target, f"Host: {host}", "Accept: text/html")
        assert (answer.status, answer.values(b"location")) == (307, [b"/sign-in?callbackUrl=%2Fdashboard"])
        assert host.encode() not in answer.body
        assert not any(host.encode() in value for _, value in answer.fields)
    json = await site.ask("GET", "/dashboard", f"Host: {host}")
    assert host.encode() not in json.body


async def test_http_1_0_without_a_host_gets_the_gates_own(site: Site) -> None:
    assert [answer.status for answer in await site.say("GET /open HTTP/1.0\r\n\r\n")] == [200]
    assert [answer.status for answer in await site.say("GET http://evil.test/open HTTP/1.0\r\n\r\n")] == [200]
    assert [answer.status for answer in await site.say("GET /dashboard HTTP/1.0\r\n\r\n")] == [401]
    for request in site.upstream.requests:
        (host,) = request.values("host")
        assert host
        assert b"evil" not in request.head


async def test_two_hosts_are_refused_in_http_1_0_too(site: Site) -> None:
    raw = "GET /open HTTP/1.0\r\nHost: h\r\nHost: evil.test\r\n\r\n"
    assert [answer.status for answer in await site.say(raw)] == [400]


async def test_a_session_does_not_depend_on_the_host(site: Site) -> None:
    """Host chooses neither the rules, nor the cookie, nor the app."""
    for host in ("h", "evil.test", f"127.0.0.1:{site.upstream.port}", f"127.0.0.1:{site.other.port}"):
        assert (await site.ask("GET", "/dashboard", f"Host: {host}")).status == 401
        assert (await site.ask("GET", "/dashboard", f"Host: {host}", SIGNED_IN)).status == 200
    assert len(site.upstream.requests) == 4
    assert site.other.requests == []
