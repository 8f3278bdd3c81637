"""Assertions that must not count, each with the reason that is counted for it: the table for every framework."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gatekeeper.integrations.model import Reason
from tests.integrations.gate import KEY, NOW, STRANGER, Key, claims, encoded, header, mint


class Forgery(NamedTuple):
    name: str
    lines: tuple[str, ...]
    """The values of X-Auth-Assertion, one for each line."""
    reason: Reason


class Forger:
    """Makes them of a right assertion's claims and of its key; `stranger` is another key under the same id.

    `now` is the time in seconds since the epoch, at which the claims are right.
    """

    def __init__(self, key: Key, stranger: Key, usual: dict[str, Any], now: int) -> None:
        self.key = key
        self.stranger = stranger
        self.now = now
        self._usual = usual

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims but for these changes; None takes a claim away."""
        return {name: value for name, value in (self._usual | changes).items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        return header(**{"kid": self.key.kid} | changes)

    def mint(
        self,
        payload: dict[str, Any] | bytes | None = None,
        head: dict[str, Any] | bytes | None = None,
        *,
        key: Key | None = None,
    ) -> str:
        """An assertion, by default the right one."""
        payload, head = self._usual if payload is None else payload, self.header() if head is None else head
        return mint(payload, head, key=key or self.key)

    def forgeries(self) -> list[Forgery]:
        """All of them, each under a name of its own."""
        issuer = self._usual["iss"]
        swapped = encoded(self.claims(sub="user_2", user=self._another_user()))
        return [
            Forgery("alg-none", (self._unsigned("none"),), Reason.BAD_ALGORITHM),
            Forgery("alg-None", (self._unsigned("None"),), Reason.BAD_ALGORITHM),
            Forgery("alg-hs256-public-key-as-secret", (self._with_public_key_as_secret(),), Reason.BAD_ALGORITHM),
            Forgery("alg-rs256", (self.mint(head=self.header(alg="RS256")),), Reason.BAD_ALGORITHM),
            Forgery("alg-lower-case", (self.mint(head=self.header(alg="es256")),), Reason.BAD_ALGORITHM),
            Forgery("alg-list", (self.mint(head=self.header(alg=["ES256"])),), Reason.BAD_ALGORITHM),
            Forgery("alg-missing", (self.mint(head=self.header(alg=None)),), Reason.BAD_ALGORITHM),
            Forgery("other-key-same-kid", (self.mint(key=self.stranger),), Reason.BAD_SIGNATURE),
            Forgery("kid-unknown", (self.mint(head=self.header(kid="key-2"), key=self.stranger),), Reason.UNKNOWN_KEY),
            Forgery(
                "kid-path",
                (self.mint(head=self.header(kid="../../../../dev/null"), key=self.stranger),),
                Reason.UNKNOWN_KEY,
            ),
            Forgery(
                "kid-sql",
                (self.mint(head=self.header(kid="x' UNION SELECT 'key"), key=self.stranger),),
                Reason.UNKNOWN_KEY,
            ),
            Forgery(
                "kid-url",
                (self.mint(head=self.header(kid="http://evil.test/k"), key=self.stranger),),
                Reason.UNKNOWN_KEY,
            ),
            Forgery("kid-empty", (self.mint(head=self.header(kid=""), key=self.stranger),), Reason.UNKNOWN_KEY),
            Forgery("kid-missing", (self.mint(head=self.header(kid=None)),), Reason.BAD_TYPE),
            Forgery("kid-number", (self.mint(head=self.header(kid=1)),), Reason.BAD_TYPE),
            Forgery("kid-list", (self.mint(head=self.header(kid=[self.key.kid])),), Reason.BAD_TYPE),
            Forgery(
                "jwk-embedded",
                (self.mint(head=self.header(jwk=self.stranger.jwk()), key=self.stranger),),
                Reason.BAD_TYPE,
            ),
            Forgery(
                "jku", (self.mint(head=self.header(jku="https://evil.test/jwks"), key=self.stranger),), Reason.BAD_TYPE
            ),
            Forgery(
                "x5u", (self.mint(head=self.header(x5u="https://evil.test/pem"), key=self.stranger),), Reason.BAD_TYPE
            ),
            Forgery("x5c", (self.mint(head=self.header(x5c=["MIIB"]), key=self.stranger),), Reason.BAD_TYPE),
            Forgery("crit", (self.mint(head=self.header(crit=["exp"], exp=self.now + 9)),), Reason.BAD_TYPE),
            Forgery("payload-not-encoded", (self.mint(head=self.header(b64=False, crit=["b64"])),), Reason.BAD_TYPE),
            Forgery("compressed", (self.mint(head=self.header(zip="DEF")),), Reason.BAD_TYPE),
            Forgery("typ-jwt", (self.mint(head=self.header(typ="JWT")),), Reason.BAD_TYPE),
            Forgery("typ-access-token", (self.mint(head=self.header(typ="at+jwt")),), Reason.BAD_TYPE),
            Forgery("typ-missing", (self.mint(head=self.header(typ=None)),), Reason.BAD_TYPE),
            Forgery("typ-other-case", (self.mint(head=self.header(typ="GK+JWT")),), Reason.BAD_TYPE),
            Forgery(
                "expired",
                (self.mint(self.claims(iat=self.now - 200, nbf=self.now - 230, exp=self.now - 30)),),
                Reason.EXPIRED,
            ),
            Forgery("expired-long-ago", (self.mint(self.claims(exp=1)),), Reason.EXPIRED),
            Forgery("not-yet", (self.mint(self.claims(nbf=self.now + 600)),), Reason.NOT_YET),
            Forgery("exp-missing", (self.mint(self.claims(exp=None)),), Reason.MALFORMED),
            Forgery("exp-text", (self.mint(self.claims(exp="2999-01-01")),), Reason.MALFORMED),
            Forgery("exp-true", (self.mint(self.claims(exp=True)),), Reason.MALFORMED),
            Forgery("exp-nan", (self.mint(self.claims(exp=float("nan"))),), Reason.MALFORMED),
            Forgery("exp-infinite", (self.mint(self.claims(exp=float("inf"))),), Reason.MALFORMED),
            Forgery("exp-beyond-any-float", (self.mint(self.claims(exp=10**400)),), Reason.MALFORMED),
            Forgery("nbf-missing", (self.mint(self.claims(nbf=None)),), Reason.MALFORMED),
            Forgery("aud-other", (self.mint(self.claims(aud="gatekeeper:billing")),), Reason.WRONG_AUDIENCE),
            Forgery("aud-list", (self.mint(self.claims(aud=[issuer])),), Reason.WRONG_AUDIENCE),
            Forgery("aud-prefix", (self.mint(self.claims(aud=f"{issuer}.evil.test")),), Reason.WRONG_AUDIENCE),
            Forgery("aud-missing", (self.mint(self.claims(aud=None)),), Reason.WRONG_AUDIENCE),
            Forgery("iss-other", (self.mint(self.claims(iss="https://evil.test")),), Reason.WRONG_ISSUER),
            Forgery("iss-missing", (self.mint(self.claims(iss=None)),), Reason.WRONG_ISSUER),
            Forgery("signature-stripped", (self._parts(lambda p: [p[0], p[1], ""]),), Reason.BAD_SIGNATURE),
            Forgery("signature-part-missing", (self._parts(lambda p: p[:2]),), Reason.MALFORMED),
            Forgery("signature-flipped", (self._flipped(),), Reason.BAD_SIGNATURE),
            Forgery("signature-zero", (self._zeros(),), Reason.BAD_SIGNATURE),
            Forgery("signature-der", (self._in_der(),), Reason.BAD_SIGNATURE),
            Forgery("payload-swapped", (self._parts(lambda p: [p[0], swapped, p[2]]),), Reason.BAD_SIGNATURE),
            Forgery("payload-no-object", (self.mint(b"[]"),), Reason.MALFORMED),
            Forgery("payload-no-json", (self.mint(b"{"),), Reason.MALFORMED),
            Forgery("payload-nested", (self.mint(b"[" * 4000),), Reason.MALFORMED),
            Forgery("user-is-not-the-subject", (self.mint(self.claims(user=self._another_user())),), Reason.MALFORMED),
            Forgery("subject-missing", (self.mint(self.claims(sub=None)),), Reason.MALFORMED),
            Forgery(
                "session-of-another",
                (self.mint(self.claims(session={**self.claims()["session"], "userId": "u"})),),
                Reason.MALFORMED,
            ),
            Forgery("user-no-object", (self.mint(self.claims(user="user_1")),), Reason.MALFORMED),
            Forgery("roles-text", (self.mint(self.claims(roles="admin")),), Reason.MALFORMED),
            Forgery("roles-of-numbers", (self.mint(self.claims(roles=[1])),), Reason.MALFORMED),
            Forgery("header-no-json", (self.mint(head=b"{"),), Reason.MALFORMED),
            Forgery("header-list", (self.mint(head=json.dumps(["ES256"]).encode()),), Reason.MALFORMED),
            Forgery("header-nested", (self.mint(head=b"[" * 700),), Reason.MALFORMED),
            Forgery("header-not-utf8", (self.mint(head=b'{"alg":"\xff"}'),), Reason.MALFORMED),
            Forgery("header-bad-base64", (self._parts(lambda p: ["A", *p[1:]]),), Reason.MALFORMED),
            Forgery("header-huge", (self.mint(head=self.header(kid="k" * 2000)),), Reason.MALFORMED),
            Forgery("five-parts", (self._parts(lambda p: [*p, "AA", "AA"]),), Reason.MALFORMED),
            Forgery("bearer", (f"Bearer {self.mint()}",), Reason.MALFORMED),
            Forgery("json-serialisation", (json.dumps({"payload": "AA"}),), Reason.MALFORMED),
            Forgery("standard-base64", (self._parts(lambda p: [p[0], p[1] + "==", p[2]]),), Reason.MALFORMED),
            Forgery("blank-inside", (self._parts(lambda p: [p[0], p[1] + " ", p[2]]),), Reason.MALFORMED),
            Forgery("not-ascii", (self.mint() + "\xe9",), Reason.MALFORMED),
            Forgery("text", ("hello",), Reason.MALFORMED),
            Forgery("oversized", (self.mint(self.claims(padding="x" * 16 * 1024)),), Reason.OVERSIZED),
            Forgery("twice-the-same", (self.mint(), self.mint()), Reason.DUPLICATE),
            Forgery("twice-bad-first", (self._unsigned("none"), self.mint()), Reason.DUPLICATE),
            Forgery("joined", (f"{self.mint()},{self.mint()}",), Reason.DUPLICATE),
        ]

    def _unsigned(self, algorithm: str) -> str:
        return f"{encoded(self.header(alg=algorithm))}.{encoded(self.claims())}."

    def _with_public_key_as_secret(self) -> str:
        """The classic confusion: an HMAC whose key is what everybody can read."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        secret = self.key.private.public_key().public_bytes(serialization.Encoding.PEM, form)
        signed = f"{encoded(self.header(alg='HS256'))}.{encoded(self.claims())}"
        return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    def _parts(self, change: Callable[[list[str]], list[str]]) -> str:
        return ".".join(change(self.mint().split(".")))

    def _flipped(self) -> str:
        signed, _, signature = self.mint().rpartition(".")
        return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"

    def _zeros(self) -> str:
        """The signature r = s = 0, which a careless ECDSA takes for right (CVE-2022-21449)."""
        return f"{self.mint().rpartition('.')[0]}.{encoded(bytes(64))}"

    def _in_der(self) -> str:
        """The right signature in the other form that there is of it."""
        signed = self.mint().rpartition(".")[0]
        raw = self.key.sign(signed)
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        return f"{signed}.{encoded(der)}"

    def _another_user(self) -> dict[str, Any]:
        return {**self._usual["user"], "id": "user_2"}


FORGERIES = Forger(KEY, STRANGER, claims(), NOW).forgeries()

assert len({forgery.name for forgery in FORGERIES}) == len(FORGERIES)

every_forgery = pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
