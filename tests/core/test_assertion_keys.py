"""Keys of assertions: what is signed verifies elsewhere, what is published suffices, nothing private gets out."""

import base64
import json
from typing import Any, get_args

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gatekeeper.core.assertion_keys import JWKS_MAX_AGE_S, Algorithm, KeyRing, SigningKey
from gatekeeper.core.errors import KeysUnusable
from tests.core.records import NOW_MS

ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}  # RFC 7518 §6, RFC 8037 §2
KINDS: dict[str, Any] = {"EC": ECKey, "OKP": OKPKey, "RSA": RSAKey}


@pytest.fixture(scope="module", params=ALGORITHMS)
def key(request: pytest.FixtureRequest) -> SigningKey:
    return SigningKey.make(request.param, NOW_MS)


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def published(ring: KeyRing) -> list[dict[str, str]]:
    keys: list[dict[str, str]] = json.loads(ring.jwks())["keys"]
    return keys


# --- one key -------------------------------------------------------------------------------------------------------


def test_what_is_signed_verifies_by_the_published_key_alone(key: SigningKey) -> None:
    token = key.sign(b'{"sub":"user_1"}')
    verifier = jwt.PyJWK(key.public_jwk())
    assert jwt.decode(token, verifier, algorithms=[key.algorithm]) == {"sub": "user_1"}
    assert jwt.get_unverified_header(token) == {"alg": key.algorithm, "kid": key.kid, "typ": "gk+jwt"}
    assert "=" not in token


def test_what_was_changed_does_not_verify(key: SigningKey) -> None:
    head, _, signature = key.sign(b'{"sub":"user_1"}').split(".")
    other = base64.urlsafe_b64encode(b'{"sub":"user_2"}').rstrip(b"=").decode()
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{head}.{other}.{signature}", jwt.PyJWK(key.public_jwk()), algorithms=[key.algorithm])


def test_signatures_of_es256_have_one_length() -> None:
    key = SigningKey.make("ES256", NOW_MS)
    # one number in 256 has a leading zero byte, which the other encoding would leave out
    assert {len(unpadded(key.sign(b"%d" % n).split(".")[2])) for n in range(600)} == {64}


def test_the_thumbprint_is_what_another_library_makes(key: SigningKey) -> None:
    jwk = key.public_jwk()
    members = {name: jwk[name] for name in jwk if name not in ("use", "alg", "kid")}
    assert key.kid == jwk["kid"] == KINDS[jwk["kty"]].import_key(members).thumbprint()


def test_the_thumbprint_of_rfc_8037() -> None:
    # RFC 8037, appendices A.1 to A.3
    private = ed25519.Ed25519PrivateKey.from_private_bytes(unpadded("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
    key = SigningKey(private, NOW_MS)
    assert key.public_jwk()["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_only_the_public_half_is_published(key: SigningKey) -> None:
    jwk = key.public_jwk()
    assert not PRIVATE_MEMBERS & jwk.keys()
    assert (jwk["use"], jwk["alg"]) == ("sig", key.algorithm)


def test_it_shows_nothing_of_itself(key: SigningKey) -> None:
    assert repr(key) == f"<SigningKey {key.algorithm} {key.kid}>"


def test_pem_and_back(key: SigningKey) -> None:
    again = SigningKey.from_pem(key.to_pem(), 7)
    assert (again.kid, again.algorithm, again.created_ms) == (key.kid, key.algorithm, 7)
    assert jwt.decode(again.sign(b"{}"), jwt.PyJWK(key.public_jwk()), algorithms=[key.algorithm]) == {}


def pem_of(private: Any, encryption: Any = None) -> str:
    raw: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return raw.decode()


@pytest.mark.parametrize(
    ("pem", "says"),
    [
        pytest.param("", "no PEM private key", id="empty"),
        pytest.param(
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no PEM private key", id="noise"
        ),
        pytest.param(
            pem_of(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x")),
            "without a password",
            id="encrypted",
        ),
        pytest.param(pem_of(ec.generate_private_key(ec.SECP384R1())), "another curve", id="another-curve"),
        pytest.param(pem_of(ed448.Ed448PrivateKey.generate()), "none of ES256", id="another-kind"),
        pytest.param(pem_of(rsa.generate_private_key(65537, 1024)), "shorter than 2048", id="short-rsa"),  # noqa: S505
    ],
)
def test_keys_that_are_not_taken(pem: str, says: str) -> None:
    with pytest.raises(KeysUnusable, match=says):
        SigningKey.from_pem(pem, NOW_MS)


# --- the ring ------------------------------------------------------------------------------------------------------


def test_a_first_ring_has_two_keys() -> None:
    ring = KeyRing.make("ES256", NOW_MS)
    assert ring.previous is None
    assert [state for state, _ in ring.states()] == ["current", "next"]
    assert [jwk["kid"] for jwk in published(ring)] == [ring.current.kid, ring.next.kid]
    assert ring.current.kid != ring.next.kid


def test_rotation_moves_each_key_on() -> None:
    first = KeyRing.make("ES256", NOW_MS)
    second = first.rotated("EdDSA", NOW_MS + 5)
    assert (second.previous, second.current) == (first.current, first.next)
    assert (second.next.algorithm, second.next.created_ms) == ("EdDSA", NOW_MS + 5)
    assert [state for state, _ in second.states()] == ["previous", "current", "next"]
    third = second.rotated("ES256", NOW_MS + 9)
    assert (third.previous, third.current) == (first.next, second.next)
    assert first.current.kid not in {jwk["kid"] for jwk in published(third)}


def test_who_remembers_the_published_set_knows_the_key_after_a_rotation() -> None:
    first = KeyRing.make("ES256", NOW_MS)
    remembered = {jwk["kid"] for jwk in published(first)}
    second = first.rotated("ES256", NOW_MS)
    assert second.current.kid in remembered
    assert first.current.kid in {jwk["kid"] for jwk in published(second)}


def test_a_key_signs_only_when_nobody_can_remember_a_set_without_it() -> None:
    ring = KeyRing.make("ES256", NOW_MS)
    assert ring.may_rotate_from_ms > NOW_MS + JWKS_MAX_AGE_S * 1000
    later = ring.rotated("ES256", ring.may_rotate_from_ms)
    assert later.may_rotate_from_ms - ring.may_rotate_from_ms == ring.may_rotate_from_ms - NOW_MS


def test_a_ring_is_read_as_it_was_written() -> None:
    for ring in (KeyRing.make("ES256", NOW_MS), KeyRing.make("EdDSA", NOW_MS).rotated("ES256", NOW_MS + 1)):
        again = KeyRing.decode(ring.encode())
        assert again.jwks() == ring.jwks()
        assert [(state, key.created_ms) for state, key in again.states()] == [
            (state, key.created_ms) for state, key in ring.states()
        ]


RING = json.loads(KeyRing.make("ES256", NOW_MS).encode())
CURRENT, NEXT = RING["keys"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        pytest.param(b"", "not what `gatekeeper keys rotate` writes", id="empty"),
        pytest.param(b"\xff", "not what", id="no-text"),
        pytest.param(b"[]", "not what", id="another-shape"),
        pytest.param({**RING, "keys": [{**CURRENT, "state": "odd"}, NEXT]}, "not what", id="unknown-state"),
        pytest.param({**RING, "version": 2}, "does not hold", id="another-version"),
        pytest.param({**RING, "keys": [CURRENT]}, "does not hold", id="no-next"),
        pytest.param({**RING, "keys": [NEXT]}, "does not hold", id="no-current"),
        pytest.param({**RING, "keys": [CURRENT, NEXT, NEXT]}, "does not hold", id="two-of-one-state"),
        pytest.param({**RING, "keys": [{**CURRENT, "pem": "x"}, NEXT]}, "no PEM", id="a-bad-key"),
    ],
)
def test_rings_that_are_not_taken(document: Any, says: str) -> None:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(KeysUnusable, match=says):
        KeyRing.decode(raw)
