"""From the bytes of a request head to the facts of the request, for every front end alike."""

from itertools import chain

from gatekeeper.core.forwarding import Forwarding, TrustedProxies, read_forwarding
from gatekeeper.core.headers import ClientHead, OwnNames, RawHeaders, read_head
from gatekeeper.core.model import Reason, RequestFacts, Target
from gatekeeper.core.urls import parse_target

_MEMO_LIMIT = 4096
_MEMO_LENGTH = 256

_targets: dict[str, Target | Reason] = {}


class Parsed:
    """A request that was understood: the facts to judge it by, and what forwarding it needs besides."""

    __slots__ = ("facts", "forwarding", "head")

    def __init__(self, facts: RequestFacts, head: ClientHead, forwarding: Forwarding) -> None:
        self.facts = facts
        self.head = head
        self.forwarding = forwarding


def read_request(
    method: str,
    target: str,
    headers: RawHeaders,
    *,
    http_1_0: bool,
    peer: str,
    scheme: str,
    trusted: TrustedProxies,
    default_host: str,
    head_limit: int,
    own: OwnNames | None = None,
) -> Parsed | Reason:
    """The request's facts, or why it is refused as malformed.

    `peer` is the socket's address or `unix`; `scheme` is that of the listener.  `default_host` stands in for the Host
    that an HTTP/1.0 client need not send.  `head_limit` is the longest head in bytes; for `own`, see `read_head`.
    """
    size = fields_size(headers)
    if len(target) + size > head_limit:
        return Reason.HEAD_TOO_LARGE
    parsed_target = read_target(method, target)
    if not isinstance(parsed_target, Target):
        return parsed_target
    head = read_head(headers, http_1_0=http_1_0, own=own)
    if isinstance(head, Reason):
        return head
    head.host = head.host or default_host
    head.size = size
    return with_facts(method, parsed_target, head, peer=peer, scheme=scheme, trusted=trusted)


def fields_size(headers: RawHeaders) -> int:
    """The bytes of all names and values."""
    return sum(map(len, chain.from_iterable(headers)))


def with_facts(
    method: str, target: Target, head: ClientHead, *, peer: str, scheme: str, trusted: TrustedProxies
) -> Parsed:
    """The request with this target and head, and the facts that follow from them."""
    forwarding = read_forwarding(peer, scheme, head.host, head.given, trusted)
    facts = RequestFacts(
        method,
        target,
        forwarding.scheme,
        forwarding.host,
        forwarding.client_address,
        head.cookie,
        head.accept,
        head.authorization,
        head.origin,
        head.referer,
        head.sec_fetch_mode,
        head.sec_fetch_site,
        head.access_control_request_method,
        head.wants_websocket,
        head.framing not in ("none", 0),
        head.accept_language,
    )
    return Parsed(facts, head, forwarding)


def read_target(method: str, raw: str) -> Target | Reason:
    """`parse_target`, remembered for short targets: the same few are asked for over and over."""
    if len(raw) > _MEMO_LENGTH or raw == "*":
        return parse_target(method, raw)
    target = _targets.get(raw)
    if target is None:
        if len(_targets) >= _MEMO_LIMIT:
            _targets.clear()
        target = _targets[raw] = parse_target(method, raw)
    return target
