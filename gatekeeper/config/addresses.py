"""Addresses in settings: where we listen, where apps and people are.

Nothing here raises on odd text, and nothing is looked up.
"""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from gatekeeper.config.schema import Settings, Upstream
from gatekeeper.core.urls import is_valid_host, origin_of

_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f\\]")


def parse_listen(text: str) -> tuple[str, int] | None:
    """Host and port of `host:port`, `[v6]:port`; None for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not port.isascii() or int(port[:6]) > 65_535 or not host:
        return None
    return (host, int(port)) if is_valid_host(host) else None


def is_unix_socket(text: str) -> bool:
    """Whether this is `unix:/path`."""
    return text.startswith("unix:/") and not _NOT_IN_URLS.search(text)


def split_url(url: str) -> SplitResult | None:
    """The parts of a URL; None for what is none, controls, blanks and backslashes included (urlsplit drops some)."""
    if _NOT_IN_URLS.search(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def port_of(parts: SplitResult) -> int:
    """The port of an http(s) URL, its scheme's own where it names none."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def exact_origin(url: str) -> str | None:
    """The origin of an http(s) URL without user and password, as browsers send it; None for anything else."""
    parts = split_url(url)
    if parts is None or not is_valid_host(parts.netloc):
        return None
    return origin_of(url)


def named_upstreams(settings: Settings) -> dict[str, Upstream]:
    """All upstreams, by the path of their setting."""
    return {"upstream": settings.upstream} | {f"upstreams.{n}": u for n, u in settings.upstreams.items()}


def upstream_problem(upstream: Upstream) -> str | None:
    """What is wrong with an upstream's URL."""
    parts = split_url(upstream.url)
    if parts is None:
        return "this is no URL"
    if parts.scheme == "unix":
        return None if is_unix_socket(upstream.url) else "expected the path of a socket, like unix:/run/app.sock"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "expected scheme, host and port, like http://127.0.0.1:3000"
    if "@" in parts.netloc:
        return "a URL with user and password is not possible here"
    if parts.path not in ("", "/") or set(upstream.url) & set("?#"):
        return "an upstream has no path: requests keep their own"
    if not is_valid_host(parts.netloc):
        return "this is no host name; write names with other letters in their xn-- form"
    return "port 0 is none" if parts.port == 0 else None


def is_same_place(listen: tuple[str, int], url: str) -> bool:
    """Whether requests to this URL would come back to our own listener."""
    parts = split_url(url)
    if parts is None or port_of(parts) != listen[1]:
        return False
    ours, theirs = listen[0].strip("[]").lower(), parts.hostname or ""
    if ours in _ANY_ADDRESS:
        return is_loopback(theirs) or theirs in _ANY_ADDRESS
    # To connect to 0.0.0.0 is to connect to 127.0.0.1.
    here = {"localhost", "127.0.0.1", "::1", *_ANY_ADDRESS}
    return ours == theirs or (ours in here and theirs in here)


def is_same_listener(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether these two cannot be listened on at the same time.  Port 0 is any free one."""
    if one[1] != other[1] or one[1] == 0:
        return False
    hosts = {host.strip("[]").lower() for host, _ in (one, other)}
    if "localhost" in hosts:
        return hosts <= {"localhost", "127.0.0.1", "::1", *_ANY_ADDRESS}
    return len(hosts) == 1 or (bool(hosts & set(_ANY_ADDRESS)) and len({":" in host for host in hosts}) == 1)


def is_loopback_only(settings: Settings) -> bool:
    """Whether listener, upstreams and public URL are all on this machine: then weak secrets do no harm."""
    listen = parse_listen(settings.listen)
    hosts: list[str | None] = []
    if not is_unix_socket(settings.listen):
        hosts.append(listen[0].strip("[]") if listen else None)
    urls = [upstream.url for upstream in named_upstreams(settings).values()]
    for url in (*urls, *((settings.public_url,) if settings.public_url is not None else ())):
        parts = split_url(url)
        if not is_unix_socket(url):
            hosts.append(None if parts is None else parts.hostname)
    return all(host is not None and is_loopback(host) for host in hosts)


def is_loopback(host: str) -> bool:
    """Whether this host is the machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def trusts_everybody(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """Whether this is every address of its kind; `::ffff:0:0/96` is every IPv4 address."""
    mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None
    return network.prefixlen == 0 or (mapped and network.prefixlen <= 96)


def trust_everybody_together(networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether networks that are not everybody each add up to it, like 0.0.0.0/1 and 128.0.0.0/1."""
    fourth = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    sixth = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    merged_fourth, merged_sixth = ipaddress.collapse_addresses(fourth), ipaddress.collapse_addresses(sixth)
    return any(map(trusts_everybody, merged_fourth)) or any(map(trusts_everybody, merged_sixth))
