"""The caller's sessions: get-session, list-sessions, the three ways to revoke, update-session.

What ends sessions asks the store whether the caller has one, and only ever ends the caller's own.
"""

from gatekeeper.core.model import SessionRecord
from gatekeeper.core.policy import is_fresh
from gatekeeper.server.answers import Answer
from gatekeeper.server.auth_bodies import is_storable
from gatekeeper.server.auth_call import Call
from gatekeeper.server.auth_documents import done, record_fields, session_fields
from gatekeeper.server.auth_refusals import (
    NO_FIELDS,
    NOT_FRESH,
    NOT_STORABLE,
    POST_NOT_ALLOWED,
    SESSION_LOST,
    Refusal,
    refused,
)
from gatekeeper.server.auth_session import clear_session, find_session, require_session, set_session

NO_CACHE = (b"Pragma", b"no-cache")


async def get_session(call: Call) -> Answer | Refusal:
    """The session and its user, or null."""
    return done(record_fields(await find_session(call)), (NO_CACHE,))


async def post_session(call: Call) -> Answer | Refusal:
    """What extends a session where reading it does not; here reading does."""
    return refused(POST_NOT_ALLOWED, (NO_CACHE,))


async def list_sessions(call: Call) -> Answer | Refusal:
    """The caller's live sessions with their tokens, in the order of the database; only soon after signing in."""
    record = await require_session(call)
    if isinstance(record, Refusal):
        return record
    if not is_fresh(record, call.settings.fresh_age_s, call.now_ms):
        return NOT_FRESH
    sessions = await call.services.accounts.list_live(record.user.id, now_ms=call.now_ms)
    return done([session_fields(session) for session in sessions])


async def revoke_session(call: Call) -> Answer | Refusal:
    """End the caller's session that has this token, else the one with this id.

    Better Auth takes the token alone, and does nothing where an id is given; it too says that all is well.
    """
    record = await require_session(call, from_store=True)
    if isinstance(record, Refusal):
        return record
    call.is_writing = True
    revoked = await call.services.accounts.revoke_session(record.user.id, call.text("token"))
    if revoked is not None:
        call.end([revoked.token])
        call.audit("sessions_revoked", user=record.user.id, count=1)
        if revoked.token == record.session.token:
            clear_session(call)
    return done({"status": True})


async def revoke_sessions(call: Call) -> Answer | Refusal:
    """End all of the caller's sessions, this one too."""
    record = await require_session(call, from_store=True)
    if isinstance(record, Refusal):
        return record
    call.is_writing = True
    revoked = await call.services.accounts.revoke_sessions(record.user.id)
    call.end(revoked)
    call.audit("sessions_revoked", user=record.user.id, count=len(revoked))
    clear_session(call)
    return done({"status": True})


async def revoke_other_sessions(call: Call) -> Answer | Refusal:
    """End all of the caller's sessions but this one."""
    record = await require_session(call, from_store=True)
    if isinstance(record, Refusal):
        return record
    call.is_writing = True
    revoked = await call.services.accounts.revoke_sessions(record.user.id, but_token=record.session.token)
    call.end(revoked)
    call.audit("sessions_revoked", user=record.user.id, count=len(revoked))
    return done({"status": True})


async def update_session(call: Call) -> Answer | Refusal:
    """Change declared further fields of the caller's session; what else the body has is passed over."""
    record = await require_session(call)
    if isinstance(record, Refusal):
        return record
    changes = {name: call.field(name) for name in call.settings.session_fields if call.has(name)}
    if not changes:
        return NO_FIELDS
    if not all(map(is_storable, changes.values())):
        return NOT_STORABLE
    token = record.session.token
    call.is_writing = True
    session = await call.services.accounts.update_session(token, changes, now_ms=call.now_ms)
    call.services.sessions.changed(token)
    if session is None:
        clear_session(call)
        return SESSION_LOST
    set_session(call, SessionRecord(session, record.user))
    return done({"session": session_fields(session)})
