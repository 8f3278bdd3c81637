"""The words of our pages: what happened, and what to do.

Written for a visitor who knows nothing of cookies, stores and upstreams; what only an operator can act on stands
apart, in the cause of a sign-in loop.
"""

from typing import NamedTuple

from gatekeeper.core.model import Reason


class Text(NamedTuple):
    """A page's heading, and its paragraphs: what happened, what to do."""

    title: str
    happened: str
    advice: str


class Cause(NamedTuple):
    """Why signing in did not hold: for the visitor, and for whoever runs the site."""

    visitor: str
    operator: str


def text_for(status: int, reason: Reason) -> Text:
    """The words for this answer: the reason's own, else the status's."""
    return _BY_REASON.get(reason) or _BY_STATUS.get(status) or (_SERVER_FAULT if status >= 500 else _BAD_REQUEST)


def cause_for(cause: Reason, *, secure_over_http: bool) -> Cause:
    """Why the third redirect in a row was about to happen."""
    if cause is Reason.NO_COOKIE and secure_over_http:
        return _SECURE_OVER_HTTP
    return _CAUSES.get(cause, _UNKNOWN_CAUSE)


_BAD_REQUEST = Text(
    "This address does not work",
    "Your browser sent a request that this site does not accept.",
    "Check the address for typing errors, or start from the home page.",
)
_SERVER_FAULT = Text(
    "Something went wrong",
    "The page could not be shown because of an error on our side.",
    "Please try again in a moment. If it keeps happening, tell the people who run this site.",
)
_NOT_ALLOWED = Text(
    "You cannot open this page",
    "You are signed in, but your account does not have access to this page.",
    "If you think it should, ask the people who run this site. You may also have another account that does.",
)
_APP_DOWN = Text(
    "The site is not answering",
    "The page could not be loaded, because the service behind it is not reachable right now.",
    "Please try again in a moment. Your sign-in is not affected.",
)

_BY_STATUS = {
    400: _BAD_REQUEST,
    403: _NOT_ALLOWED,
    404: Text(
        "Page not found",
        "There is no page at this address.",
        "Check the address for typing errors, or start from the home page.",
    ),
    502: _APP_DOWN,
    503: Text(
        "Please try again in a moment",
        "The site is busy or being restarted.",
        "Nothing is lost. Wait a few seconds, then load the page again.",
    ),
}

_BY_REASON = {
    Reason.STORE_UNAVAILABLE: Text(
        "We cannot check who you are right now",
        "The service that remembers who is signed in is not answering, so this page stays closed for the moment.",
        "You have not been signed out. Wait a few seconds, then load the page again.",
    ),
    Reason.SESSION_NOT_FRESH: Text(
        "Please sign in again",
        "This page asks for a recent sign-in, and yours was a while ago.",
        "Sign out, sign in again, then come back to this page.",
    ),
    Reason.EMAIL_NOT_VERIFIED: Text(
        "Please confirm your e-mail address",
        "This page is for accounts with a confirmed e-mail address, and yours is not confirmed yet.",
        "Look for the message we sent when you signed up and follow its link, then load this page again.",
    ),
    Reason.EMAIL_DOMAIN_REQUIRED: Text(
        "You cannot open this page",
        "This page is for members of certain organisations, and your e-mail address does not belong to one of them.",
        "If you have an account with another e-mail address, sign out and use that one.",
    ),
    Reason.TWO_FACTOR_REQUIRED: Text(
        "Please turn on two-step sign-in",
        "This page is for accounts that are protected by a second step when signing in.",
        "Turn it on in your account settings, then load this page again.",
    ),
    Reason.ORGANIZATION_REQUIRED: Text(
        "You cannot open this page",
        "This page is for members of certain organisations, and your account does not belong to one of them.",
        "Ask somebody of the organisation to invite you, then load this page again.",
    ),
    Reason.METHOD_NOT_ALLOWED: Text(
        "This does not work here",
        "The page at this address cannot be used in this way.",
        "Go back, and try again from the page you came from.",
    ),
    Reason.FOREIGN_ORIGIN: Text(
        "Request refused",
        "This request was started by another website. To keep your account safe, it was not carried out.",
        "If you meant to do this, start again from a page of this site.",
    ),
    Reason.BODY_TOO_LARGE: Text(
        "That is too large",
        "What you sent is larger than this site accepts.",
        "Try again with something smaller.",
    ),
    Reason.UPSTREAM_REFUSED: _APP_DOWN,
    Reason.UPSTREAM_TIMEOUT: Text(
        "The site took too long to answer",
        "The service behind this page is slow at the moment, so we stopped waiting.",
        "Please try again in a moment. Your sign-in is not affected.",
    ),
    Reason.UPSTREAM_PROTOCOL: Text(
        "The site gave an unusable answer",
        "The service behind this page answered with something that cannot be shown.",
        "Please try again. If it keeps happening, tell the people who run this site.",
    ),
    Reason.SIGN_IN_LOOP: Text(
        "Signing in does not seem to work",
        "You were sent to sign in several times in a row, and came back each time without being signed in. "
        "We stopped here, so that your browser does not go round in circles.",
        "If you had not finished signing in, simply go on to sign in. Otherwise clear this site's sign-in cookies "
        "and start anew: that helps most of the time.",
    ),
}

_SECURE_OVER_HTTP = Cause(
    "You are using this site over an unencrypted connection (http://), and your browser keeps the sign-in only for "
    "encrypted ones. Open the site with https:// instead.",
    "No session cookie arrived. The request came over http while cookies are marked Secure, so browsers withhold "
    "them: serve the site over https, or, behind a TLS proxy, list that proxy under trusted_proxies so that its "
    "X-Forwarded-Proto counts.",
)
_UNKNOWN_CAUSE = Cause(
    "We could not recognise your sign-in.",
    "The session was refused after sign-in. The access log and `gatekeeper explain` name the reason.",
)
_CAUSES = {
    Reason.NO_COOKIE: Cause(
        "Your browser did not send back the cookie that remembers your sign-in. Perhaps cookies are blocked for this "
        "site, or you signed in under another address of it.",
        "No session cookie arrived. Check the cookie's name (session.cookie.prefix, and the __Secure- prefix that "
        "public_url decides), its Domain and Path, and that sign-in and this page share a host.",
    ),
    Reason.BAD_SIGNATURE: Cause(
        "Your sign-in could not be confirmed: it was issued with settings that this site does not share.",
        "A session cookie arrived, but its signature does not verify. Most likely the secret of the app that signs "
        "people in differs from the gate's; check `secret` and `secrets`.",
    ),
    Reason.SESSION_EXPIRED: Cause(
        "Your sign-in had already run out when you came back.",
        "The session exists but is past its expiresAt. Check the clocks of the app and the gate, and expiresIn.",
    ),
    Reason.SESSION_UNKNOWN: Cause(
        "Your sign-in is not known here. It may have been ended on another device.",
        "The cookie is signed correctly, but the session is not in the store. Check that the app and the gate use "
        "the same database, and that a replica does not lag behind.",
    ),
    Reason.USER_BANNED: Cause(
        "This account is blocked at the moment.",
        "The session's user is banned. Lift the ban, or let it run out.",
    ),
}
