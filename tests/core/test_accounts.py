"""Accounts as Better Auth keeps them: its own hashes, its rule for e-mail addresses, its ids."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.accounts import (
    UNUSABLE_HASH,
    PasswordFault,
    hash_password,
    is_email,
    make_id,
    password_fault,
    verify_password,
)

VECTORS: dict[str, list[Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "accounts.json").read_text(encoding="utf-8")
)
ZOD_EMAIL = re.compile(
    r"(?:[A-Za-z0-9_'+\-]+\.)*[A-Za-z0-9_'+\-]*[A-Za-z0-9_+-]@(?:[A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}"
)
"""zod's own expression."""


@pytest.mark.parametrize("case", VECTORS["captured"], ids=lambda case: ascii(case["password"])[:20])
def test_hashes_that_better_auth_made(case: dict[str, str]) -> None:
    assert verify_password(case["hash"], case["password"])


@pytest.mark.parametrize("case", VECTORS["handWritten"], ids=lambda case: case["case"])
def test_odd_hashes_verify_as_there_and_where_it_fails_nothing_does(case: dict[str, Any]) -> None:
    assert verify_password(case["hash"], case["password"]) is (case["status"] == 200)


@pytest.mark.parametrize("case", VECTORS["captured"][:4], ids=lambda case: ascii(case["password"])[:20])
def test_hashes_are_made_as_better_auth_makes_them(case: dict[str, str]) -> None:
    salt = bytes.fromhex(case["hash"].partition(":")[0])
    assert hash_password(case["password"], salt) == case["hash"]


@pytest.mark.parametrize(
    "wrong", ["12345679", "123456789", "1234567", "", "\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff19"]
)
def test_wrong_passwords(wrong: str) -> None:
    assert not verify_password(VECTORS["captured"][0]["hash"], wrong)


def test_spellings_that_are_one_by_nfkc_are_one_password() -> None:
    assert verify_password(VECTORS["captured"][0]["hash"], "\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18")


def test_nobody_has_no_password() -> None:
    assert not verify_password(None, "")
    assert not verify_password("", "")


def test_unusable_hash_is_nobodys_and_yet_readable() -> None:
    salt, _, key = UNUSABLE_HASH.partition(":")
    assert salt
    assert key  # else Better Auth would answer 500
    assert not re.fullmatch("[0-9a-f]{128}", key)  # what every password's key looks like
    assert not verify_password(UNUSABLE_HASH, "disabled")


def test_same_work_whatever_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    works: list[dict[str, Any]] = []

    def scrypt(password: bytes, **parameters: Any) -> bytes:
        works.append(parameters)
        return b""

    monkeypatch.setattr("hashlib.scrypt", scrypt)
    for stored in (None, "", "no colon", "ab:", ":ab", "0" * 32 + ":" + "0" * 128, UNUSABLE_HASH):
        verify_password(stored, "12345678")
    assert len(works) == 7
    assert len({(work["n"], work["r"], work["p"], work["dklen"]) for work in works}) == 1


def test_half_of_a_surrogate_pair_is_what_javascript_makes_of_it() -> None:
    assert hash_password("half \ud83d", b"s" * 16) == hash_password("half \ufffd", b"s" * 16)


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        pytest.param("1234567", PasswordFault.TOO_SHORT, id="7"),
        pytest.param("12345678", None, id="8"),
        pytest.param("x" * 128, None, id="128"),
        pytest.param("x" * 129, PasswordFault.TOO_LONG, id="129"),
        pytest.param("\U0001f600" * 4, None, id="4-characters-of-2-units"),
        pytest.param("\U0001f600" * 3, PasswordFault.TOO_SHORT, id="3-characters-of-2-units"),
        pytest.param("\U0001f600" * 65, PasswordFault.TOO_LONG, id="65-characters-of-2-units"),
        pytest.param("\ud83d" * 8, None, id="half-pairs"),
        pytest.param("", PasswordFault.TOO_SHORT, id="empty"),
    ],
)
def test_length_of_a_new_password(password: str, fault: PasswordFault | None) -> None:
    assert password_fault(password, 8) is fault


def test_of_a_password_that_is_not_new_only_too_many_units_count() -> None:
    assert password_fault("", 0) is None
    assert password_fault("x" * 129, 0) is PasswordFault.TOO_LONG


@pytest.mark.parametrize(("text", "accepted"), VECTORS["emails"], ids=lambda value: ascii(value)[:30])
def test_email_addresses_as_zod_has_them(text: str, accepted: bool) -> None:
    assert is_email(text) is accepted


_TEXT = st.text("aZ0_'+-.!\n é", max_size=6)


@given(_TEXT | st.builds("{}@{}".format, _TEXT, _TEXT) | st.builds("{}@{}.co".format, _TEXT, _TEXT))
def test_no_text_is_judged_otherwise_than_by_zods_expression(text: str) -> None:
    assert is_email(text) is (ZOD_EMAIL.fullmatch(text) is not None)


def test_ids_have_every_letter_and_digit_as_often() -> None:
    text = make_id(lambda size: bytes(range(248))[:size], 124) + make_id(lambda size: bytes(range(124, 248)), 124)
    assert set(Counter(text).values()) == {4}
    assert len(set(text)) == 62
    assert re.fullmatch("[A-Za-z0-9]+", text)


def test_bytes_that_would_make_some_letters_likelier_are_passed_over() -> None:
    draws = iter([bytes([255] * 63 + [0]), bytes([248] * 64), bytes([1] * 64)])
    assert make_id(lambda size: next(draws)) == "a" + "b" * 31


def test_an_id_is_32_characters_long() -> None:
    assert make_id(lambda size: b"\x3d" * size) == "9" * 32
