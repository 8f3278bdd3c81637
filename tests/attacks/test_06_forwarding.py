"""Class 6: forwarding headers believed from anybody.  The gate trusts 127.0.0.2 and the network 10.0.0.0/8."""

import pytest

from tests.attacks.site import SIGNED_IN, Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard]
trusted_proxies: [127.0.0.2, 10.0.0.0/8, '2001:db8::/32']
"""
TRUSTED = "127.0.0.2"

FORGED = [
    *(
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
    ),
    *(
        "X-Forwarded-Method",
        "X-Forwarded-Server",
        "X-Forwarded-Scheme",
        "X-Forwarded-Ssl",
        "X-Forwarded-User",
        "X-Forwarded-By",
    ),
    *("X-Forwarded", "Forwarded", "Forwarded-For", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP"),
    *(
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Remote-IP",
        "X-Remote-Addr",
        "X-Original-URL",
        "X-Original-URI",
        "X-Original-Host",
    ),
    *(
        "X-Original-Method",
        "X-Rewrite-URL",
        "X-HTTP-Host",
        "X-Host",
        "X-Scheme",
        "X-Url-Scheme",
        "Front-End-Https",
        "Proxy",
    ),
]


def spellings(name: str) -> list[str]:
    return [name, name.lower(), name.replace("-", "_"), name.replace("-", "."), name.upper().replace("-", "~")]


@pytest.mark.parametrize("name", FORGED)
async def test_nothing_that_a_stranger_says_of_the_way_is_forwarded(site: Site, name: str) -> None:
    lines = [f"{spelling}: 6.6.6.6" for spelling in spellings(name)]
    assert (await site.ask("GET", "/open", *lines)).status == 200
    assert b"6.6.6.6" not in site.received.head
    assert site.received.values("x-forwarded-for") == ["127.0.0.1"]


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-Prefix", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Original-URL", "X-Rewrite-URL", "X-Real-IP"],
)
async def test_nor_is_what_a_trusted_proxy_need_not_say(site: Site, name: str) -> None:
    lines = [f"{spelling}: 6.6.6.6" for spelling in spellings(name)]
    await site.ask("GET", "/open", *lines, address=TRUSTED)
    assert b"6.6.6.6" not in site.received.head


@pytest.mark.parametrize(
    "line",
    [
        *("X-Forwarded-Uri: /open", "X-Original-URL: /open", "X-Rewrite-URL: /open", "X-Forwarded-Path: /open"),
        *(
            "X-Forwarded-Method: OPTIONS",
            "X-Forwarded-Prefix: /open",
            "X-Forwarded-Host: open",
            "X-Original-Method: OPTIONS",
        ),
        *(
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-For: 127.0.0.2",
            "X-Real-IP: 127.0.0.2",
            "User-Agent: kube-probe/1.0",
        ),
        *("User-Agent: GoogleHC/1.0", "Referer: http://127.0.0.1/sign-in", "X-Forwarded-Proto: wss", "Via: 1.1 gate"),
    ],
)
async def test_no_header_opens_a_path_for_whoever_sends_it(site: Site, line: str) -> None:
    for address in (None, TRUSTED):
        assert (await site.ask("GET", "/dashboard", line, address=address)).status == 401
    assert site.reached == []


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        pytest.param(("X-Forwarded-For: 203.0.113.9",), "203.0.113.9", id="one"),
        pytest.param(("X-Forwarded-For: 127.0.0.1, 203.0.113.9",), "203.0.113.9", id="the-right-most"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, 10.9.8.7, 127.0.0.2",), "203.0.113.9", id="behind-trusted-ones"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, unknown",), "127.0.0.2", id="unknown-ends-the-chain"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, ,",), "127.0.0.2", id="empty-elements-end-the-chain"),
        pytest.param(("X-Forwarded-For: 203.0.113.9,10.0.0.1, 010.0.0.1",), "127.0.0.2", id="octal-is-no-address"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, 0x0a000001",), "127.0.0.2", id="hexadecimal-is-no-address"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, 167772161",), "127.0.0.2", id="a-number-is-no-address"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, 10.0.1",), "127.0.0.2", id="three-parts-are-no-address"),
        pytest.param(("X-Forwarded-For: 203.0.113.9:4711",), "203.0.113.9", id="with-a-port"),
        pytest.param(("X-Forwarded-For: [2001:DB9::1]:80, 10.0.0.1",), "2001:db9::1", id="ipv6-with-a-port"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, 2001:db8::7",), "203.0.113.9", id="trusted-ipv6"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, ::ffff:10.0.0.1",), "203.0.113.9", id="trusted-ipv4-in-ipv6"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, fe80::1%eth0",), "127.0.0.2", id="a-zone-is-no-address"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, \xb2\xb3.1.1.1",), "127.0.0.2", id="digits-of-latin-1"),
        pytest.param(("X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 10.0.0.1"), "203.0.113.9", id="two-lines"),
        pytest.param(("X_Forwarded_For: 203.0.113.9",), "127.0.0.2", id="another-spelling-is-nobody"),
        pytest.param(("Forwarded: for=203.0.113.9",), "127.0.0.2", id="the-standard-one-is-not-read"),
        pytest.param(("X-Forwarded-For: 203.0.113.9, " + "10.0.0.1, " * 40 + "10.0.0.1",), "10.0.0.1", id="too-many"),
    ],
)
async def test_whose_address_a_trusted_proxy_names(site: Site, lines: tuple[str, ...], address: str) -> None:
    assert (await site.ask("GET", "/open", *lines, address=TRUSTED)).status == 200
    assert site.received.values("x-forwarded-for") == [address]
    forwarded = site.received.values("forwarded")
    assert len(forwarded) == 1
    assert forwarded[0].startswith(f'for="[{address}]";' if ":" in address else f"for={address};")
    site.forget()
    assert (await site.ask("GET", "/open", *lines)).status == 200
    assert site.received.values("x-forwarded-for") == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("lines", "proto", "host"),
    [
        pytest.param(
            ("X-Forwarded-Proto: https", "X-Forwarded-Host: app.example.test"), "https", "app.example.test", id="both"
        ),
        pytest.param(("X-Forwarded-Proto: HTTPS ",), "https", None, id="capitals"),
        pytest.param(("X-Forwarded-Proto: https, http",), "http", None, id="a-list-of-schemes"),
        pytest.param(("X-Forwarded-Proto: javascript",), "http", None, id="another-scheme"),
        pytest.param(("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"), "http", None, id="two-lines-of-schemes"),
        pytest.param(("X-Forwarded-Host: a, b",), "http", None, id="a-list-of-hosts"),
        pytest.param(("X-Forwarded-Host: a", "X-Forwarded-Host: b"), "http", None, id="two-lines-of-hosts"),
        pytest.param(("X-Forwarded-Host: u@app.example.test",), "http", None, id="a-user"),
        pytest.param(("X-Forwarded-Host: app.example.test/x",), "http", None, id="a-path"),
        pytest.param(("X-Forwarded-Host: a;host=b",), "http", None, id="a-parameter-of-forwarded"),
        pytest.param(('X-Forwarded-Host: a"b',), "http", None, id="a-quote"),
        pytest.param(("X-Forwarded-Host: app.example.test:8443",), "http", "app.example.test:8443", id="a-port"),
        pytest.param(("X-Forwarded-Host: [::1]",), "http", "[::1]", id="ipv6"),
        pytest.param(("X-Forwarded-Host:",), "http", None, id="empty"),
        pytest.param(("X-Forwarded-Host: " + "a" * 300,), "http", None, id="long"),
    ],
)
async def test_scheme_and_host_that_a_trusted_proxy_names(
    site: Site, lines: tuple[str, ...], proto: str, host: str | None
) -> None:
    await site.ask("GET", "/open", *lines, address=TRUSTED)
    request = site.received
    assert request.values("x-forwarded-proto") == [proto]
    assert request.values("x-forwarded-host") == [host or site.gate.host]
    assert request.values("host") == [site.gate.host]
    assert request.values("forwarded")[0].endswith(f";proto={proto}")


@pytest.mark.parametrize("given", ["a b", "a\xff", "x" * 129, "a,b", "a;b", "", "<script>"])
async def test_a_request_id_that_could_mean_something_is_replaced(site: Site, given: str) -> None:
    await site.ask("GET", "/open", f"X-Request-Id: {given}", address=TRUSTED)
    await site.ask("GET", "/open", "X-Request-Id: from-a-stranger")
    for request in site.upstream.requests:
        (value,) = request.values("x-request-id")
        assert value not in (given, "from-a-stranger")
        assert len(value) == 16


async def test_a_claimed_scheme_makes_no_foreign_form_our_own(site: Site) -> None:
    """Origin checks use the scheme that was seen; a stranger cannot say another."""
    lines = (SIGNED_IN, f"Origin: https://{site.gate.host}", "X-Forwarded-Proto: https")
    assert (await site.ask("POST", "/.gatekeeper/clear-cookies", *lines)).status == 403
    assert (await site.ask("POST", "/.gatekeeper/clear-cookies", *lines, address=TRUSTED)).status == 303
