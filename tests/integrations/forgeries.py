"""Assertions that must not count, each with the reason that is counted for it: the table for every framework."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization

from gatekeeper.integrations.model import Reason
from tests.integrations.gate import KEY, NOW, RECORD, STRANGER, claims, encoded, header, mint


class Forgery(NamedTuple):
    name: str
    lines: tuple[str, ...]
    """The values of X-Auth-Assertion, one for each line."""
    reason: Reason


def _unsigned(algorithm: str) -> str:
    return f"{encoded(header(alg=algorithm))}.{encoded(claims())}."


def _with_public_key_as_secret() -> str:
    """The classic confusion: an HMAC whose key is what everybody can read."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    secret = KEY.private.public_key().public_bytes(serialization.Encoding.PEM, form)
    signed = f"{encoded(header(alg='HS256'))}.{encoded(claims())}"
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _parts(change: Callable[[list[str]], list[str]]) -> str:
    return ".".join(change(mint().split(".")))


def _flipped() -> str:
    signed, _, signature = mint().rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def _zeros() -> str:
    """The signature r = s = 0, which a careless ECDSA takes for right (CVE-2022-21449)."""
    return f"{mint().rpartition('.')[0]}.{encoded(bytes(64))}"


def _in_der() -> str:
    """The right signature in the other form that there is of it."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    signed = mint().rpartition(".")[0]
    raw = KEY.sign(signed)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    return f"{signed}.{encoded(der)}"


def _another_user() -> dict[str, Any]:
    return {**claims()["user"], "id": "user_2"}


_SWAPPED = encoded(claims(sub="user_2", user=_another_user()))

FORGERIES = [
    Forgery("alg-none", (_unsigned("none"),), Reason.BAD_ALGORITHM),
    Forgery("alg-None", (_unsigned("None"),), Reason.BAD_ALGORITHM),
    Forgery("alg-hs256-public-key-as-secret", (_with_public_key_as_secret(),), Reason.BAD_ALGORITHM),
    Forgery("alg-rs256", (mint(head=header(alg="RS256")),), Reason.BAD_ALGORITHM),
    Forgery("alg-lower-case", (mint(head=header(alg="es256")),), Reason.BAD_ALGORITHM),
    Forgery("alg-list", (mint(head=header(alg=["ES256"])),), Reason.BAD_ALGORITHM),
    Forgery("alg-missing", (mint(head=header(alg=None)),), Reason.BAD_ALGORITHM),
    Forgery("other-key-same-kid", (mint(key=STRANGER),), Reason.BAD_SIGNATURE),
    Forgery("kid-unknown", (mint(head=header(kid="key-2"), key=STRANGER),), Reason.UNKNOWN_KEY),
    Forgery("kid-path", (mint(head=header(kid="../../../../dev/null"), key=STRANGER),), Reason.UNKNOWN_KEY),
    Forgery("kid-sql", (mint(head=header(kid="x' UNION SELECT 'key"), key=STRANGER),), Reason.UNKNOWN_KEY),
    Forgery("kid-url", (mint(head=header(kid="http://evil.test/k"), key=STRANGER),), Reason.UNKNOWN_KEY),
    Forgery("kid-empty", (mint(head=header(kid=""), key=STRANGER),), Reason.UNKNOWN_KEY),
    Forgery("kid-missing", (mint(head=header(kid=None)),), Reason.BAD_TYPE),
    Forgery("kid-number", (mint(head=header(kid=1)),), Reason.BAD_TYPE),
    Forgery("kid-list", (mint(head=header(kid=[KEY.kid])),), Reason.BAD_TYPE),
    Forgery("jwk-embedded", (mint(head=header(jwk=STRANGER.jwk()), key=STRANGER),), Reason.BAD_TYPE),
    Forgery("jku", (mint(head=header(jku="https://evil.test/jwks"), key=STRANGER),), Reason.BAD_TYPE),
    Forgery("x5u", (mint(head=header(x5u="https://evil.test/pem"), key=STRANGER),), Reason.BAD_TYPE),
    Forgery("x5c", (mint(head=header(x5c=["MIIB"]), key=STRANGER),), Reason.BAD_TYPE),
    Forgery("crit", (mint(head=header(crit=["exp"], exp=NOW + 9)),), Reason.BAD_TYPE),
    Forgery("payload-not-encoded", (mint(head=header(b64=False, crit=["b64"])),), Reason.BAD_TYPE),
    Forgery("compressed", (mint(head=header(zip="DEF")),), Reason.BAD_TYPE),
    Forgery("typ-jwt", (mint(head=header(typ="JWT")),), Reason.BAD_TYPE),
    Forgery("typ-access-token", (mint(head=header(typ="at+jwt")),), Reason.BAD_TYPE),
    Forgery("typ-missing", (mint(head=header(typ=None)),), Reason.BAD_TYPE),
    Forgery("typ-other-case", (mint(head=header(typ="GK+JWT")),), Reason.BAD_TYPE),
    Forgery("expired", (mint(claims(iat=NOW - 200, nbf=NOW - 230, exp=NOW - 30)),), Reason.EXPIRED),
    Forgery("expired-long-ago", (mint(claims(exp=1)),), Reason.EXPIRED),
    Forgery("not-yet", (mint(claims(nbf=NOW + 31)),), Reason.NOT_YET),
    Forgery("exp-missing", (mint(claims(exp=None)),), Reason.MALFORMED),
    Forgery("exp-text", (mint(claims(exp="2999-01-01")),), Reason.MALFORMED),
    Forgery("exp-true", (mint(claims(exp=True)),), Reason.MALFORMED),
    Forgery("exp-nan", (mint(claims(exp=float("nan"))),), Reason.MALFORMED),
    Forgery("exp-infinite", (mint(claims(exp=float("inf"))),), Reason.MALFORMED),
    Forgery("exp-beyond-any-float", (mint(claims(exp=10**400)),), Reason.MALFORMED),
    Forgery("nbf-missing", (mint(claims(nbf=None)),), Reason.MALFORMED),
    Forgery("aud-other", (mint(claims(aud="gatekeeper:billing")),), Reason.WRONG_AUDIENCE),
    Forgery("aud-list", (mint(claims(aud=["https://app.example.com"])),), Reason.WRONG_AUDIENCE),
    Forgery("aud-prefix", (mint(claims(aud="https://app.example.com.evil.test")),), Reason.WRONG_AUDIENCE),
    Forgery("aud-missing", (mint(claims(aud=None)),), Reason.WRONG_AUDIENCE),
    Forgery("iss-other", (mint(claims(iss="https://evil.test")),), Reason.WRONG_ISSUER),
    Forgery("iss-missing", (mint(claims(iss=None)),), Reason.WRONG_ISSUER),
    Forgery("signature-stripped", (_parts(lambda p: [p[0], p[1], ""]),), Reason.BAD_SIGNATURE),
    Forgery("signature-part-missing", (_parts(lambda p: p[:2]),), Reason.MALFORMED),
    Forgery("signature-flipped", (_flipped(),), Reason.BAD_SIGNATURE),
    Forgery("signature-zero", (_zeros(),), Reason.BAD_SIGNATURE),
    Forgery("signature-der", (_in_der(),), Reason.BAD_SIGNATURE),
    Forgery("payload-swapped", (_parts(lambda p: [p[0], _SWAPPED, p[2]]),), Reason.BAD_SIGNATURE),
    Forgery("payload-no-object", (mint(b"[]"),), Reason.MALFORMED),
    Forgery("payload-no-json", (mint(b"{"),), Reason.MALFORMED),
    Forgery("payload-nested", (mint(b"[" * 4000),), Reason.MALFORMED),
    Forgery("user-is-not-the-subject", (mint(claims(user=_another_user())),), Reason.MALFORMED),
    Forgery("subject-missing", (mint(claims(sub=None)),), Reason.MALFORMED),
    Forgery("session-of-another", (mint(claims(session={**claims()["session"], "userId": "u"})),), Reason.MALFORMED),
    Forgery("user-no-object", (mint(claims(user="user_1")),), Reason.MALFORMED),
    Forgery("roles-text", (mint(claims(roles="admin")),), Reason.MALFORMED),
    Forgery("roles-of-numbers", (mint(claims(roles=[1])),), Reason.MALFORMED),
    Forgery("header-no-json", (mint(head=b"{"),), Reason.MALFORMED),
    Forgery("header-list", (mint(head=json.dumps(["ES256"]).encode()),), Reason.MALFORMED),
    Forgery("header-nested", (mint(head=b"[" * 700),), Reason.MALFORMED),
    Forgery("header-not-utf8", (mint(head=b'{"alg":"\xff"}'),), Reason.MALFORMED),
    Forgery("header-bad-base64", (_parts(lambda p: ["A", *p[1:]]),), Reason.MALFORMED),
    Forgery("header-huge", (mint(head=header(kid="k" * 2000)),), Reason.MALFORMED),
    Forgery("five-parts", (_parts(lambda p: [*p, "AA", "AA"]),), Reason.MALFORMED),
    Forgery("bearer", (f"Bearer {mint()}",), Reason.MALFORMED),
    Forgery("json-serialisation", (json.dumps({"payload": "AA"}),), Reason.MALFORMED),
    Forgery("standard-base64", (_parts(lambda p: [p[0], p[1] + "==", p[2]]),), Reason.MALFORMED),
    Forgery("blank-inside", (_parts(lambda p: [p[0], p[1] + " ", p[2]]),), Reason.MALFORMED),
    Forgery("not-ascii", (mint() + "\xe9",), Reason.MALFORMED),
    Forgery("text", ("hello",), Reason.MALFORMED),
    Forgery("oversized", (mint(claims(padding="x" * 16 * 1024)),), Reason.OVERSIZED),
    Forgery("twice-the-same", (mint(), mint()), Reason.DUPLICATE),
    Forgery("twice-bad-first", (_unsigned("none"), mint()), Reason.DUPLICATE),
    Forgery("joined", (f"{mint()},{mint()}",), Reason.DUPLICATE),
]

assert RECORD.user.id == "user_1"
assert len({forgery.name for forgery in FORGERIES}) == len(FORGERIES)

every_forgery = pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
