"""The caller's own account: name and picture, and the password."""

from collections.abc import Mapping

from gatekeeper.core.accounts import password_fault
from gatekeeper.core.model import SessionRecord, User
from gatekeeper.server.answers import Answer
from gatekeeper.server.auth_bodies import is_storable, is_truthy
from gatekeeper.server.auth_call import Call
from gatekeeper.server.auth_documents import done, user_fields
from gatekeeper.server.auth_refusals import (
    EMAIL_CANNOT_BE_UPDATED,
    INVALID_PASSWORD,
    NO_FIELDS,
    NO_PASSWORD,
    NOT_STORABLE,
    PASSWORD_FAULTS,
    UNAUTHORIZED,
    Refusal,
    invalid,
)
from gatekeeper.server.auth_session import require_session, set_session
from gatekeeper.server.auth_signing import admit, check_password, hash_password, new_password_fault, new_session
from gatekeeper.server.throttle import Admitted


async def update_user(call: Call) -> Answer | Refusal:
    """Change the caller's name, picture, and declared further fields; what else the body has is passed over."""
    record = await require_session(call)
    if isinstance(record, Refusal):
        return record
    if is_truthy(call.field("email")):
        return EMAIL_CANNOT_BE_UPDATED
    names = ("name", "image", *call.settings.user_fields)
    changes = {name: call.field(name) for name in names if call.has(name)}
    if not changes:
        return NO_FIELDS
    if (fault := _change_fault(changes)) is not None:
        return fault
    call.is_writing = True
    user = await call.services.accounts.update_user(record.user.id, changes, now_ms=call.now_ms)
    call.services.sessions.user_changed(record.user.id)
    if user is None:
        return UNAUTHORIZED
    set_session(call, SessionRecord(record.session, user))
    return done({"status": True})


async def change_password(call: Call) -> Answer | Refusal:
    """Give the caller another password; with `revokeOtherSessions` all sessions end, and this device has a new one."""
    record = await require_session(call, from_store=True)
    if isinstance(record, Refusal):
        return record
    new, current = call.text("newPassword"), call.text("currentPassword")
    if (fault := new_password_fault(call, new)) is not None:
        return fault
    if (length := password_fault(current, 0)) is not None:
        return PASSWORD_FAULTS[length]
    credential = await call.services.accounts.find_by_id(record.user.id)
    if credential is None or credential.password is None:
        return NO_PASSWORD
    admitted = await _known_to(call, record.user, credential.password, current)
    if isinstance(admitted, Refusal):
        return admitted
    hashed = await hash_password(call, new, admitted)
    if isinstance(hashed, Refusal):
        return hashed
    await call.services.throttle.succeeded(admitted)
    return await _replace_password(call, record, credential.password, hashed)


async def _known_to(call: Call, user: User, stored: str, current: str) -> Admitted | Refusal:
    """That the caller knows the present password; or the refusal, also where it was tried too often."""
    admitted = await admit(call, user.email)
    if isinstance(admitted, Refusal):
        return admitted
    right = await check_password(call, admitted, stored, current)
    if isinstance(right, Refusal):
        return right
    if not right:
        call.audit("sign_in_failed", user=user.id)
        return INVALID_PASSWORD
    return admitted


async def _replace_password(call: Call, record: SessionRecord, old: str, hashed: str) -> Answer | Refusal:
    user, revoke = record.user, call.field("revokeOtherSessions") is True
    call.is_writing = True
    changed = await call.services.accounts.change_password(
        user.id,
        hashed,
        account_id=call.new_id(),
        now_ms=call.now_ms,
        old=old,
        revoke=revoke,
        session=new_session(call, user.id) if revoke else None,
    )
    if changed is None:  # somebody else changed it at the same time
        return INVALID_PASSWORD
    call.end(changed.revoked)
    call.audit("password_changed", user=user.id, revoked=len(changed.revoked))
    if changed.session is None:
        return done({"token": None, "user": user_fields(user)})
    set_session(call, SessionRecord(changed.session, user))
    return done({"token": changed.session.token, "user": user_fields(user)})


def _change_fault(changes: Mapping[str, object]) -> Refusal | None:
    """Why a user cannot be changed so; Better Auth leaves that to the database, and answers with its error."""
    for name, value in changes.items():
        is_cleared = name == "image" and value is None
        if name in ("name", "image") and not isinstance(value, str) and not is_cleared:
            return invalid(f"[body.{name}] Invalid input: expected string")
        if not is_storable(value):
            return NOT_STORABLE
    return None
