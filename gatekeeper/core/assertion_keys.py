"""The keys that sign assertions, three at a time: the only module that sees one.

Knows no file, no clock and no request.  `current` signs; `next` is published before it ever signs, and `previous` for
as long as something that it signed may be valid: whoever remembers the published set needs no other to verify by.
Formats: JWS compact serialisation (RFC 7515 §7.1), JWK (RFC 7517, 7518 §6, 8037 §2), thumbprints (RFC 7638).
"""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gatekeeper.core.errors import KeysUnusable

Algorithm = Literal["ES256", "EdDSA", "RS256"]
State = Literal["current", "next", "previous"]

JWKS_PATH = "/.well-known/gatekeeper/jwks.json"
JWKS_MAX_AGE_S = 300
"""How long whoever verifies may remember the published set."""

MIN_ROTATION_MS = (JWKS_MAX_AGE_S + 10) * 1000
"""How long a key must have been published before it signs; ten seconds for processes that notice a rotation late."""

TYPE = "gk+jwt"
"""The `typ` of assertions: none is taken for a token of another kind."""

_RSA_BITS = 2048
_P256_BYTES = 32

_Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class SigningKey:
    """A private key.  `kid` is its RFC 7638 thumbprint; `created_ms` when it was made, since the epoch."""

    def __init__(self, private: _Private, created_ms: int) -> None:
        self._private = private
        self.created_ms = created_ms
        self.algorithm: Algorithm = _algorithm_of(private)
        self._members = _public_members(private)
        self.kid = _encoded(hashlib.sha256(msgspec.json.encode(self._members, order="sorted")).digest())
        header = {"alg": self.algorithm, "kid": self.kid, "typ": TYPE}
        self._head = _encoded(msgspec.json.encode(header)) + "."

    def __repr__(self) -> str:
        return f"<SigningKey {self.algorithm} {self.kid}>"

    @classmethod
    def make(cls, algorithm: Algorithm, now_ms: int) -> "SigningKey":
        """A new key.  One for RS256 takes a tenth of a second, others no time."""
        if algorithm == "ES256":
            return cls(ec.generate_private_key(ec.SECP256R1()), now_ms)
        if algorithm == "EdDSA":
            return cls(ed25519.Ed25519PrivateKey.generate(), now_ms)
        return cls(rsa.generate_private_key(65537, _RSA_BITS), now_ms)

    @classmethod
    def from_pem(cls, pem: str, created_ms: int) -> "SigningKey":
        """The key that stands in this text.  Raises KeysUnusable."""
        try:
            private = serialization.load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise KeysUnusable("a key in it is no PEM private key without a password") from exc
        if not isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
            raise KeysUnusable("a key in it is for none of ES256, EdDSA, RS256")
        return cls(private, created_ms)

    def to_pem(self) -> str:
        """The private key as PKCS #8 text, not encrypted."""
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self._private.private_bytes(serialization.Encoding.PEM, form, plain).decode()

    def public_jwk(self) -> dict[str, str]:
        """The public key as a JWK."""
        return {**self._members, "use": "sig", "alg": self.algorithm, "kid": self.kid}

    def sign(self, payload: bytes) -> str:
        """The payload, signed: a JWS in compact serialisation."""
        signed = self._head + _encoded(payload)
        return f"{signed}.{_encoded(self._signature(signed.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        private = self._private
        if isinstance(private, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(private.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return private.sign(data)
        return private.sign(data, padding.PKCS1v15(), hashes.SHA256())


@dataclass(frozen=True)
class KeyRing:
    """The keys of a gate and all of its replicas.  The first one has no `previous`."""

    current: SigningKey
    next: SigningKey
    previous: SigningKey | None = None

    @classmethod
    def make(cls, algorithm: Algorithm, now_ms: int) -> "KeyRing":
        return cls(SigningKey.make(algorithm, now_ms), SigningKey.make(algorithm, now_ms))

    @property
    def may_rotate_from_ms(self) -> int:
        """The moment from which on everybody may know `next`."""
        return self.next.created_ms + MIN_ROTATION_MS

    def rotated(self, algorithm: Algorithm, now_ms: int) -> "KeyRing":
        """The ring in which `next` signs, and a new key waits."""
        return KeyRing(current=self.next, next=SigningKey.make(algorithm, now_ms), previous=self.current)

    def states(self) -> list[tuple[State, SigningKey]]:
        """Each key with what it is, in the order of time."""
        found: list[tuple[State, SigningKey]] = [("current", self.current), ("next", self.next)]
        return found if self.previous is None else [("previous", self.previous), *found]

    def jwks(self) -> bytes:
        """The published set (RFC 7517 §5), `current` first."""
        keys = [self.current, self.next] if self.previous is None else [self.current, self.next, self.previous]
        return msgspec.json.encode({"keys": [key.public_jwk() for key in keys]})

    def encode(self) -> bytes:
        """The ring with its private keys, as `decode` reads it."""
        keys = tuple(_StoredKey(state, key.created_ms, key.to_pem()) for state, key in self.states())
        return msgspec.json.format(msgspec.json.encode(_StoredRing(1, keys)), indent=2) + b"\n"

    @classmethod
    def decode(cls, raw: bytes) -> "KeyRing":
        """The ring that was encoded.  Raises KeysUnusable, whose message quotes nothing of it."""
        try:
            stored = msgspec.json.decode(raw, type=_StoredRing)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise KeysUnusable("it is not what `gatekeeper keys rotate` writes") from exc
        keys = {key.state: SigningKey.from_pem(key.pem, key.created_ms) for key in stored.keys}
        if stored.version != 1 or len(keys) < len(stored.keys) or not {"current", "next"} <= keys.keys():
            raise KeysUnusable("it does not hold one current and one next key")
        return cls(keys["current"], keys["next"], keys.get("previous"))


class _StoredKey(msgspec.Struct, frozen=True):
    state: State
    created_ms: int
    pem: str


class _StoredRing(msgspec.Struct, frozen=True):
    version: int
    keys: tuple[_StoredKey, ...]


def _algorithm_of(private: _Private) -> Algorithm:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        if not isinstance(private.curve, ec.SECP256R1):
            raise KeysUnusable("a key in it is of another curve than P-256")
        return "ES256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if private.key_size < _RSA_BITS:
        raise KeysUnusable(f"an RSA key in it is shorter than {_RSA_BITS} bits")
    return "RS256"


def _public_members(private: _Private) -> dict[str, str]:
    """What identifies the public key, which is what its thumbprint is made of."""
    if isinstance(private, ec.EllipticCurvePrivateKey):
        point = private.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "x": _number(point.x, _P256_BYTES), "y": _number(point.y, _P256_BYTES)}
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": _encoded(private.public_key().public_bytes_raw())}
    numbers = private.public_key().public_numbers()
    return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}


def _number(value: int, size: int | None = None) -> str:
    return _encoded(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
