"""Assertions of one process: signed once, sent for half of their life, never for another session or app."""

import jwt
import pytest

from gatekeeper.core.assertion import Terms
from gatekeeper.core.assertion_keys import KeyRing
from gatekeeper.core.model import SessionRecord
from gatekeeper.server.assertion_keys import AssertionKeys
from gatekeeper.server.assertions import Assertions, Minted
from tests.core.records import NOW_MS, TOKEN, record

TERMS = Terms("https://app.example.com", 120)
HALF_MS = 60_000
KEYS = AssertionKeys(KeyRing.make("ES256", NOW_MS))


def counting() -> Assertions:
    """Assertions with numbers for random bytes."""
    numbers = iter(range(1, 10_000))
    return Assertions(TERMS, KEYS, "X-Auth-Assertion", random=lambda size: next(numbers).to_bytes(size, "big"))


def claims_of(minted: Minted, keys: AssertionKeys = KEYS, audience: str = TERMS.issuer) -> dict[str, object]:
    name, _, value = minted.line.decode().partition(": ")
    assert name == "X-Auth-Assertion"
    assert value.endswith("\r\n")
    options: jwt.types.Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    key = jwt.PyJWK(keys.ring.current.public_jwk())
    return jwt.decode(value.strip(), key, algorithms=["ES256"], audience=audience, options=options)


def other_record(number: int) -> SessionRecord:
    return record({"token": f"{TOKEN}{number}"})


def test_it_says_who_asks_and_nothing_secret() -> None:
    minted = counting().mint(record(role="admin"), "", NOW_MS)
    claims = claims_of(minted)
    assert (claims["iss"], claims["sub"], claims["roles"]) == ("https://app.example.com", "user_1", ["admin"])
    assert claims["user"]["id"] == "user_1"  # type: ignore[index]
    assert claims["session"]["id"] == "session_1"  # type: ignore[index]
    assert TOKEN not in str(claims)


def test_it_is_signed_once_and_sent_for_half_of_its_life() -> None:
    assertions, known = counting(), record()
    first = assertions.mint(known, "", NOW_MS)
    assert assertions.mint(known, "", NOW_MS + HALF_MS - 1) is first
    assert assertions.signed == 1
    second = assertions.mint(known, "", NOW_MS + HALF_MS)
    assert second.line != first.line
    assert claims_of(second)["exp"] - claims_of(first)["exp"] == 60  # type: ignore[operator]
    assert (first.since_ms, first.until_ms) == (NOW_MS, NOW_MS + HALF_MS)


def test_each_app_gets_its_own() -> None:
    assertions, known = counting(), record()
    default, api = assertions.mint(known, "", NOW_MS), assertions.mint(known, "api", NOW_MS)
    assert claims_of(default)["aud"] == "https://app.example.com"
    assert claims_of(api, audience="gatekeeper:api")["aud"] == "gatekeeper:api"
    assert assertions.mint(known, "api", NOW_MS) is api


def test_a_session_that_was_read_anew_keeps_it_while_nothing_has_changed() -> None:
    assertions = counting()
    first = assertions.mint(record(), "", NOW_MS)
    again = record()
    assert assertions.mint(again, "", NOW_MS + 1) is first
    assert first.record is again
    assert assertions.mint(record(role="admin"), "", NOW_MS + 2) is not first
    assert assertions.signed == 2


def test_another_session_never_gets_it() -> None:
    assertions = counting()
    lines = {assertions.mint(other_record(number), "", NOW_MS).line for number in range(5)}
    assert len(lines) == 5


def test_a_clock_that_was_set_back_is_no_reason_to_send_it_for_longer() -> None:
    assertions, known = counting(), record()
    first = assertions.mint(known, "", NOW_MS)
    earlier = assertions.mint(known, "", NOW_MS - 1)
    assert earlier is not first
    assert earlier.until_ms == NOW_MS - 1 + HALF_MS


def test_new_keys_sign_at_once() -> None:
    keys = AssertionKeys(KeyRing.make("ES256", NOW_MS))
    assertions = Assertions(TERMS, keys, "X-Auth-Assertion")
    known = record()
    assertions.mint(known, "", NOW_MS)
    keys.ring = keys.ring.rotated("ES256", NOW_MS)
    assertions.forget()
    assert claims_of(assertions.mint(known, "", NOW_MS), keys)["sub"] == "user_1"


def test_the_ids_of_assertions_differ() -> None:
    assertions = Assertions(TERMS, KEYS, "X-Auth-Assertion")
    ids = {claims_of(assertions.mint(other_record(number), "", NOW_MS))["jti"] for number in range(50)}
    assert len(ids) == 50


# --- memory --------------------------------------------------------------------------------------------------------


def test_what_is_used_up_goes_as_new_ones_come() -> None:
    assertions = counting()
    for number in range(10):
        assertions.mint(other_record(number), "", NOW_MS)
    assert assertions.size == 10
    for number in range(10, 16):
        assertions.mint(other_record(number), "", NOW_MS + HALF_MS)
    assert assertions.size == 6
    assert repr(assertions) == "<Assertions, 6 in memory>"


def test_there_are_never_more_than_the_limit() -> None:
    numbers = iter(range(1000))
    assertions = Assertions(TERMS, KEYS, "X", random=lambda size: next(numbers).to_bytes(size, "big"), limit=4)
    for number in range(20):
        assertions.mint(other_record(number), "", NOW_MS)
        assert assertions.size <= 4
    signed = assertions.signed
    for number in range(16, 20):
        assertions.mint(other_record(number), "", NOW_MS)
    assert assertions.signed == signed  # the oldest ones had gone


@pytest.mark.parametrize("ttl_s", [10, 300])
def test_half_of_another_life(ttl_s: int) -> None:
    assertions = Assertions(Terms("https://a", ttl_s), KEYS, "X")
    assert assertions.mint(record(), "", NOW_MS).until_ms == NOW_MS + ttl_s * 500
