"""Who is asking, by the gate's signed assertion: the check that every framework's module calls.

Strict, since one gate writes what is read here: a compact JWS with exactly the header parameters `alg`, `kid` and
`typ`, one algorithm, one issuer, one audience, and a lifetime.  Whatever is not that gives no user and one counted
reason, never an exception.  Plain headers count only for peers that are named.
"""

import binascii
import json
import math
import re
import threading
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, cast
from urllib.parse import urlsplit

import jwt
from jwt.api_jws import PyJWS

from gatekeeper.integrations.documents import (
    PLAIN_HEADERS,
    USER_ID,
    DocumentError,
    read_plain_headers,
    read_session,
    read_user,
)
from gatekeeper.integrations.guard import refusal
from gatekeeper.integrations.jwks import Fetch, KeySet, fetch_keys
from gatekeeper.integrations.model import Answer, Identity, Reason, Request

HEADER = "X-Auth-Assertion"
TYPE = "gk+jwt"
KEYS_PATH = "/.well-known/gatekeeper/jwks.json"
MAX_BYTES = 16 * 1024
"""The longest assertion that is looked at; those that the gate writes are shorter than 8 KiB."""

MAX_PROVEN = 1024
"""Assertions that are remembered once they are proven, since the gate sends the same one for a minute."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]{1,1024}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_PARAMETERS = {"alg", "kid", "typ"}
_PORTS = {"http": 80, "https": 443}
_UNREADABLE = (jwt.PyJWTError, ValueError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion of the right form, not yet verified."""

    token: str
    kid: str


@dataclass(frozen=True, slots=True)
class _Proven:
    """An assertion whose signature is right: whom it tells of, and from when to when."""

    key: jwt.PyJWK
    identity: Identity
    begins: float
    ends: float


class Verifier:
    """Tells who sent a request; one for each app, shared by all its threads and event loops.

    `issuer` is the gate's `public_url`; `audience` the same, or `gatekeeper:NAME` where the gate knows the app as the
    named upstream NAME.  `jwks_url` is where this app reaches the gate's keys, by default below `issuer`.
    `header` carries the assertion.  `trust_headers_from` lists addresses and networks whose plain identity headers are
    believed where there is none.  `sign_in` is the gate's setting of that name.  `clock` gives seconds since the epoch,
    `timer` seconds that never go back.  Raises ValueError for settings that cannot be meant.
    """

    def __init__(
        self,
        issuer: str,
        *,
        audience: str | None = None,
        jwks_url: str | None = None,
        algorithm: str = "ES256",
        header: str = HEADER,
        leeway_s: float = 30.0,
        sign_in: str = "/sign-in",
        trust_headers_from: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        fetch: Fetch = fetch_keys,
    ) -> None:
        self.issuer = _origin(issuer)
        self.audience = self.issuer if audience is None else audience
        self.sign_in = sign_in
        self.reasons: Counter[Reason] = Counter()
        self._keys = KeySet(jwks_url or self.issuer + KEYS_PATH, algorithm, fetch=fetch, timer=timer)
        self._algorithm = algorithm
        self._header = header.lower()
        self._jws = PyJWS(algorithms=[algorithm])
        self._leeway_s = leeway_s
        self._clock = clock
        self._trusted = _networks(trust_headers_from)
        self._lock = threading.Lock()
        self._proven: dict[str, _Proven] = {}

    def identify(self, request: Request) -> Identity:
        """Who sent this request.  May wait for the gate's keys in this thread, if its key is unknown."""
        read = self._read(request)
        return self._count(self._verify(read, self._keys.find(read.kid)) if isinstance(read, Assertion) else read)

    async def identify_async(self, request: Request) -> Identity:
        """As `identify`; keys are fetched beside the event loop."""
        read = self._read(request)
        if isinstance(read, Assertion):
            read = self._verify(read, await self._keys.find_async(read.kid))
        return self._count(read)

    def refusal(self, request: Request, identity: Identity) -> Answer:
        """What a request without a user gets where one is needed: as from the gate."""
        return refusal(request, identity.reason or Reason.MISSING, sign_in=self.sign_in, own_origin=self.issuer)

    def _read(self, request: Request) -> Assertion | Identity | Reason:
        lines = request.lines(self._header)
        if not lines:
            return self._read_plain(request)
        # Some servers join the lines of a header with commas, which no assertion has.
        if len(lines) > 1 or "," in lines[0]:
            return Reason.DUPLICATE
        return read_assertion(lines[0], self._algorithm)

    def _read_plain(self, request: Request) -> Identity | Reason:
        if not self._trusted or not request.lines(USER_ID):
            return Reason.MISSING
        if not self._trusts(request.peer):
            return Reason.UNTRUSTED_PEER
        if any(len(request.lines(name)) > 1 for name in PLAIN_HEADERS):
            return Reason.DUPLICATE
        user = read_plain_headers(request)
        return Reason.MALFORMED if user is None else Identity(user, None)

    def _trusts(self, peer: str | None) -> bool:
        try:
            address = ip_address(peer or "")
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)

    def _verify(self, assertion: Assertion, key: jwt.PyJWK | Reason) -> Identity | Reason:
        if isinstance(key, Reason):
            return key
        try:
            proven = self._recall(assertion, key)
        except jwt.InvalidSignatureError:
            return Reason.BAD_SIGNATURE
        except _UNREADABLE:
            return Reason.MALFORMED
        if isinstance(proven, Reason):
            return proven
        now = self._clock()
        if proven.ends + self._leeway_s <= now:
            return Reason.EXPIRED
        return Reason.NOT_YET if proven.begins - self._leeway_s > now else proven.identity

    def _recall(self, assertion: Assertion, key: jwt.PyJWK) -> "_Proven | Reason":
        """As `_prove`, but not a second time while the key is the same."""
        known = self._proven.get(assertion.token)
        if known is not None and known.key is key:
            return known
        proven = self._prove(assertion, key)
        if isinstance(proven, _Proven):
            if len(self._proven) >= MAX_PROVEN:
                self._proven.clear()
            self._proven[assertion.token] = proven
        return proven

    def _prove(self, assertion: Assertion, key: jwt.PyJWK) -> "_Proven | Reason":
        """What holds of an assertion at any time.  Raises one of _UNREADABLE."""
        signed = self._jws.decode_complete(assertion.token, key, algorithms=[self._algorithm])
        claims = _json_object(signed["payload"])
        if claims.get("iss") != self.issuer:
            return Reason.WRONG_ISSUER
        if claims.get("aud") != self.audience:
            return Reason.WRONG_AUDIENCE
        user = read_user(claims)
        identity = Identity(user, read_session(claims, user))
        return _Proven(key, identity, _seconds(claims, "nbf"), _seconds(claims, "exp"))

    def _count(self, read: Identity | Reason) -> Identity:
        if isinstance(read, Identity):
            return read
        with self._lock:
            self.reasons[read] += 1
        return Identity(None, None, read)


def read_assertion(token: str, algorithm: str) -> Assertion | Reason:
    """An assertion that may be verified, or why not.  Nothing in it is believed yet, and no key is looked for."""
    if len(token) > MAX_BYTES:
        return Reason.OVERSIZED
    if _COMPACT.fullmatch(token) is None:
        return Reason.MALFORMED
    try:
        header = _json_object(urlsafe_b64decode(token.partition(".")[0] + "=="))
    except (binascii.Error, ValueError, RecursionError):
        return Reason.MALFORMED
    kid = header.get("kid")
    if header.get("alg") != algorithm:
        return Reason.BAD_ALGORITHM
    if header.get("typ") != TYPE or header.keys() != _PARAMETERS or not isinstance(kid, str):
        return Reason.BAD_TYPE
    return Assertion(token, kid)


def _json_object(text: bytes) -> dict[str, Any]:
    document: Any = json.loads(text)
    if not isinstance(document, dict):
        raise DocumentError("a JWT's parts are objects")
    return cast("dict[str, Any]", document)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DocumentError(f"{name} is no number")
    return float(value)


def _origin(url: str) -> str:
    """As the gate writes it: in lower-case, without a default port."""
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.scheme not in _PORTS or not host or parts.path.strip("/") or parts.query:
        raise ValueError("the issuer must be the gate's public_url, like https://app.example.com")
    literal = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{literal}" + ("" if port in (None, _PORTS[parts.scheme]) else f":{port}")


def _networks(names: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    if isinstance(names, str):
        raise ValueError("trust_headers_from must be a list of addresses and networks")
    return tuple(ip_network(name) for name in names)
