"""The verifier by itself: what counts, every forgery, times at their edges, plain headers, and any text at all."""

import asyncio
import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.identity import identity_headers
from gatekeeper.core.model import AuthStatus
from gatekeeper.core.model import Identity as GateIdentity
from gatekeeper.core.urls import origin_of
from gatekeeper.integrations import Identity, Reason, Session, User, Verifier
from gatekeeper.integrations.assertion import MAX_PROVEN
from gatekeeper.integrations.model import Request
from gatekeeper.server.documents import session_document, user_document
from tests.core.records import authenticated, record
from tests.integrations.forgeries import FORGERIES, Forgery, every_forgery
from tests.integrations.gate import (
    ISSUER,
    KEY,
    NOW,
    RECORD,
    STRANGER,
    Clock,
    KeysInMemory,
    claims,
    encoded,
    header,
    jwks,
    mint,
    verifier,
)
from tests.integrations.test_jwks import settle

MOMENT = datetime.fromtimestamp(NOW, UTC)
ADA = User(
    id="user_1",
    name="Ada Łoś",
    email="ada@example.com",
    email_verified=True,
    image=None,
    created_at=MOMENT,
    updated_at=MOMENT,
    two_factor_enabled=None,
    roles=("admin", "editor"),
    extra={"role": "admin,editor"},
)
HERS = Session(
    id="session_1",
    user_id="user_1",
    expires_at=datetime.fromtimestamp(NOW + 86_400, UTC),
    created_at=MOMENT,
    updated_at=MOMENT,
    ip_address="203.0.113.7",
    user_agent="Firefox",
)


def asked(headers: list[tuple[str, str]], peer: str | None = "192.0.2.1") -> Request:
    def lines(name: str) -> list[str]:
        return [value for field, value in headers if field.lower() == name]

    return Request("GET", "/dashboard", lines, peer)


def with_assertions(*values: str) -> Request:
    return asked([("X-Auth-Assertion", value) for value in values])


def test_an_assertion_tells_user_and_session() -> None:
    gate = verifier()
    assert gate.identify(with_assertions(mint())) == Identity(ADA, HERS)
    assert gate.reasons == Counter()


async def test_so_it_does_without_blocking() -> None:
    assert await verifier().identify_async(with_assertions(mint())) == Identity(ADA, HERS)


def test_documents_are_those_that_the_gate_tells() -> None:
    found = verifier().identify(with_assertions(mint()))
    document = {"user": user_document(RECORD.user), "session": session_document(RECORD.session)}
    assert found.to_document() == document
    assert json.loads(json.dumps(document)) == document
    assert Identity(None, None, Reason.MISSING).to_document() is None


def test_two_factor_authentication_is_in_the_document_where_it_is_known() -> None:
    for known in (True, False):
        assert replace(ADA, two_factor_enabled=known).to_document()["twoFactorEnabled"] is known
    assert "twoFactorEnabled" not in ADA.to_document()


def test_what_is_not_told_is_null_in_the_document() -> None:
    found = Identity(User("user_1", "Ada", None, False), None).to_document()
    nothing = {"email": None, "image": None, "createdAt": None, "updatedAt": None}
    assert found == {"user": {"id": "user_1", "name": "Ada", "emailVerified": False, **nothing}, "session": None}


def test_records_are_frozen_and_hashable() -> None:
    with pytest.raises(AttributeError):
        ADA.name = "Eve"  # type: ignore[misc]
    assert len({ADA, ADA, HERS}) == 2


@every_forgery
async def test_a_forgery_gives_nobody_and_one_reason(forgery: Forgery) -> None:
    gate = verifier()
    nobody = Identity(None, None, forgery.reason)
    assert gate.identify(with_assertions(*forgery.lines)) == nobody
    assert gate.reasons == Counter({forgery.reason: 1})
    assert await gate.identify_async(with_assertions(*forgery.lines)) == nobody
    assert gate.reasons == Counter({forgery.reason: 2})


def test_most_reasons_are_met_by_a_forgery() -> None:
    elsewhere = {Reason.MISSING, Reason.KEYS_UNAVAILABLE, Reason.UNTRUSTED_PEER}
    assert {forgery.reason for forgery in FORGERIES} == set(Reason) - elsewhere


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": NOW - 29}, None),
        ({"exp": NOW - 30}, Reason.EXPIRED),
        ({"nbf": NOW + 30}, None),
        ({"nbf": NOW + 31}, Reason.NOT_YET),
        ({"exp": NOW + 0.5, "nbf": NOW - 0.5}, None),
    ],
)
def test_times_have_thirty_seconds_of_leeway(changes: dict[str, Any], reason: Reason | None) -> None:
    assert verifier().identify(with_assertions(mint(claims(**changes)))).reason is reason


def test_an_assertion_dies_with_its_time() -> None:
    clock = Clock(NOW)
    gate = verifier(clock=clock)
    assertion = with_assertions(mint())
    assert gate.identify(assertion).user == ADA
    clock.now = NOW + 149.9
    assert gate.identify(assertion).user == ADA
    clock.now = NOW + 150
    assert gate.identify(assertion).reason is Reason.EXPIRED


def test_an_assertion_is_proven_once_and_as_long_as_its_key_is_published() -> None:
    timer, keys = Clock(0.0), KeysInMemory(jwks(KEY))
    gate = verifier(timer=timer, fetch=keys)
    assertion = with_assertions(mint())
    first, second = gate.identify(assertion), gate.identify(assertion)
    assert first.user == ADA
    assert first is second
    keys.body = jwks(STRANGER)  # another key under the same id
    timer.now += 300
    gate.identify(assertion)
    settle()
    assert gate.identify(assertion).reason is Reason.BAD_SIGNATURE


def test_no_more_than_some_are_remembered() -> None:
    gate = verifier()
    for n in range(MAX_PROVEN + 10):
        assert gate.identify(with_assertions(mint(claims(jti=str(n))))).user == ADA
    assert len(gate._proven) == 10
    gate.identify(with_assertions(mint(key=STRANGER)))
    assert len(gate._proven) == 10


def test_a_named_upstream_has_an_audience_of_its_own() -> None:
    gate = verifier(audience="gatekeeper:billing")
    assert gate.identify(with_assertions(mint(claims(aud="gatekeeper:billing")))).user == ADA
    assert gate.identify(with_assertions(mint())).reason is Reason.WRONG_AUDIENCE


def test_the_header_can_have_another_name() -> None:
    gate = verifier(header="X-Pomerium-Jwt-Assertion")
    assert gate.identify(asked([("x-pomerium-jwt-assertion", mint())])).user == ADA
    assert gate.identify(with_assertions(mint())).reason is Reason.MISSING


def test_documents_that_were_too_long_leave_a_short_user() -> None:
    found = verifier().identify(with_assertions(mint(claims(user=None, session=None))))
    assert found == Identity(User("user_1", "Ada Łoś", "ada@example.com", True, roles=("admin", "editor")), None)


@pytest.mark.parametrize(
    ("document", "name", "value"),
    [
        *[("user", name, None) for name in ("id", "name", "email", "emailVerified", "createdAt", "updatedAt")],
        *[("user", name, 7) for name in ("id", "name", "email", "emailVerified", "image", "createdAt")],
        ("user", "twoFactorEnabled", "yes"),
        ("user", "createdAt", "yesterday"),
        ("user", "createdAt", "2026-01-01T00:00:00.000"),
        *[("session", name, None) for name in ("id", "userId", "expiresAt", "createdAt", "updatedAt")],
        ("session", "ipAddress", 7),
        ("session", "userAgent", []),
    ],
)
def test_a_document_of_another_form_is_refused(document: str, name: str, value: object) -> None:
    changed = {document: {**claims()[document], name: value}}
    assert verifier().identify(with_assertions(mint(claims(**changed)))).reason is Reason.MALFORMED


@pytest.mark.parametrize("changes", [{"sub": ""}, {"name": 1}, {"email": 1}, {"email_verified": "true"}])
def test_a_short_user_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    changed = {"user": None, "session": None, **changes}
    assert verifier().identify(with_assertions(mint(claims(**changed)))).reason is Reason.MALFORMED


def test_an_empty_id_is_no_user() -> None:
    empty = mint(claims(sub="", user={**claims()["user"], "id": ""}, session=None))
    assert verifier().identify(with_assertions(empty)).reason is Reason.MALFORMED


def test_plugin_fields_are_told() -> None:
    user = {**claims()["user"], "twoFactorEnabled": True, "image": "https://x/y.png", "plan": {"tier": 2}}
    session = {**claims()["session"], "activeOrganizationId": "org_1"}
    found = verifier().identify(with_assertions(mint(claims(user=user, session=session))))
    assert found.user is not None
    assert found.session is not None
    assert (found.user.two_factor_enabled, found.user.image) == (True, "https://x/y.png")
    assert found.user.extra == {"role": "admin,editor", "plan": {"tier": 2}}
    assert found.session.extra == {"activeOrganizationId": "org_1"}


def test_other_algorithms_can_be_chosen_and_then_count_alone() -> None:
    ed = ed25519.Ed25519PrivateKey.generate()
    point = encoded(ed.public_key().public_bytes_raw())
    published = {"kty": "OKP", "crv": "Ed25519", "x": point, "kid": "ed"}
    signed = f"{encoded(header(alg='EdDSA', kid='ed'))}.{encoded(claims())}"
    gate = verifier(algorithm="EdDSA", fetch=KeysInMemory(_set(published, KEY.jwk())))
    assert gate.identify(with_assertions(f"{signed}.{encoded(ed.sign(signed.encode()))}")).user == ADA
    assert gate.identify(with_assertions(mint())).reason is Reason.BAD_ALGORITHM


def test_rsa_for_old_consumers() -> None:
    private = rsa.generate_private_key(65537, 2048)
    numbers = private.public_key().public_numbers()
    published = {"kty": "RSA", "n": encoded(numbers.n.to_bytes(256, "big")), "e": "AQAB", "kid": "r"}
    signed = f"{encoded(header(alg='RS256', kid='r'))}.{encoded(claims())}"
    signature = private.sign(signed.encode(), padding.PKCS1v15(), SHA256())
    gate = verifier(algorithm="RS256", fetch=KeysInMemory(_set(published)))
    assert gate.identify(with_assertions(f"{signed}.{encoded(signature)}")).user == ADA


def _set(*keys: dict[str, Any]) -> bytes:
    import json

    return json.dumps({"keys": keys}).encode()


def test_without_keys_nothing_can_be_said() -> None:
    gate = verifier(fetch=KeysInMemory(None))
    assert gate.identify(with_assertions(mint())) == Identity(None, None, Reason.KEYS_UNAVAILABLE)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "app.example.com"},
        {"issuer": "ftp://app.example.com"},
        {"issuer": "https://app.example.com/path"},
        {"issuer": "https://app.example.com/?x"},
        {"issuer": "https://"},
        {"issuer": "https://app.example.com:port"},
        {"issuer": "https://:443"},
        {"jwks_url": "file:///etc/keys.json"},
        {"algorithm": "HS256"},
        {"algorithm": "none"},
        {"trust_headers_from": ["localhost"]},
        {"trust_headers_from": ["10.0.0.1/8"]},
        {"trust_headers_from": "127.0.0.1"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Verifier(**({"issuer": ISSUER} | changes))


@pytest.mark.parametrize(
    "public_url",
    [
        "https://app.example.com/",
        "https://App.Example.COM",
        "HTTPS://app.example.com",
        "https://app.example.com:443",
        "http://app.example.com:80/",
        "http://app.example.com:443",
        "https://app.example.com:8443",
        "https://[2001:DB8::1]:443",
        "https://[::1]:8443/",
    ],
)
def test_the_issuer_may_be_spelled_as_in_the_gates_settings(public_url: str) -> None:
    gate = Verifier(public_url)
    assert gate.issuer == gate.audience == origin_of(public_url)


PLAIN = list(identity_headers(GateIdentity(AuthStatus.AUTHENTICATED, RECORD)).items())
BY_HEADERS = User("user_1", "Ada Łoś", "ada@example.com", True, roles=("admin", "editor"))


def test_plain_headers_alone_are_nobody() -> None:
    gate = verifier()
    assert gate.identify(asked(PLAIN, "127.0.0.1")) == Identity(None, None, Reason.MISSING)


@pytest.mark.parametrize(
    ("trusted", "peer", "believed"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.0/8"], "127.9.9.9", True),
        (["127.0.0.1"], "::ffff:127.0.0.1", True),
        (["::1"], "::1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["10.0.0.0/8", "fd00::/8"], "fd00::7", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["0.0.0.0/0"], "::1", False),
        (["0.0.0.0/0"], None, False),
        (["0.0.0.0/0"], "", False),
        (["0.0.0.0/0"], "gate.internal", False),
        (["0.0.0.0/0"], "127.0.0.1, 10.0.0.1", False),
    ],
)
def test_plain_headers_of_named_peers_are_believed(trusted: list[str], peer: str | None, believed: bool) -> None:
    found = verifier(trust_headers_from=trusted).identify(asked(PLAIN, peer))
    assert found == (Identity(BY_HEADERS, None) if believed else Identity(None, None, Reason.UNTRUSTED_PEER))


@pytest.mark.parametrize("name", [name for name, _ in PLAIN if name not in ("X-Auth-Status", "X-Auth-Session-Id")])
def test_a_doubled_plain_header_is_refused(name: str) -> None:
    gate = verifier(trust_headers_from=["127.0.0.1"])
    assert gate.identify(asked([*PLAIN, (name, "x")], "127.0.0.1")).reason is Reason.DUPLICATE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"X-Auth-User-Id": "user_1,user_2"}, Reason.MALFORMED),
        ({"X-Auth-User-Id": ""}, Reason.MALFORMED),
        ({"X-Auth-Email-Verified": "yes"}, Reason.MALFORMED),
        ({"X-Auth-Email-Verified": None}, Reason.MALFORMED),
        ({"X-Auth-User-Id": None}, Reason.MISSING),
    ],
)
def test_plain_headers_of_another_form_are_nobody(changes: dict[str, str | None], reason: Reason) -> None:
    sent = [(name, value) for name, value in (dict(PLAIN) | changes).items() if value is not None]
    assert verifier(trust_headers_from=["127.0.0.1"]).identify(asked(sent, "127.0.0.1")).reason is reason


def test_an_address_that_is_not_verified_is_not_told_by_headers() -> None:
    plain = identity_headers(authenticated(email_verified=False, name="", role=None))
    found = verifier(trust_headers_from=["127.0.0.1"]).identify(asked(list(plain.items()), "127.0.0.1"))
    assert found.user == User("user_1", "", None, False)
    lying = [*plain.items(), ("X-Auth-Email", "eve@example.com")]
    assert verifier(trust_headers_from=["127.0.0.1"]).identify(asked(lying, "127.0.0.1")).user == found.user


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30), st.lists(st.sampled_from(["admin", "50% off", "é"]), unique=True))
def test_law_what_the_gate_writes_into_plain_headers_is_read_back(name: str, roles: list[str]) -> None:
    told = identity_headers(GateIdentity(AuthStatus.AUTHENTICATED, record(name=name, role=",".join(roles))))
    found = verifier(trust_headers_from=["127.0.0.1"]).identify(asked(list(told.items()), "127.0.0.1"))
    assert found.user is not None
    assert found.user.name == name.encode("utf-8", "replace").decode()
    assert found.user.roles == tuple(sorted(roles))


def test_a_refused_assertion_never_falls_back_to_plain_headers() -> None:
    gate = verifier(trust_headers_from=["127.0.0.1"])
    forged = ("X-Auth-Assertion", mint(claims(exp=1)))
    assert gate.identify(asked([*PLAIN, forged], "127.0.0.1")) == Identity(None, None, Reason.EXPIRED)


@settings(deadline=None)
@given(st.lists(st.text(max_size=200) | st.text("AZaz09-_.=", max_size=200), min_size=1, max_size=2))
def test_law_any_text_gives_a_reason(values: list[str]) -> None:
    gate = verifier()
    found = gate.identify(with_assertions(*values))
    assert found.user is None
    assert gate.reasons == Counter({found.reason: 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]), JSON)
def test_law_any_header_gives_a_reason_or_the_user(name: str, value: object) -> None:
    found = verifier().identify(with_assertions(mint(head={**header(), name: value})))
    assert (found.user is None) is (found.reason is not None)
    assert found.user is None or value == header()[name]


@settings(deadline=None)
@given(st.sampled_from(sorted(claims())), JSON)
def test_law_any_claim_gives_a_reason_or_the_user(name: str, value: object) -> None:
    found = verifier().identify(with_assertions(mint({**claims(), name: value})))
    assert (found.user is None) is (found.reason is not None)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_law_a_flipped_bit_of_the_signature_is_seen(at: int) -> None:
    signed, _, _ = mint().rpartition(".")
    signature = bytearray(KEY.sign(signed))
    signature[at // 8 % 64] ^= 1 << at % 8
    found = verifier().identify(with_assertions(f"{signed}.{encoded(bytes(signature))}"))
    assert found.reason is Reason.BAD_SIGNATURE


def test_reasons_are_counted_by_all_threads_alike() -> None:
    gate = verifier(fetch=KeysInMemory(jwks(KEY)))

    def ask() -> None:
        for _ in range(500):
            gate.identify(asked([]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gate.reasons == Counter({Reason.MISSING: 2000})


async def test_many_at_once_share_one_fetch() -> None:
    keys = KeysInMemory(jwks(KEY))
    gate = verifier(fetch=keys)
    found = await asyncio.gather(*(gate.identify_async(with_assertions(mint())) for _ in range(20)))
    assert {one.user for one in found} == {ADA}
    assert keys.fetches == 1
