"""The session of an account call: found, extended when it is due, and its cookies, in Better Auth's way and order.

A session_data cookie is left alone while it says what is true, and made anew when it has ended or something has
changed.  It never makes a session live that is not: what `Sessions.read` says counts.
"""

from msgspec.structs import replace

from gatekeeper.core.cookies import (
    VerifiedToken,
    find_cookie,
    find_session_data,
    session_data_names,
    sign_value,
    verify_value,
)
from gatekeeper.core.credentials import presented_token, resigned_cookies, resigned_set_cookies
from gatekeeper.core.lifecycle import extended, is_due, is_remembered
from gatekeeper.core.model import Reason, SessionRecord
from gatekeeper.core.policy import fault_of
from gatekeeper.core.session_cookies import clearing_lines, data_lines, dont_remember_line, token_line
from gatekeeper.core.session_data_writing import encode
from gatekeeper.server.auth_call import Call
from gatekeeper.server.auth_refusals import UNAUTHORIZED, Refusal


async def find_session(call: Call, *, from_store: bool = False) -> SessionRecord | None:
    """The live session of this call and its user; sets the cookies that follow from it.

    The query may ask for the store's word (`disableCookieCache`) and for nothing to be written (`disableRefresh`): any
    text but the empty one says so.  Raises StoreError.
    """
    _clear_unwanted(call)
    found = presented(call)
    if isinstance(found, Reason):
        return None
    from_store = from_store or bool(call.query.get("disableCookieCache"))
    record = await _live(call, found, from_store=from_store)
    if record is None:
        clear_session(call)
        return None
    if found.key_index > 0:
        _resign(call)
    return await _kept_up(call, found, record, from_store=from_store)


async def require_session(call: Call, *, from_store: bool = False) -> SessionRecord | Refusal:
    """The same, or the refusal of who has no live session.  What changes things asks the store."""
    return await find_session(call, from_store=from_store) or UNAUTHORIZED


def presented(call: Call) -> VerifiedToken | Reason:
    """The token that the call carries, or why it carries none."""
    facts, settings = call.request.facts, call.settings
    return presented_token(
        facts.cookie, facts.authorization, settings.names.session_token, settings.keys, bearer=settings.bearer
    )


def set_session(call: Call, record: SessionRecord, *, remembered: bool | None = None) -> None:
    """Set the cookies of this session; unless said, it is remembered if the caller's was."""
    settings, names = call.settings, call.settings.names
    cookie = call.request.facts.cookie
    if remembered is None:
        remembered = is_remembered(cookie, names, settings.keys)
    max_age_s = settings.lifetimes.expires_in_ms // 1000 if remembered else None
    call.set_cookies([token_line(names, sign_value(record.session.token, settings.keys), settings.scope, max_age_s)])
    if not remembered:
        call.set_cookies([dont_remember_line(names, sign_value("true", settings.keys), settings.scope)])
    elif (raw := find_cookie(cookie, names.dont_remember)) and verify_value(raw, settings.keys):
        call.set_cookies([dont_remember_line(names, "", settings.scope)])
    _set_data(call, record, remembered=remembered)


def clear_session(call: Call) -> None:
    """Clear all cookies of the caller's session."""
    call.set_cookies(clearing_lines(call.settings.names, call.request.facts.cookie, call.settings.scope))


async def _live(call: Call, found: VerifiedToken, *, from_store: bool) -> SessionRecord | None:
    """The session, if it is live; one that has expired is removed, if the store says so too."""
    sessions, facts = call.services.sessions, call.request.facts
    record = await sessions.read(found.token, facts, from_store=from_store)
    if record is not None and not from_store and fault_of(record, call.now_ms) is Reason.SESSION_EXPIRED:
        record = await sessions.read(found.token, facts, from_store=True)
    fault = None if record is None else fault_of(record, call.now_ms)
    if fault is Reason.SESSION_EXPIRED:
        await call.services.accounts.delete_session(found.token)
        sessions.ended([found.token])
    return record if fault is None else None


async def _kept_up(
    call: Call, found: VerifiedToken, record: SessionRecord, *, from_store: bool
) -> SessionRecord | None:
    """The session after this use of it: extended if that is due, with a session_data cookie that is true."""
    settings, cookie = call.settings, call.request.facts.cookie
    raw = find_session_data(cookie, settings.names.session_data)
    known = call.services.data_cookies
    if known is not None and raw and not from_store:
        if known.true_until_ms(raw, record, call.now_ms) is not None:
            return record
        call.set_cookies(data_lines(settings.names, None, cookie, settings.scope, None))
    if call.query.get("disableRefresh") or not is_remembered(cookie, settings.names, settings.keys):
        return record
    if is_due(record.session, settings.lifetimes, call.now_ms):
        return await _extended(call, found, record)
    _set_data(call, record, remembered=True)
    return record


async def _extended(call: Call, found: VerifiedToken, record: SessionRecord) -> SessionRecord | None:
    """The session once extended, by this call or by another one at the same time; None if it is gone."""
    services = call.services
    after = extended(record.session, call.settings.lifetimes, call.now_ms)
    is_made = await services.accounts.extend(record.session, expires_at_ms=after.expires_at_ms, now_ms=call.now_ms)
    services.sessions.changed(found.token)
    if is_made:
        current: SessionRecord | None = replace(record, session=after)
    else:
        current = await services.sessions.read(found.token, call.request.facts, from_store=True)
    if current is None or fault_of(current, call.now_ms) is not None:
        clear_session(call)
        return None
    set_session(call, current, remembered=True)
    return current


def _set_data(call: Call, record: SessionRecord, *, remembered: bool) -> None:
    """Set the session_data cookie of this session, where there are any."""
    settings, form = call.settings, call.settings.data_format
    if form is None:
        return
    uuid = call.services.new_uuid()
    data = encode(record, settings.keys, form, now_ms=call.now_ms, cookie_id=uuid, remembered=remembered)
    max_age_s = form.max_age_s if remembered else None
    call.set_cookies(data_lines(settings.names, data, call.request.facts.cookie, settings.scope, max_age_s))


def _clear_unwanted(call: Call) -> None:
    """Where no session_data cookies are written, one from other times is cleared."""
    settings, cookie = call.settings, call.request.facts.cookie
    if settings.data_format is None and session_data_names(cookie, settings.names.session_data):
        call.set_cookies(data_lines(settings.names, None, cookie, settings.scope, None))


def _resign(call: Call) -> None:
    """Give the browser its cookies under the current secret, instead of an older one."""
    settings, cookie = call.settings, call.request.facts.cookie
    resigned = resigned_cookies(cookie, settings.names, settings.keys)
    max_age_s = settings.lifetimes.expires_in_ms // 1000
    lines = resigned_set_cookies(resigned, cookie, settings.names, settings.scope, max_age_s, settings.keys)
    call.set_cookies(line.decode("ascii") for line in lines)
