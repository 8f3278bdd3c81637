"""Passwords that were forgotten, and addresses that are to be verified: the calls behind the links of mails.

Whether there is an account for an address is told by no answer, and none waits for a mail: these are sent beside it.
A link for a new password holds once, and for an hour; one that verifies an address holds for an hour.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from gatekeeper.core.accounts import is_email
from gatekeeper.core.email_tokens import EmailTokenFault, make_email_token, read_email_token
from gatekeeper.core.model import User
from gatekeeper.core.urls import encode_uri_component
from gatekeeper.server.answers import Answer
from gatekeeper.server.auth_call import Call, Mail, Message
from gatekeeper.server.auth_documents import done, redirected
from gatekeeper.server.auth_refusals import (
    ALREADY_VERIFIED,
    EMAIL_MISMATCH,
    INVALID_TOKEN,
    RESET_OFF,
    VERIFICATION_OFF,
    Refusal,
)
from gatekeeper.server.auth_session import find_session
from gatekeeper.server.auth_signing import admit, hash_password, new_password_fault
from gatekeeper.stores.accounts import RESET_LINK, NewVerification

RESET_MS = 3_600_000
"""How long a link for a new password holds."""

_TOKEN_LENGTH = 24
_ASKED = "If this email exists in our system, check your email for the reset link"
_UNKNOWN = Refusal(401, "User not found", "USER_NOT_FOUND")
_TOKEN_FAULTS = {
    EmailTokenFault.INVALID: Refusal(401, "Invalid token", "INVALID_TOKEN"),
    EmailTokenFault.EXPIRED: Refusal(401, "Token expired", "TOKEN_EXPIRED"),
}


async def request_password_reset(call: Call) -> Answer | Refusal:
    """Send a link for a new password to this address, if it is somebody's."""
    mail = call.services.mail
    if mail is None:
        return RESET_OFF
    email = call.text("email").lower()
    if (refusal := await _mail_fault(call, email)) is not None:
        return refusal
    credential = await call.services.accounts.find_by_email(email)
    user = None if credential is None else credential.user
    token = call.new_id(_TOKEN_LENGTH)
    # For nobody a link is kept, too, which nobody gets: a write to disk takes longer than none.
    user_id = call.new_id() if user is None else user.id
    kept = NewVerification(call.new_id(), _identifier(token), user_id, call.now_ms + RESET_MS)
    await call.services.accounts.create_verification(kept, now_ms=call.now_ms)
    if user is not None:
        callback = encode_uri_component(call.text("redirectTo"))
        url = f"{_base_url(call)}/reset-password/{token}?callbackURL={callback}"
        mail.send(Message("reset-password", user, url, token, call.words))
        call.audit("password_reset_requested", user=user.id)
    return done({"status": True, "message": _ASKED})


async def follow_reset_link(call: Call) -> Answer | Refusal:
    """Lead to the page for a new password, with the token if it still holds."""
    callback = call.query["callbackURL"]
    if not isinstance(callback, str) or not callback:
        return redirected(f"{_base_url(call)}/error?error=INVALID_TOKEN")
    kept = await call.services.accounts.find_verification(_identifier(call.parameter), now_ms=call.now_ms)
    name, value = ("error", "INVALID_TOKEN") if kept is None else ("token", call.parameter)
    return redirected(_with_parameter(callback, call.request.own_origin, name, value))


async def reset_password(call: Call) -> Answer | Refusal:
    """Give an account another password, for who has the token of a mail."""
    given = call.text("token") or call.query.get("token")
    if not isinstance(given, str) or not given:
        return INVALID_TOKEN
    password = call.text("newPassword")
    if (fault := new_password_fault(call, password)) is not None:
        return fault
    accounts, identifier = call.services.accounts, _identifier(given)
    if await accounts.find_verification(identifier, now_ms=call.now_ms) is None:
        return INVALID_TOKEN
    admitted = await admit(call, None)
    if isinstance(admitted, Refusal):
        return admitted
    hashed = await hash_password(call, password, admitted)
    if isinstance(hashed, Refusal):
        return hashed
    call.is_writing = True
    reset = await accounts.reset_password(
        identifier, hashed, account_id=call.new_id(), now_ms=call.now_ms, revoke=call.settings.revoke_on_reset
    )
    if reset is None:
        return INVALID_TOKEN
    call.end(reset.revoked)
    call.audit("password_reset", user=reset.user.id, revoked=len(reset.revoked))
    return done({"status": True})


async def send_verification_email(call: Call) -> Answer | Refusal:
    """Send a link to the caller's address that verifies it; to any address for who is not signed in."""
    mail = call.services.mail
    if mail is None:
        return VERIFICATION_OFF
    email = call.text("email").lower()
    record = await find_session(call)
    if record is not None:
        if record.user.email.lower() != email:
            return EMAIL_MISMATCH
        if record.user.email_verified:
            return ALREADY_VERIFIED
    if (refusal := await _mail_fault(call, email)) is not None:
        return refusal
    credential = await call.services.accounts.find_by_email(email) if record is None else None
    user = record.user if record is not None else None if credential is None else credential.user
    if user is not None and not user.email_verified:
        _send_verification(call, mail, user)
    return done({"status": True})


async def verify_email(call: Call) -> Answer | Refusal:
    """Note that an address is its user's, for who has the token of a mail."""
    token = read_email_token(str(call.query["token"]), call.settings.keys, now_ms=call.now_ms)
    if isinstance(token, EmailTokenFault):
        return _failed(call, _TOKEN_FAULTS[token])
    if not is_email(token.email):
        return _failed(call, _TOKEN_FAULTS[EmailTokenFault.INVALID])
    credential = await call.services.accounts.find_by_email(token.email.lower())
    if credential is None:
        return _failed(call, _UNKNOWN)
    user = credential.user
    if token.user_id is not None and token.user_id != user.id:
        return _failed(call, _TOKEN_FAULTS[EmailTokenFault.INVALID])
    if not user.email_verified:
        call.is_writing = True
        await call.services.accounts.update_user(user.id, {"emailVerified": True}, now_ms=call.now_ms)
        call.services.sessions.user_changed(user.id)
        call.audit("email_verified", user=user.id)
    callback = call.query.get("callbackURL")
    return redirected(str(callback)) if callback else done({"status": True, "user": None})


async def _mail_fault(call: Call, email: str) -> Refusal | None:
    """Why the caller may not have a mail sent there now, or None, and then it is counted.

    Counted for the caller's address and for where it goes, whoever is signed in: anybody can sign up with anybody's
    address, or come from many.  Mails are counted apart from tries of the password, so that neither uses up the other.
    """
    admitted = await admit(call, f"mail:{email}")  # a colon: no address is written like this
    return admitted if isinstance(admitted, Refusal) else None


def _send_verification(call: Call, mail: Mail, user: User) -> None:
    token = make_email_token(user.email, user.id, call.settings.keys, now_ms=call.now_ms)
    callback = encode_uri_component(call.text("callbackURL") or "/")
    url = f"{_base_url(call)}/verify-email?token={token}&callbackURL={callback}"
    mail.send(Message("verify-email", user, url, token, call.words))


def _failed(call: Call, refusal: Refusal) -> Answer | Refusal:
    """The refusal, or the way to where the link leads, which is told of it."""
    callback = call.query.get("callbackURL")
    if not isinstance(callback, str) or not callback:
        return refusal
    rest, hash_sign, fragment = callback.partition("#")
    separator = "?" if "?" not in rest else "" if rest.endswith(("?", "&")) else "&"
    return redirected(f"{rest}{separator}error={refusal.code}{hash_sign}{fragment}")


def _identifier(token: str) -> str:
    return f"{RESET_LINK}{token}"


def _base_url(call: Call) -> str:
    return call.request.own_origin + call.settings.base_path


def _with_parameter(url: str, own_origin: str, name: str, value: str) -> str:
    """The absolute URL with one parameter set, whatever it had of that name."""
    parts = urlsplit(own_origin + url if url.startswith("/") else url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    at = next((index for index, (key, _) in enumerate(pairs) if key == name), len(pairs))
    pairs = [*pairs[:at], (name, value), *(pair for pair in pairs[at:] if pair[0] != name)]
    query = urlencode(pairs, safe="*").replace("~", "%7E")  # as URLSearchParams prints it
    return urlunsplit(parts._replace(path=parts.path or "/", query=query))
