"""Signing up, in and out: the calls that begin and end a session.

Each sign-in has a session and a token of its own.  Of an account that there is not one learns nothing: the same answer,
after as much work.
"""

from ipaddress import IPv6Address, ip_address, ip_network

from gatekeeper.core.accounts import is_email, password_fault
from gatekeeper.core.attempts import DEVICE_COOKIE, account_key, device_cookie, device_line
from gatekeeper.core.cookies import find_cookie
from gatekeeper.core.credentials import presented_tokens
from gatekeeper.core.model import SessionRecord, User
from gatekeeper.core.policy import is_banned
from gatekeeper.server.answers import Answer, to_ascii
from gatekeeper.server.auth_call import Call
from gatekeeper.server.auth_documents import done, user_fields
from gatekeeper.server.auth_refusals import (
    BANNED,
    EMAIL_TAKEN,
    INVALID_EMAIL,
    INVALID_EMAIL_OR_PASSWORD,
    PASSWORD_FAULTS,
    SIGN_UP_OFF,
    Refusal,
    busy,
    too_many,
)
from gatekeeper.server.auth_session import clear_session, set_session
from gatekeeper.server.passwords import Busy
from gatekeeper.server.throttle import Admitted, Wait
from gatekeeper.stores.accounts import EmailTaken, NewSession, NewUser
from gatekeeper.telemetry.lines import session_mark

FORGOTTEN_MS = 86_400_000
"""How long a session lives that is not to be remembered."""

_IPV6_NETWORK_BITS = 64


async def sign_up(call: Call) -> Answer | Refusal:
    """Make an account, and sign it in."""
    if not call.settings.sign_up:
        return SIGN_UP_OFF
    fault = new_password_fault(call, call.text("password"))
    if fault is not None:
        return fault
    email = call.text("email").lower()
    accounts = call.services.accounts
    admitted = await admit(call, None)
    if isinstance(admitted, Refusal):
        return admitted
    if await accounts.find_by_email(email) is not None:  # after it was counted: nobody finds out many addresses
        return EMAIL_TAKEN
    hashed = await hash_password(call, call.text("password"), admitted)
    if isinstance(hashed, Refusal):
        return hashed
    image = call.field("image")
    user = NewUser(
        call.new_id(),
        call.new_id(),
        call.text("name"),
        email,
        hashed,
        image=image if isinstance(image, str) else None,
    )
    remembered = call.field("rememberMe") is not False
    call.is_writing = True
    made = await accounts.create_user(user, new_session(call, user.id, remembered=remembered), now_ms=call.now_ms)
    if isinstance(made, EmailTaken) or made.session is None:
        return EMAIL_TAKEN
    set_session(call, SessionRecord(made.session, made.user), remembered=remembered)
    _remember_device(call, email)
    call.audit("signed_up", user=made.user.id, session=session_mark(made.session.token))
    return done({"token": made.session.token, "user": user_fields(made.user)})


async def sign_in(call: Call) -> Answer | Refusal:
    """Sign an account in by its address and password."""
    email, password = call.text("email"), call.text("password")
    if not is_email(email):
        return INVALID_EMAIL
    if (fault := password_fault(password, 0)) is not None:
        return PASSWORD_FAULTS[fault]
    email = email.lower()
    admitted = await admit(call, email)
    if isinstance(admitted, Refusal):
        return admitted
    credential = await call.services.accounts.find_by_email(email)
    right = await check_password(call, admitted, credential.password if credential is not None else None, password)
    if isinstance(right, Refusal):
        return right
    if credential is None or not right:
        call.audit("sign_in_failed", user=None if credential is None else credential.user.id)
        return INVALID_EMAIL_OR_PASSWORD
    await call.services.throttle.succeeded(admitted)
    if is_banned(credential.user, call.now_ms):
        call.audit("sign_in_failed", user=credential.user.id)
        return BANNED
    return await _begin_session(call, credential.user, email)


async def sign_out(call: Call) -> Answer | Refusal:
    """End the session that the call carries; where a header and a cookie carry two, both."""
    facts, settings = call.request.facts, call.settings
    carried = presented_tokens(
        facts.cookie, facts.authorization, settings.names.session_token, settings.keys, bearer=settings.bearer
    )
    call.is_writing = True
    for one in carried:
        has_ended = await call.services.accounts.delete_session(one.token)
        call.end([one.token])
        if has_ended:
            call.audit("signed_out", session=session_mark(one.token))
    clear_session(call)
    return done({"success": True})


def new_session(call: Call, user_id: str, *, remembered: bool = True) -> NewSession:
    """A session for this user, from where the call comes."""
    return NewSession(
        call.new_id(),
        call.new_id(),
        user_id,
        call.now_ms + (call.settings.lifetimes.expires_in_ms if remembered else FORGOTTEN_MS),
        ip_address=session_address(call.request.facts.client_address),
        user_agent=call.request.user_agent or "",
    )


def session_address(address: str) -> str:
    """A client's address as Better Auth keeps it: of IPv6 the network of 64 bits in full, "" for what is none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    if isinstance(parsed, IPv6Address):
        return ip_network((parsed, _IPV6_NETWORK_BITS), strict=False).network_address.exploded
    return str(parsed)


def new_password_fault(call: Call, password: str) -> Refusal | None:
    """Why this cannot become a password, or None."""
    fault = password_fault(password, call.settings.min_password_length)
    return None if fault is None else PASSWORD_FAULTS[fault]


async def admit(call: Call, email: str | None) -> Admitted | Refusal:
    """Count a try of the caller at this account, None for no account's.  Raises StoreError."""
    facts, keys = call.request.facts, call.settings.keys
    device = find_cookie(facts.cookie, DEVICE_COOKIE)
    admitted = await call.services.throttle.admit(
        facts.client_address, email, device_cookie=device, keys=keys, now_ms=call.now_ms
    )
    if isinstance(admitted, Wait):
        call.audit("sign_in_throttled", seconds=admitted.retry_after_s)
        return too_many(admitted.retry_after_s)
    return admitted


async def check_password(call: Call, admitted: Admitted, stored: str | None, password: str) -> bool | Refusal:
    """Whether it is the password of this hash; None is nobody's."""
    right = await call.services.passwords.verify(password, stored, admitted.line)
    if isinstance(right, Busy):
        await call.services.throttle.withdrawn(admitted)
        return busy(right.retry_after_s)
    return right


async def hash_password(call: Call, password: str, admitted: Admitted) -> str | Refusal:
    """The hash of a new password."""
    hashed = await call.services.passwords.hash(password, admitted.line)
    if isinstance(hashed, Busy):
        await call.services.throttle.withdrawn(admitted)
        return busy(hashed.retry_after_s)
    return hashed


async def _begin_session(call: Call, user: User, email: str) -> Answer | Refusal:
    """Sign this user in, whose password was right."""
    remembered = call.field("rememberMe") is not False
    wanted = new_session(call, user.id, remembered=remembered)
    call.is_writing = True
    session = await call.services.accounts.create_session(wanted, now_ms=call.now_ms)
    if session is None:
        return INVALID_EMAIL_OR_PASSWORD
    set_session(call, SessionRecord(session, user), remembered=remembered)
    _remember_device(call, email)
    call.audit("signed_in", user=user.id, session=session_mark(session.token))
    callback = call.field("callbackURL")
    leads = {} if callback is None else {"url": callback}
    document = {"redirect": bool(callback), "token": session.token, **leads, "user": user_fields(user)}
    return done(document, ((b"Location", to_ascii(call.text("callbackURL"))),) if callback else ())


def _remember_device(call: Call, email: str) -> None:
    """Let this browser try passwords of this account although others have used up the account's tries."""
    settings = call.settings
    raw = find_cookie(call.request.facts.cookie, DEVICE_COOKIE)
    value = device_cookie(raw, account_key(email), settings.keys, call.now_ms // 1000, call.services.random_bytes)
    call.set_cookies([device_line(value, secure=settings.scope.secure)])
