"""What a session and its user must be like: alive, fresh, and whatever a rule requires besides."""

import math

from gatekeeper.core.model import Reason, Require, SessionRecord, User

_FAR_MS = 86_400_000


def fault_of(record: SessionRecord, now_ms: int) -> Reason | None:
    """Why this record is no live session, or None.

    Better Auth takes `expiresAt == now` for live.  Stricter than Better Auth, which deletes the sessions of a user
    whom it bans but does not look at `banned` again: here a banned user has no live session.
    """
    if record.session.expires_at_ms < now_ms:
        return Reason.SESSION_EXPIRED
    return Reason.USER_BANNED if is_banned(record.user, now_ms) else None


def is_banned(user: User, now_ms: int) -> bool:
    """Whether this user may not be signed in now."""
    return user.banned and (user.ban_expires_ms is None or user.ban_expires_ms > now_ms)


def next_change_ms(record: SessionRecord, fresh_age_s: float, now_ms: int) -> int:
    """The first moment after now at which `fault_of` or `is_fresh` may say something else of the same record."""
    session, ban_expires_ms = record.session, record.user.ban_expires_ms
    next_ms = now_ms + _FAR_MS
    if now_ms < session.expires_at_ms + 1 < next_ms:
        next_ms = session.expires_at_ms + 1
    if now_ms < (stale_ms := session.created_at_ms + math.ceil(fresh_age_s * 1000)) < next_ms:
        next_ms = stale_ms
    if ban_expires_ms is not None and now_ms < ban_expires_ms < next_ms:
        next_ms = ban_expires_ms
    return next_ms


def is_fresh(record: SessionRecord, fresh_age_s: float, now_ms: int) -> bool:
    """Whether the person signed in less than `fresh_age_s` ago; extending a session does not count.  0 turns it off."""
    return fresh_age_s == 0 or now_ms - record.session.created_at_ms < fresh_age_s * 1000


def unmet_condition(require: Require, user: User) -> Reason | None:
    """The first condition that this user does not meet, or None."""
    if require.email_verified and not user.email_verified:
        return Reason.EMAIL_NOT_VERIFIED
    for domains in require.email_domains:
        if not user.email_verified:
            return Reason.EMAIL_NOT_VERIFIED
        if email_domain(user.email) not in domains:
            return Reason.EMAIL_DOMAIN_REQUIRED
    if require.two_factor and user.two_factor_enabled is not True:
        return Reason.TWO_FACTOR_REQUIRED
    if require.roles:
        held = roles_of(user)
        if any(held.isdisjoint(roles) for roles in require.roles):
            return Reason.ROLE_REQUIRED
    if any(user.organizations.isdisjoint(organizations) for organizations in require.organizations):
        return Reason.ORGANIZATION_REQUIRED
    return None


def roles_of(user: User) -> frozenset[str]:
    """The user's roles; Better Auth's admin plugin keeps several in one text, separated by commas."""
    return frozenset(role.strip() for role in (user.role or "").split(",") if role.strip())


def email_domain(email: str) -> str | None:
    """The lower-case domain of an address with exactly one `@`, or None.

    A domain outside ASCII counts as none: lower-casing turns the Kelvin sign into a k.
    """
    local, at, domain = email.partition("@")
    return domain.lower() if local and at and domain and "@" not in domain and domain.isascii() else None
