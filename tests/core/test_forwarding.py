"""Forwarding headers: whom we believe, who then asked, and what the app is told."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatekeeper.core import forwarding as forwarding_module
from gatekeeper.core.forwarding import (
    UNIX_PEER,
    Forwarding,
    ForwardingHeaders,
    TrustedProxies,
    forwarding_lines,
    is_request_id,
    parse_address,
    read_forwarding,
)

PROXY = "10.0.0.1"
VISITOR = "203.0.113.9"
NOBODY = TrustedProxies([])
TRUSTED = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8:aaaa::/48", UNIX_PEER])
EVERYTHING = ForwardingHeaders("6.6.6.6", "https", "evil.example", "forged")


def read(
    peer: str = PROXY,
    forwarded_for: str | None = None,
    *,
    proto: str | None = None,
    sent_host: str | None = None,
    request_id: str | None = None,
    trusted: TrustedProxies = TRUSTED,
) -> Forwarding:
    given_headers = ForwardingHeaders(forwarded_for, proto, sent_host, request_id)
    return read_forwarding(peer, "http", "app.example", given_headers, trusted)


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("203.0.113.9", "203.0.113.9", id="ipv4"),
        pytest.param("2001:DB8:0:0::1", "2001:db8::1", id="ipv6"),
        pytest.param("::ffff:203.0.113.9", "203.0.113.9", id="v4-mapped"),
        pytest.param("::ffff:cb00:7109", "203.0.113.9", id="v4-mapped-in-hex"),
        pytest.param("64:ff9b::cb00:7109", "64:ff9b::cb00:7109", id="nat64-is-not-v4-mapped"),
        pytest.param("fe80::1%eth0", None, id="zone"),
        pytest.param("203.0.113.9:1234", None, id="port"),
        pytest.param("[2001:db8::1]", None, id="brackets"),
        pytest.param("[2001:db8::1]:80", None, id="brackets-and-port"),
        pytest.param("10.0.0.01", None, id="leading-zero"),
        pytest.param("10.1", None, id="short-form"),
        pytest.param("167772161", None, id="one-number"),
        pytest.param("0x0a000001", None, id="hex-number"),
        pytest.param("10.0.0.0/8", None, id="network"),
        pytest.param("256.0.0.1", None, id="out-of-range"),
        pytest.param("unknown", None, id="unknown"),
        pytest.param("_hidden", None, id="obfuscated"),
        pytest.param("unix", None, id="unix-is-no-address"),
        pytest.param("", None, id="empty"),
        pytest.param(" 10.0.0.1", None, id="blank"),
        pytest.param("١٠.0.0.1", None, id="digits-of-another-script"),
    ],
)
def test_parse_address(text: str, address: str | None) -> None:
    parsed = parse_address(text)
    assert (None if parsed is None else str(parsed)) == address


def test_a_unix_peer_is_called_as_in_the_settings() -> None:
    assert UNIX_PEER == "unix"


# --- whom we believe -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "address", "is_trusted"),
    [
        pytest.param([], PROXY, False, id="nobody-by-default"),
        pytest.param([], UNIX_PEER, False, id="not-even-a-unix-socket"),
        pytest.param(["10.0.0.1"], "10.0.0.1", True, id="an-address"),
        pytest.param(["10.0.0.1"], "10.0.0.2", False, id="another-address"),
        pytest.param(["10.0.0.0/8"], "10.255.255.255", True, id="a-network"),
        pytest.param(["10.0.0.0/8"], "11.0.0.0", False, id="next-to-the-network"),
        pytest.param(["10.1.2.3/8"], "10.9.9.9", True, id="network-with-host-bits"),
        pytest.param(["192.0.2.1", "10.0.0.0/8"], "10.0.0.1", True, id="the-second-entry"),
        pytest.param(["10.0.0.0/8"], "::ffff:10.0.0.1", True, id="v4-mapped"),
        pytest.param(["2001:db8::/32"], "2001:db8:1::1", True, id="ipv6"),
        pytest.param(["2001:db8::/32"], "2001:db9::1", False, id="another-ipv6"),
        pytest.param(["::/0"], "10.0.0.1", False, id="all-of-ipv6-is-not-ipv4"),
        pytest.param(["10.0.0.0/8"], UNIX_PEER, False, id="unix-not-listed"),
        pytest.param([UNIX_PEER], UNIX_PEER, True, id="unix"),
        pytest.param([UNIX_PEER], PROXY, False, id="only-unix"),
        pytest.param(["0.0.0.0/0", "::/0"], "no address", False, id="no-address"),
        pytest.param(["0.0.0.0/0", "::/0"], "", False, id="empty"),
        pytest.param(["fe80::/10"], "fe80::1%eth0", False, id="zones-are-no-addresses"),
    ],
)
def test_trusts(entries: list[str], address: str, is_trusted: bool) -> None:
    proxies = TrustedProxies(entries)
    assert proxies.any is bool(entries)
    assert proxies.trusts(address) is is_trusted
    assert proxies.trusts(address) is is_trusted  # and the same when asked again


def test_the_memory_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding_module, "_MEMO_LIMIT", 3)
    proxies = TrustedProxies(["10.0.0.0/8"])
    sizes: list[int] = []
    for number in range(12):
        assert proxies.trusts(f"10.0.0.{number}")
        assert not proxies.trusts(f"11.0.0.{number}")
        sizes.append(len(proxies._known))
    assert max(sizes) == 3


def test_an_answer_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert proxies.trusts(PROXY)
    monkeypatch.setattr(proxies, "_networks", ())
    assert proxies.trusts(PROXY)


# --- who asked -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        pytest.param(VISITOR, NOBODY, id="nobody-is-trusted"),
        pytest.param(VISITOR, TRUSTED, id="not-this-one"),
        pytest.param("2001:db8::9", TRUSTED, id="ipv6"),
        pytest.param(UNIX_PEER, NOBODY, id="unix-socket"),
        pytest.param(UNIX_PEER, TrustedProxies(["10.0.0.0/8"]), id="unix-socket-not-listed"),
    ],
)
def test_of_an_untrusted_peer_nothing_is_believed(peer: str, trusted: TrustedProxies) -> None:
    assert read_forwarding(peer, "http", "app.example", EVERYTHING, trusted) == Forwarding(peer, "http", "app.example")


def test_a_trusted_peer_that_says_nothing() -> None:
    assert read_forwarding(PROXY, "https", "app.example", None, TRUSTED) == Forwarding(PROXY, "https", "app.example")
    assert read() == Forwarding(PROXY, "http", "app.example")


@pytest.mark.parametrize(
    ("peer", "seen"),
    [
        pytest.param("::ffff:203.0.113.9", "203.0.113.9", id="v4-mapped"),
        pytest.param("2001:DB8::0:1", "2001:db8::1", id="one-spelling"),
        pytest.param("fe80::1%eth0", "fe80::1", id="without-its-zone"),
        pytest.param("not:an:address", "not:an:address", id="what-is-none-stays"),
    ],
)
def test_the_peer_in_its_one_spelling(peer: str, seen: str) -> None:
    assert read_forwarding(peer, "http", "app.example", None, NOBODY).client_address == seen


def test_a_mapped_peer_is_trusted_as_ipv4() -> None:
    assert read("::ffff:10.0.0.1", VISITOR) == Forwarding(VISITOR, "http", "app.example", (PROXY,))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client", "hops"),
    [
        pytest.param(PROXY, VISITOR, VISITOR, (PROXY,), id="one-address"),
        pytest.param(PROXY, f"6.6.6.6, {VISITOR}", VISITOR, (PROXY,), id="what-the-client-wrote-is-ignored"),
        pytest.param(PROXY, f"{VISITOR}, 10.0.0.3, 10.0.0.2", VISITOR, ("10.0.0.3", "10.0.0.2", PROXY), id="chain"),
        pytest.param(PROXY, f"6.6.6.6,10.0.0.9,{VISITOR},10.0.0.2", VISITOR, ("10.0.0.2", PROXY), id="first-untrusted"),
        pytest.param(PROXY, "10.0.0.4, 10.0.0.3", "10.0.0.4", ("10.0.0.3", PROXY), id="all-trusted"),
        pytest.param(PROXY, PROXY, PROXY, (PROXY,), id="itself"),
        pytest.param(PROXY, "2001:DB8::9", "2001:db8::9", (PROXY,), id="ipv6"),
        pytest.param(PROXY, "2001:db8:aaaa::1", "2001:db8:aaaa::1", (PROXY,), id="trusted-ipv6"),
        pytest.param(PROXY, f"{VISITOR},2001:db8:aaaa::1", VISITOR, ("2001:db8:aaaa::1", PROXY), id="through-ipv6"),
        pytest.param(PROXY, "::ffff:203.0.113.9", VISITOR, (PROXY,), id="v4-mapped"),
        pytest.param(PROXY, f"{VISITOR}, ::ffff:10.0.0.2", VISITOR, ("10.0.0.2", PROXY), id="v4-mapped-proxy"),
        pytest.param(UNIX_PEER, VISITOR, VISITOR, (UNIX_PEER,), id="unix-peer"),
        pytest.param(UNIX_PEER, f"{VISITOR}, 10.0.0.2", VISITOR, ("10.0.0.2", UNIX_PEER), id="unix-peer-and-chain"),
        pytest.param(UNIX_PEER, "", UNIX_PEER, (), id="unix-peer-alone"),
        pytest.param("192.0.2.7", VISITOR, VISITOR, ("192.0.2.7",), id="single-trusted-address"),
        pytest.param(PROXY, "  203.0.113.9\t", VISITOR, (PROXY,), id="blanks"),
        pytest.param(PROXY, "", PROXY, (), id="empty"),
        pytest.param(PROXY, ",", PROXY, (), id="only-a-comma"),
        pytest.param(PROXY, f"{VISITOR},", PROXY, (), id="empty-last"),
        pytest.param(PROXY, "unknown", PROXY, (), id="unknown"),
        pytest.param(PROXY, "unix", PROXY, (), id="a-peer-by-name-only"),
        pytest.param(PROXY, f"{VISITOR}, garbage", PROXY, (), id="nothing-beyond-garbage"),
        pytest.param(PROXY, f"{VISITOR}, garbage, 10.0.0.2", "10.0.0.2", (PROXY,), id="garbage-in-the-chain"),
        pytest.param(PROXY, f"garbage, {VISITOR}", VISITOR, (PROXY,), id="garbage-beyond-the-client"),
        pytest.param(PROXY, f"{VISITOR}:443", VISITOR, (PROXY,), id="port"),
        pytest.param(PROXY, "[2001:db8::9]", "2001:db8::9", (PROXY,), id="brackets"),
        pytest.param(PROXY, "[2001:db8::9]:443", "2001:db8::9", (PROXY,), id="brackets-and-port"),
        pytest.param(PROXY, f"{VISITOR}:port", PROXY, (), id="no-port"),
        pytest.param(PROXY, "[2001:db8::9]443", PROXY, (), id="brackets-and-more"),
        pytest.param(PROXY, "fe80::1%eth0", PROXY, (), id="zone"),
        pytest.param(PROXY, "0" * 5000, PROXY, (), id="very-long"),
        pytest.param(
            PROXY, "1234:1234:1234:1234:1234:1234:255.255.255.255", "1234:1234:1234:1234:1234:1234:ffff:ffff", (PROXY,),
            id="longest-form",
        ),
        pytest.param(PROXY, '"203.0.113.9"', PROXY, (), id="quotes"),
        pytest.param(PROXY, "203.0.113.9\x00", PROXY, (), id="nul"),
    ],
)  # fmt: skip
def test_the_chain_is_walked_from_the_right(peer: str, forwarded_for: str, client: str, hops: tuple[str, ...]) -> None:
    assert read(peer, forwarded_for) == Forwarding(client, "http", "app.example", hops)


def test_an_address_may_have_45_characters() -> None:
    longest = "1234:1234:1234:1234:1234:1234:255.255.255.255"
    assert len(longest) == 45
    assert read(PROXY, longest).client_address == str(ip_address(longest))


def test_long_texts_are_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(forwarding_module, "_canonical_text", looked_at.append)
    assert read(PROXY, "1" * 46).client_address == PROXY
    assert looked_at == []
    assert read(PROXY, "1" * 45).client_address == PROXY
    assert looked_at == ["1" * 45]


def test_a_chain_is_followed_for_32_hops_and_no_further() -> None:
    proxies = [f"10.0.1.{number}" for number in range(40)]
    found = read(PROXY, ", ".join([VISITOR, *proxies]))
    assert found.client_address == "10.0.1.8"
    assert found.hops == (*proxies[9:], PROXY)
    just = read(PROXY, ", ".join([VISITOR, *proxies[:31]]))
    assert just.client_address == VISITOR
    assert just.hops == (*proxies[:31], PROXY)


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        pytest.param("https", "https", id="https"),
        pytest.param("http", "http", id="http"),
        pytest.param(" HTTPS ", "https", id="blanks-and-case"),
        pytest.param("wss", "http", id="other-scheme"),
        pytest.param("https, http", "http", id="list"),
        pytest.param("https\x00", "http", id="nul"),
        pytest.param("", "http", id="empty"),
        pytest.param(None, "http", id="absent"),
    ],
)
def test_scheme_of_a_trusted_proxy(proto: str | None, scheme: str) -> None:
    assert read(proto=proto).scheme == scheme


def test_plain_http_behind_a_tls_listener() -> None:
    given_headers = ForwardingHeaders(proto="http")
    assert read_forwarding(PROXY, "https", "a", given_headers, TRUSTED).scheme == "http"
    assert read_forwarding(PROXY, "https", "a", ForwardingHeaders(proto="x"), TRUSTED).scheme == "https"


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        pytest.param("www.example.com", "www.example.com", id="name"),
        pytest.param("a", "a", id="one-letter"),
        pytest.param("www.example.com:8443", "www.example.com:8443", id="port"),
        pytest.param("[2001:db8::1]:80", "[2001:db8::1]:80", id="ipv6"),
        pytest.param(" www.example.com ", "www.example.com", id="blanks"),
        pytest.param("a" * 255, "a" * 255, id="as-long-as-allowed"),
        pytest.param("a" * 256, "app.example", id="too-long"),
        pytest.param("", "app.example", id="empty"),
        pytest.param(None, "app.example", id="absent"),
        pytest.param("a.example, b.example", "app.example", id="list"),
        pytest.param("a.example,b.example", "app.example", id="list-without-blank"),
        pytest.param("user@a.example", "app.example", id="user-information"),
        pytest.param("a.example/path", "app.example", id="path"),
        pytest.param('a"b', "app.example", id="quote"),
        pytest.param("a b", "app.example", id="blank-inside"),
        pytest.param("ä.example", "app.example", id="not-ascii"),
    ],
)
def test_host_of_a_trusted_proxy(sent: str | None, host: str) -> None:
    assert read(sent_host=sent).host == host


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        pytest.param("a", True, id="one-letter"),
        pytest.param("0af7651916cd43dd8448eb211c80319c", True, id="hex"),
        pytest.param("Root=1-67891233-abcdef012345678912345678", False, id="equals"),
        pytest.param("1-2_3.4:5", True, id="the-signs"),
        pytest.param("a" * 128, True, id="longest"),
        pytest.param("a" * 129, False, id="too-long"),
        pytest.param("", False, id="empty"),
        pytest.param("a b", False, id="blank"),
        pytest.param("a, b", False, id="list"),
        pytest.param("a\r\nb", False, id="line-end"),
        pytest.param("a\n", False, id="line-end-last"),
        pytest.param("é", False, id="not-ascii"),
        pytest.param("²", False, id="digit-not-ascii"),
        pytest.param("<script>", False, id="markup"),
    ],
)
def test_request_ids(text: str, is_good: bool) -> None:
    assert is_request_id(text) is is_good
    assert read(request_id=text).request_id == (text if is_good else None)


def test_a_request_id_of_a_trusted_proxy_only() -> None:
    assert read(VISITOR, request_id="abc").request_id is None
    assert read(request_id=None).request_id is None


# --- what the app is told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarding", "lines"),
    [
        pytest.param(
            Forwarding(VISITOR, "http", "app.example"),
            [
                "X-Forwarded-For: 203.0.113.9",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: app.example",
                "X-Forwarded-Port: 80",
                "Forwarded: for=203.0.113.9;host=app.example;proto=http",
            ],
            id="direct",
        ),
        pytest.param(
            Forwarding("2001:db8::9", "https", "[2001:db8::1]:8443", ("2001:db8:aaaa::1", UNIX_PEER)),
            [
                "X-Forwarded-For: 2001:db8::9",
                "X-Forwarded-Proto: https",
                "X-Forwarded-Host: [2001:db8::1]:8443",
                "X-Forwarded-Port: 8443",
                'Forwarded: for="[2001:db8::9]";host="[2001:db8::1]:8443";proto=https, for="[2001:db8:aaaa::1]",'
                " for=unknown",
            ],
            id="ipv6-and-a-chain",
        ),
        pytest.param(
            Forwarding(UNIX_PEER, "http", "localhost"),
            [
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: localhost",
                "X-Forwarded-Port: 80",
                "Forwarded: for=unknown;host=localhost;proto=http",
            ],
            id="unix-peer-has-no-address",
        ),
        pytest.param(
            Forwarding(VISITOR, "http", "a;for=6.6.6.6,for=7.7.7.7"),
            [
                "X-Forwarded-For: 203.0.113.9",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: a;for=6.6.6.6,for=7.7.7.7",
                "X-Forwarded-Port: 80",
                'Forwarded: for=203.0.113.9;host="a;for=6.6.6.6,for=7.7.7.7";proto=http',
            ],
            id="a-host-that-looks-like-parameters",
        ),
    ],
)
def test_forwarding_lines(forwarding: Forwarding, lines: list[str]) -> None:
    assert forwarding_lines(forwarding).decode().split("\r\n") == [*lines, ""]


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        pytest.param("http", "a", "80", id="http"),
        pytest.param("https", "a", "443", id="https"),
        pytest.param("https", "a:8443", "8443", id="named"),
        pytest.param("https", "a:", "443", id="empty"),
        pytest.param("http", "[::1]", "80", id="ipv6"),
        pytest.param("https", "[::1]:8443", "8443", id="ipv6-named"),
        pytest.param("https", "[::1]:", "443", id="ipv6-empty"),
    ],
)
def test_port(scheme: str, host: str, port: str) -> None:
    assert f"X-Forwarded-Port: {port}\r\n".encode() in forwarding_lines(Forwarding(VISITOR, scheme, host))


def test_lines_are_made_once_for_the_same_way() -> None:
    one, other = (Forwarding(VISITOR, "http", "one.example", (), request_id) for request_id in ("a", "b"))
    assert forwarding_lines(one) is forwarding_lines(other)


def test_lines_for_a_very_long_host_are_not_kept() -> None:
    kept, passing = (Forwarding(VISITOR, "http", "h" * length) for length in (255, 256))
    assert forwarding_lines(kept) is forwarding_lines(kept)
    assert forwarding_lines(passing) is not forwarding_lines(passing)
    assert forwarding_lines(passing) == forwarding_lines(passing)


# --- laws ----------------------------------------------------------------------------------------------------------

ADDRESSES = st.ip_addresses().map(str) | st.sampled_from([PROXY, "10.9.9.9", "192.0.2.7", VISITOR, "::ffff:10.0.0.7"])
ENTRIES = (
    ADDRESSES
    | st.sampled_from(["unknown", "unix", "", " ", "1.2.3.4:5", "[::1]", "fe80::1%0", '"1.2.3.4"', "_x"])
    | st.text(max_size=8)
)
CHAINS = st.none() | st.text(max_size=60) | st.lists(ENTRIES, max_size=40).map(", ".join)
PEERS = st.ip_addresses().map(str) | st.sampled_from([UNIX_PEER, PROXY, "192.0.2.7", "2001:db8:aaaa::5"])
HOSTS = st.from_regex(r"[A-Za-z0-9._~!$&'()*+,;=-]{1,20}(:[0-9]{0,5})?|\[[0-9a-f:.]+\](:[0-9]{0,5})?", fullmatch=True)


@given(
    peer=PEERS,
    scheme=st.sampled_from(["http", "https"]),
    chain=CHAINS,
    proto=st.none() | st.sampled_from(["https", "http"]) | st.text(max_size=8),
    sent_host=st.none() | HOSTS | st.text(max_size=20),
    request_id=st.none() | st.text(max_size=20),
)
def test_reading_never_fails_and_the_client_is_one_that_somebody_named(
    peer: str, scheme: str, chain: str | None, proto: str | None, sent_host: str | None, request_id: str | None
) -> None:
    given_headers = ForwardingHeaders(chain, proto, sent_host, request_id)
    found = read_forwarding(peer, scheme, "app.example", given_headers, TRUSTED)
    named = [ip_address(peer)] if peer != UNIX_PEER else []
    if TRUSTED.trusts(peer):
        texts = [text.strip() for text in (chain or "").split(",")]
        texts += [text.rpartition(":")[0] for text in texts] + [text[1:].partition("]")[0] for text in texts]
        named += [address for text in texts if (address := parse_address(text))]
        assert found.scheme in ("http", "https")
    else:
        assert (found.scheme, found.host, found.request_id) == (scheme, "app.example", None)
        assert found.hops == ()
    if found.client_address == UNIX_PEER:
        assert peer == UNIX_PEER
    else:
        mapped = [getattr(address, "ipv4_mapped", None) or address for address in named]
        assert ip_address(found.client_address) in mapped
        assert str(ip_address(found.client_address)) == found.client_address
    assert all(TRUSTED.trusts(hop) for hop in found.hops)
    forwarding_lines(found)


NODE = r'(?:unknown|[0-9.]+|"\[[0-9a-f:.]+\]")'
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
ELEMENT = re.compile(rf'for={NODE};host=(?:{TOKEN}|"[^"\\]*");proto=https?(?:, for={NODE})*')


@given(client=PEERS, scheme=st.sampled_from(["http", "https"]), host=HOSTS, hops=st.lists(PEERS, max_size=3).map(tuple))
@example(client=VISITOR, scheme="http", host="a;for=6.6.6.6", hops=())
@example(client=VISITOR, scheme="http", host="a,for=6.6.6.6", hops=())
@example(client=VISITOR, scheme="http", host="a(b)", hops=())
def test_lines_are_well_formed_and_name_one_address(client: str, scheme: str, host: str, hops: tuple[str, ...]) -> None:
    raw = forwarding_lines(Forwarding(client, scheme, host, hops))
    assert raw.endswith(b"\r\n")
    fields = [line.split(": ", 1) for line in raw[:-2].decode("ascii").split("\r\n")]
    names = [name for name, _ in fields]
    assert len(set(names)) == len(names)
    assert set(names) - {"X-Forwarded-For"} == {
        "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded"
    }  # fmt: skip
    values = dict(fields)
    assert values.get("X-Forwarded-For") == (None if client == UNIX_PEER else client)
    assert ELEMENT.fullmatch(values["Forwarded"])
    assert values["Forwarded"].count("for=") - host.count("for=") == 1 + len(hops)
    assert values["X-Forwarded-Port"].isdigit()
