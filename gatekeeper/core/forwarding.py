"""Who really asked: forwarding headers in and out.

From a peer that is no trusted proxy, every forwarding header is discarded and written anew from the socket.  From a
trusted one, `X-Forwarded-For` is walked from the right to the first address that is not trusted, and scheme and host
are taken from `X-Forwarded-Proto` and `X-Forwarded-Host`.  The app gets exactly one address in `X-Forwarded-For`
(Better Auth believes no list), and the chain in `Forwarded` (RFC 7239).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

from gatekeeper.core.urls import is_valid_host

UNIX_PEER = "unix"
"""How the address of a peer on a Unix socket is written."""

_MEMO_LIMIT = 4096
_MAX_HOPS = 32
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
_MAX_ADDRESS = 45
_MEMO_HOST_LENGTH = 255
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Forwarding(msgspec.Struct, frozen=True):
    """What is verified about the way a request came.

    `hops` are the trusted proxies it came through, nearest to the client first.  `request_id` is the one that a
    trusted proxy gave it, or None.
    """

    client_address: str
    scheme: str
    host: str
    hops: tuple[str, ...] = ()
    request_id: str | None = None


class ForwardingHeaders(msgspec.Struct):
    """The forwarding headers of a request as they came, None where absent."""

    forwarded_for: str | None = None
    proto: str | None = None
    host: str | None = None
    request_id: str | None = None


class TrustedProxies:
    """The peers whose forwarding headers are believed: addresses, networks, and `unix`."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._networks = tuple(ip_network(entry, strict=False) for entry in entries if entry != UNIX_PEER)
        self._unix = UNIX_PEER in entries
        self._known: dict[str, bool] = {}
        self.any = bool(entries)

    def trusts(self, address: str) -> bool:
        """Whether this address (or UNIX_PEER) is a trusted proxy; a text that is no address is not."""
        known = self._known.get(address)
        if known is None:
            known = self._looks_up(address)
            if len(self._known) >= _MEMO_LIMIT:
                self._known.clear()
            self._known[address] = known
        return known

    def _looks_up(self, address: str) -> bool:
        if address == UNIX_PEER:
            return self._unix
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, an IPv4-mapped one as IPv4; None for anything else, zones and ports included."""
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id is not None:
            return None
        return parsed.ipv4_mapped or parsed
    return parsed


def read_forwarding(
    peer: str, scheme: str, host: str, given: ForwardingHeaders | None, trusted: TrustedProxies
) -> Forwarding:
    """What holds for a request from `peer` (an address, or UNIX_PEER) that came by `scheme` with this Host."""
    if ":" in peer:
        peer = _canonical(peer.partition("%")[0]) or peer
    if given is None or not trusted.any or not trusted.trusts(peer):
        return Forwarding(peer, scheme, host)
    client, hops = _walk(peer, given.forwarded_for, trusted)
    proto = (given.proto or "").strip().lower()
    sent_host = (given.host or "").strip()
    is_one_host = len(sent_host) <= _MEMO_HOST_LENGTH and "," not in sent_host
    return Forwarding(
        client_address=client,
        scheme=proto if proto in ("http", "https") else scheme,
        host=sent_host if is_one_host and _is_valid_host(sent_host) else host,
        hops=hops,
        request_id=given.request_id if given.request_id and is_request_id(given.request_id) else None,
    )


def is_request_id(text: str) -> bool:
    """Whether a request id is harmless in headers and logs: 1 to 128 letters, digits, `-`, `_`, `.`, `:`."""
    return 0 < len(text) <= 128 and text.isascii() and all(c.isalnum() or c in "-_.:" for c in text)


def forwarding_lines(forwarding: Forwarding) -> bytes:
    """The forwarding header lines for the upstream, without the request id."""
    lines = _lines if len(forwarding.host) <= _MEMO_HOST_LENGTH else _make_lines
    return lines(forwarding.client_address, forwarding.scheme, forwarding.host, forwarding.hops)


def _make_lines(client: str, scheme: str, host: str, hops: tuple[str, ...]) -> bytes:
    elements = [f"for={_node(client)};host={_quoted(host)};proto={scheme}"]
    elements += [f"for={_node(hop)}" for hop in hops]
    lines = [] if client == UNIX_PEER else [f"X-Forwarded-For: {client}"]
    lines += [
        f"X-Forwarded-Proto: {scheme}",
        f"X-Forwarded-Host: {host}",
        f"X-Forwarded-Port: {_port(scheme, host)}",
        f"Forwarded: {', '.join(elements)}",
    ]
    return "".join(line + "\r\n" for line in lines).encode("ascii")


_lines = lru_cache(maxsize=1024)(_make_lines)
_is_valid_host = lru_cache(maxsize=1024)(is_valid_host)


def _walk(peer: str, forwarded_for: str | None, trusted: TrustedProxies) -> tuple[str, tuple[str, ...]]:
    """The first untrusted address from the right, and the trusted ones that follow it, `peer` last."""
    hops = [peer]
    for text in reversed((forwarded_for or "").split(",")[-_MAX_HOPS:]):
        address = _canonical(_without_port(text.strip()))
        if address is None:
            break
        if not trusted.trusts(address):
            return address, tuple(reversed(hops))
        hops.append(address)
    client = hops.pop()
    return client, tuple(reversed(hops))


def _without_port(text: str) -> str:
    """An address without the port that some proxies add: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
    match = _WITH_PORT.fullmatch(text)
    return text if match is None else match[1] or match[2]


def _canonical(text: str) -> str | None:
    """The one spelling of an address, or None for what is none."""
    return _canonical_text(text) if len(text) <= _MAX_ADDRESS else None


@lru_cache(maxsize=4096)
def _canonical_text(text: str) -> str | None:
    address = parse_address(text)
    return None if address is None else str(address)


def _node(address: str) -> str:
    """An address as in RFC 7239 §6: IPv6 in brackets and quotes, an unnamed peer as `unknown`."""
    if address == UNIX_PEER:
        return "unknown"
    return f'"[{address}]"' if ":" in address else address


def _quoted(text: str) -> str:
    """A value as in RFC 7239 §4: what is no token in quotes.  A host may hold `,`, `;` and `=`, but no quote."""
    return text if _TOKEN.fullmatch(text) else f'"{text}"'


def _port(scheme: str, host: str) -> str:
    port = host.rpartition("]")[2].partition(":")[2]
    return port or ("443" if scheme == "https" else "80")
