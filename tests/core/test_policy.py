"""Liveness, freshness and conditions, from the design's text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.model import Reason, Require
from gatekeeper.core.policy import email_domain, fault_of, is_fresh, next_change_ms, roles_of, unmet_condition
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
ACME = frozenset({"acme"})


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
        pytest.param(Require(organizations=(ACME,)), {"organizations": frozenset({"x", "acme"})}, None, id="a-member"),
        pytest.param(
            Require(organizations=(ACME,)),
            {"organizations": frozenset({"Acme"})},
            Reason.ORGANIZATION_REQUIRED,
            id="other-case",
        ),
        pytest.param(Require(organizations=(ACME,)), {}, Reason.ORGANIZATION_REQUIRED, id="no-member"),
        pytest.param(
            Require(organizations=(ACME, frozenset({"globex"}))),
            {"organizations": frozenset({"acme"})},
            Reason.ORGANIZATION_REQUIRED,
            id="both-organizations-hold",
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


# --- how long all that holds ---------------------------------------------------------------------------------------

HOUR_MS = 3_600_000
_moments = st.integers(-2 * HOUR_MS, 2 * HOUR_MS).map(lambda offset: NOW_MS + offset)
_near = st.integers(-3, 3).map(lambda offset: NOW_MS + offset)
_ages = st.one_of(st.just(0.0), st.sampled_from([0.001, 0.0015, 0.1, 1 / 3, 1.0]), st.floats(0, 7_200))


@given(
    expires=_near | _moments,
    created=_near | _moments,
    banned=st.booleans(),
    ban_expires=st.none() | _near | _moments,
    fresh_age_s=_ages,
    share=st.floats(0, 1),
)
def test_until_the_next_change_nothing_changes(
    expires: int, created: int, banned: bool, ban_expires: int | None, fresh_age_s: float, share: float
) -> None:
    given_record = record(
        {"expires_at_ms": expires, "created_at_ms": created}, banned=banned, ban_expires_ms=ban_expires
    )

    def judged(at_ms: int) -> tuple[Reason | None, bool]:
        return fault_of(given_record, at_ms), is_fresh(given_record, fresh_age_s, at_ms)

    change = next_change_ms(given_record, fresh_age_s, NOW_MS)
    assert change > NOW_MS
    for at_ms in (NOW_MS + 1, NOW_MS + int((change - 1 - NOW_MS) * share), change - 1):
        if NOW_MS <= at_ms < change:
            assert judged(at_ms) == judged(NOW_MS)


@pytest.mark.parametrize(
    ("session", "owner", "fresh_age_s", "change_ms"),
    [
        pytest.param({"expires_at_ms": NOW_MS}, {}, 0, 1, id="the-moment-after-it-expires"),
        pytest.param({"created_at_ms": NOW_MS - 400}, {}, 1, 600, id="no-longer-fresh"),
        pytest.param({"created_at_ms": NOW_MS}, {}, 0.0015, 2, id="part-of-a-millisecond"),
        pytest.param({}, {"banned": True, "ban_expires_ms": NOW_MS + 9}, 0, 9, id="no-longer-banned"),
        pytest.param({"expires_at_ms": NOW_MS + 4}, {"ban_expires_ms": NOW_MS + 9}, 0, 5, id="whatever-comes-first"),
        pytest.param(
            {"expires_at_ms": NOW_MS - 1}, {"ban_expires_ms": NOW_MS}, 0, 86_400_000, id="all-over-is-looked-at-daily"
        ),
    ],
)
def test_the_next_change(session: dict[str, Any], owner: dict[str, Any], fresh_age_s: float, change_ms: int) -> None:
    old = {"created_at_ms": NOW_MS - HOUR_MS}
    assert next_change_ms(record(old | session, **owner), fresh_age_s, NOW_MS) - NOW_MS == change_ms
