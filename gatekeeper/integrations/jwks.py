"""The gate's public keys, as the app knows them: fetched when needed, kept while the gate is away.

A request whose key is known does not wait: when the keys have grown old, they are fetched beside it.  Only after a
while without requests it does, since a key may have been withdrawn meanwhile.  One with an unknown key waits for one
fetch that all such requests share, and starts it itself at most once a minute, so that invented key ids cost the gate
next to nothing.  Ages are counted on a clock that never goes back.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, NamedTuple, cast
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener, getproxies

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gatekeeper.integrations.model import Reason

MAX_BYTES = 64 * 1024
MAX_KEYS = 16
TIMEOUT_S = 5.0
"""The longest that one step of a fetch may take, and that a request waits for another's fetch."""

REFETCH_S = 60.0
"""Seconds between two fetches for unknown keys, and the least age at which keys are fetched again."""

RETRY_S = 5.0
"""Seconds between two tries while there are no keys at all."""

MAX_AGE_S = 300.0
"""How long keys count as new where the gate does not say."""

STALE_S = 300.0
"""How long keys that have grown old are believed before they are fetched again."""

_LONGEST_AGE_S = 86_400.0
_LOST_S = 3 * TIMEOUT_S  # a flight that has not landed by then died with its thread, as after a fork
_FITTING = {
    "ES256": {"kty": "EC", "crv": "P-256"},
    "EdDSA": {"kty": "OKP", "crv": "Ed25519"},
    "RS256": {"kty": "RSA"},
}
ALGORITHMS = tuple(_FITTING)
_MIN_RSA_BITS = 2048
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=([0-9]{1,9})(?:$|[\s,])", re.IGNORECASE)


class Fetched(NamedTuple):
    """An answer with keys: the JWKS, and the value of its Cache-Control header."""

    body: bytes
    cache_control: str | None = None


Fetch = Callable[[str], Fetched]
"""Reads the JWKS at a URL.  Raises OSError or ValueError when it cannot."""


def fetch_keys(url: str, *, timer: Callable[[], float] = time.monotonic) -> Fetched:
    """The JWKS at this URL, read with the standard library.  Redirects are not followed.  A proxy that the environment
    names is used for https alone.

    Each step waits for TIMEOUT_S at most, the body as a whole, too.  Raises OSError or ValueError.
    """
    deadline = timer() + TIMEOUT_S
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310  (http or https, see KeySet)
    try:
        with _opener.open(request, timeout=TIMEOUT_S) as answer:
            body = bytearray()
            while piece := answer.read1(MAX_BYTES):
                body += piece
                if len(body) > MAX_BYTES:
                    raise ValueError("the keys are too long")
                if timer() > deadline:
                    raise TimeoutError("the keys come too slowly")
            return Fetched(bytes(body), answer.headers.get("Cache-Control"))
    except HTTPException as exc:
        raise OSError("no HTTP answer") from exc


def read_keys(body: bytes, algorithm: str) -> dict[str, jwt.PyJWK]:
    """The keys of a JWKS that fit the algorithm, by `kid`.  Of the same `kid` the first counts.

    Raises ValueError where there is none.
    """
    try:
        document: Any = json.loads(body)
    except RecursionError as exc:
        raise ValueError("the keys are nested too deep") from exc
    listed: object = cast("dict[str, Any]", document).get("keys") if isinstance(document, dict) else None
    keys: dict[str, jwt.PyJWK] = {}
    for entry in cast("list[object]", listed)[:MAX_KEYS] if isinstance(listed, list) else []:
        key = _read_key(cast("dict[str, Any]", entry), algorithm) if isinstance(entry, dict) else None
        if key is not None:
            keys.setdefault(str(key.key_id), key)
    if not keys:
        raise ValueError(f"no key for {algorithm} among them")
    return keys


@dataclass
class _Flight:
    """One fetch, which any number of requests may wait for."""

    began: float
    is_for_unknown: bool
    landed: "Future[None]"


class KeySet:
    """The keys at one URL for one algorithm, shared by all threads and event loops of a process.

    Raises ValueError for a URL that is not http or https, or an algorithm that is none of ALGORITHMS.
    """

    def __init__(
        self, url: str, algorithm: str, *, fetch: Fetch = fetch_keys, timer: Callable[[], float] = time.monotonic
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("the keys' URL must be http or https")
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}")
        self._url = url
        self._algorithm = algorithm
        self._fetch = fetch
        self._timer = timer
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._flight: _Flight | None = None
        self._has_failed = True  # so far
        self._refresh_at = 0.0  # for known keys
        self._seek_at: float | None = None  # for unknown keys; None before the first fetch

    def find(self, kid: str) -> jwt.PyJWK | Reason:
        """The key of this id; or UNKNOWN_KEY, or KEYS_UNAVAILABLE.  May fetch in this thread."""
        key, flight, is_new = self._look(kid)
        if key is not None:
            if is_new and flight is not None:
                self._fly_beside(flight)
            return key
        if flight is not None and is_new:
            self._fly(flight)
        elif flight is not None:
            _wait_for(flight)
        return self._found(kid)

    async def find_async(self, kid: str) -> jwt.PyJWK | Reason:
        """As `find`, but a fetch runs in a thread of its own, and the event loop goes on."""
        key, flight, is_new = self._look(kid)
        if flight is not None and is_new:
            self._fly_beside(flight)
        if key is not None:
            return key
        if flight is not None:
            await asyncio.wait([asyncio.wrap_future(flight.landed)], timeout=TIMEOUT_S)
        return self._found(kid)

    def _look(self, kid: str) -> tuple[jwt.PyJWK | None, _Flight | None, bool]:
        """The key if it is known and can be believed; the fetch to wait for, if any; and whether the caller has to
        make it.
        """
        with self._lock:
            key, now = self._keys.get(kid), self._timer()
            believed = None if self._refresh_at + STALE_S <= now else key
            if self._flight is not None and now - self._flight.began < _LOST_S:
                return believed, self._flight, False
            is_due = self._refresh_at <= now if key is not None else self._seek_at is None or self._seek_at <= now
            if not is_due:
                return key, None, False
            if key is None:
                self._seek_at = now + (REFETCH_S if self._keys else RETRY_S)
            self._flight = _Flight(now, key is None, Future())
            self._flight.landed.set_running_or_notify_cancel()  # so that no waiter can cancel it
            return believed, self._flight, True

    def _found(self, kid: str) -> jwt.PyJWK | Reason:
        with self._lock:
            is_open = self._has_failed or self._flight is not None
            return self._keys.get(kid) or (Reason.KEYS_UNAVAILABLE if is_open else Reason.UNKNOWN_KEY)

    def _fly_beside(self, flight: _Flight) -> None:
        try:
            threading.Thread(target=self._fly, args=(flight,), name="gatekeeper-keys", daemon=True).start()
        except RuntimeError:  # there are too many threads, or the process ends
            self._land(flight, None, REFETCH_S)

    def _fly(self, flight: _Flight) -> None:
        """Fetch; keep what there was when that fails."""
        keys: dict[str, jwt.PyJWK] | None = None
        age_s = MAX_AGE_S
        try:
            fetched = self._fetch(self._url)
            keys = read_keys(fetched.body, self._algorithm)
            age_s = _age_of(fetched.cache_control)
        except (OSError, ValueError):
            age_s = REFETCH_S
        finally:
            self._land(flight, keys, age_s)

    def _land(self, flight: _Flight, keys: dict[str, jwt.PyJWK] | None, age_s: float) -> None:
        with self._lock:
            self._keys = keys or self._keys
            self._has_failed = keys is None
            self._refresh_at = self._timer() + age_s
            if keys is not None and flight.is_for_unknown:
                self._seek_at = flight.began + REFETCH_S
            if self._flight is flight:
                self._flight = None
        flight.landed.set_result(None)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


# What comes unencrypted comes straight from the gate: another host could put keys of its own in their place.
_opener = build_opener(_NoRedirects, ProxyHandler({kind: url for kind, url in getproxies().items() if kind == "https"}))


def _read_key(entry: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    kid = entry.get("kid")
    is_fit = all(entry.get(name) == value for name, value in _FITTING[algorithm].items())
    is_meant = entry.get("use", "sig") == "sig" and entry.get("alg", algorithm) == algorithm
    if not isinstance(kid, str) or not is_fit or not is_meant or "d" in entry:
        return None
    try:
        key = jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    is_short = isinstance(key.key, RSAPublicKey) and key.key.key_size < _MIN_RSA_BITS
    return None if is_short else key


def _age_of(cache_control: str | None) -> float:
    """Seconds for which keys count as new: `max-age`, held between a minute and a day."""
    said = _MAX_AGE.search(cache_control or "")
    return MAX_AGE_S if said is None else min(max(float(said[1]), REFETCH_S), _LONGEST_AGE_S)


def _wait_for(flight: _Flight) -> None:
    try:
        flight.landed.result(TIMEOUT_S)
    except FutureTimeout:
        return
