"""Liveness, freshness and conditions, from the design's text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.model import Reason, Require
from gatekeeper.core.policy import email_domain, fault_of, is_fresh, roles_of, unmet_condition
from tests.core.records import NOW_MS, record, user


@pytest.mark.parametrize(
    ("session", "owner", "fault"),
    [
        pytest.param({"expires_at_ms": NOW_MS + 1}, {}, None, id="alive"),
        pytest.param({"expires_at_ms": NOW_MS}, {}, None, id="expires-this-very-moment"),
        pytest.param({"expires_at_ms": NOW_MS - 1}, {}, Reason.SESSION_EXPIRED, id="expired"),
        pytest.param({}, {"banned": True}, Reason.USER_BANNED, id="banned-for-good"),
        pytest.param({}, {"banned": True, "ban_expires_ms": NOW_MS + 1}, Reason.USER_BANNED, id="banned-for-now"),
        pytest.param({}, {"banned": True, "ban_expires_ms": NOW_MS}, None, id="ban-is-over"),
        pytest.param({}, {"ban_expires_ms": NOW_MS + 1}, None, id="a-date-alone-bans-nobody"),
        pytest.param({"expires_at_ms": 0}, {"banned": True}, Reason.SESSION_EXPIRED, id="expired-comes-first"),
    ],
)
def test_fault_of(session: dict[str, Any], owner: dict[str, Any], fault: Reason | None) -> None:
    assert fault_of(record(session, **owner), NOW_MS) is fault


@pytest.mark.parametrize(
    ("age_ms", "fresh_age_s", "fresh"),
    [
        (0, 1, True),
        (999, 1, True),
        (1_000, 1, False),
        (10**12, 1, False),
        (10**12, 0, True),
        (-5_000, 1, True),
    ],
)
def test_is_fresh_counts_from_signing_in(age_ms: int, fresh_age_s: float, fresh: bool) -> None:
    assert is_fresh(record({"created_at_ms": NOW_MS - age_ms}), fresh_age_s, NOW_MS) is fresh


ADMIN, STAFF = frozenset({"admin"}), frozenset({"staff", "admin"})
EXAMPLE = frozenset({"example.com"})


@pytest.mark.parametrize(
    ("require", "owner", "unmet"),
    [
        pytest.param(Require(), {"email_verified": False}, None, id="nothing-required"),
        pytest.param(Require(email_verified=True), {"email_verified": True}, None, id="verified"),
        pytest.param(
            Require(email_verified=True), {"email_verified": False}, Reason.EMAIL_NOT_VERIFIED, id="unverified"
        ),
        pytest.param(Require(two_factor=True), {"two_factor_enabled": True}, None, id="two-factor"),
        pytest.param(Require(two_factor=True), {"two_factor_enabled": False}, Reason.TWO_FACTOR_REQUIRED, id="off"),
        pytest.param(Require(two_factor=True), {}, Reason.TWO_FACTOR_REQUIRED, id="no-such-column"),
        pytest.param(Require(roles=(ADMIN,)), {"role": "admin"}, None, id="role"),
        pytest.param(Require(roles=(ADMIN,)), {"role": "user, admin"}, None, id="one-of-several-roles"),
        pytest.param(Require(roles=(ADMIN,)), {"role": "administrator"}, Reason.ROLE_REQUIRED, id="longer-role"),
        pytest.param(Require(roles=(ADMIN,)), {"role": "Admin"}, Reason.ROLE_REQUIRED, id="role-in-capitals"),
        pytest.param(Require(roles=(ADMIN,)), {}, Reason.ROLE_REQUIRED, id="no-role"),
        pytest.param(Require(roles=(STAFF,)), {"role": "staff"}, None, id="either-role"),
        pytest.param(Require(roles=(STAFF, ADMIN)), {"role": "staff"}, Reason.ROLE_REQUIRED, id="both-rules-hold"),
        pytest.param(Require(roles=(STAFF, ADMIN)), {"role": "admin"}, None, id="one-role-for-both"),
        pytest.param(
            Require(roles=(frozenset(),)), {"role": "admin"}, Reason.ROLE_REQUIRED, id="nobody-has-none-of-none"
        ),
        pytest.param(Require(roles=(frozenset({""}),)), {"role": ""}, Reason.ROLE_REQUIRED, id="empty-is-no-role"),
        pytest.param(
            Require(email_domains=(EXAMPLE,)), {"email": "example.com"}, Reason.EMAIL_DOMAIN_REQUIRED, id="no-at-sign"
        ),
        pytest.param(
            Require(email_verified=True, two_factor=True, roles=(ADMIN,), email_domains=(EXAMPLE,)),
            {"email": "a@evil.com", "email_verified": False},
            Reason.EMAIL_NOT_VERIFIED,
            id="address-is-verified-first",
        ),
        pytest.param(
            Require(two_factor=True, roles=(ADMIN,), email_domains=(EXAMPLE,)),
            {"email": "a@evil.com"},
            Reason.EMAIL_DOMAIN_REQUIRED,
            id="then-its-domain",
        ),
        pytest.param(Require(two_factor=True, roles=(ADMIN,)), {}, Reason.TWO_FACTOR_REQUIRED, id="role-comes-last"),
        pytest.param(Require(email_domains=(EXAMPLE,)), {"email": "a@Example.COM"}, None, id="domain"),
        pytest.param(
            Require(email_domains=(EXAMPLE,)),
            {"email": "a@example.com", "email_verified": False},
            Reason.EMAIL_NOT_VERIFIED,
            id="domain-implies-verified",
        ),
        pytest.param(
            Require(email_domains=(EXAMPLE,)), {"email": "a@evil.com"}, Reason.EMAIL_DOMAIN_REQUIRED, id="other-domain"
        ),
        pytest.param(
            Require(email_domains=(EXAMPLE,)),
            {"email": "a@evil.com@example.com"},
            Reason.EMAIL_DOMAIN_REQUIRED,
            id="two-at-signs",
        ),
        pytest.param(
            Require(email_domains=(EXAMPLE,)),
            {"email": "a@sub.example.com"},
            Reason.EMAIL_DOMAIN_REQUIRED,
            id="subdomain",
        ),
        pytest.param(
            Require(email_domains=(EXAMPLE, frozenset({"other.test"}))),
            {"email": "a@example.com"},
            Reason.EMAIL_DOMAIN_REQUIRED,
            id="both-domain-lists-hold",
        ),
    ],
)
def test_unmet_condition(require: Require, owner: dict[str, Any], unmet: Reason | None) -> None:
    assert unmet_condition(require, user(**owner)) is unmet


@pytest.mark.parametrize(
    ("email", "domain"),
    [
        *[("a@b.c", "b.c"), ("a@B.C", "b.c"), ("@b", None), ("a@", None), ("ab", None), ("a@b@c", None), ("", None)],
        *[("a@\u212aexample.com", None), ("\u00e4@B.c", "b.c"), ("a@b.c ", "b.c "), ("a@ b.c", " b.c"), ("@", None)],
    ],
)
def test_email_domain(email: str, domain: str | None) -> None:
    assert email_domain(email) == domain


@pytest.mark.parametrize(
    ("role", "roles"),
    [(None, set()), ("", set()), (" , ", set()), ("a", {"a"}), ("a,b, c ,a", {"a", "b", "c"}), ("a;b c", {"a;b c"})],
)
def test_roles_of(role: str | None, roles: set[str]) -> None:
    assert roles_of(user(role=role)) == roles


@given(st.text(max_size=30))
def test_an_address_with_a_domain_has_exactly_one_at(email: str) -> None:
    assert email_domain(email) is None or email.count("@") == 1
