"""Why an account call is refused: Better Auth's statuses, texts and codes.

A refusal is a value that a call returns; `auth_api` makes the answer of it.
"""

import msgspec

from gatekeeper.core.decide import RETRY_AFTER_S
from gatekeeper.server.answers import Answer, Headers, json_answer


class Refusal(msgspec.Struct, frozen=True):
    """An error as the client reads it; `code` is None where Better Auth gives none.

    `retry_after_s` is sent as `Retry-After`, and as `X-Retry-After`, which Better Auth's client reads.
    """

    status: int
    message: str
    code: str | None = None
    retry_after_s: int | None = None


def refused(refusal: Refusal, headers: Headers = ()) -> Answer:
    """The answer to a call that was refused."""
    document = {"message": refusal.message}
    if refusal.code is not None:
        document["code"] = refusal.code
    if refusal.retry_after_s is not None:
        seconds = str(refusal.retry_after_s).encode()
        headers = (*headers, (b"Retry-After", seconds), (b"X-Retry-After", seconds))
    return json_answer(refusal.status, document, headers)


def invalid(message: str) -> Refusal:
    """What a body or a query is refused with whose fields are not what they should be."""
    return Refusal(400, message, "VALIDATION_ERROR")


# the form of a request
INVALID_JSON = Refusal(400, "Invalid JSON in request body", "BAD_REQUEST")
NO_FIELDS = Refusal(400, "No fields to update")
EMAIL_CANNOT_BE_UPDATED = Refusal(400, "Email can not be updated", "EMAIL_CAN_NOT_BE_UPDATED")
POST_NOT_ALLOWED = Refusal(
    405,
    "POST method requires deferSessionRefresh to be enabled in session config",
    "METHOD_NOT_ALLOWED_DEFER_SESSION_REQUIRED",
)

NOT_STORABLE = Refusal(400, "A value cannot be stored", "VALIDATION_ERROR")

# where it comes from
NO_ORIGIN = Refusal(403, "Missing or null Origin", "MISSING_OR_NULL_ORIGIN")
INVALID_ORIGIN = Refusal(403, "Invalid origin", "INVALID_ORIGIN")
INVALID_CALLBACK = Refusal(403, "Invalid callbackURL", "INVALID_CALLBACK_URL")
CROSS_SITE_SIGN_IN = Refusal(
    403,
    "Cross-site navigation login blocked. This request appears to be a CSRF attack.",
    "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED",
)

# whose it is
UNAUTHORIZED = Refusal(401, "Unauthorized", "UNAUTHORIZED")
NOT_FRESH = Refusal(403, "Session is not fresh", "SESSION_NOT_FRESH")
SESSION_LOST = Refusal(401, "Failed to get session", "FAILED_TO_GET_SESSION")
BANNED = Refusal(
    403,
    "You have been banned from this application. Please contact support if you believe this is an error.",
    "BANNED_USER",
)

# accounts and passwords
SIGN_UP_OFF = Refusal(400, "Email and password sign up is not enabled", "EMAIL_PASSWORD_SIGN_UP_DISABLED")
EMAIL_TAKEN = Refusal(422, "User already exists. Use another email.", "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL")
INVALID_EMAIL = Refusal(400, "Invalid email", "INVALID_EMAIL")
INVALID_EMAIL_OR_PASSWORD = Refusal(401, "Invalid email or password", "INVALID_EMAIL_OR_PASSWORD")
INVALID_PASSWORD = Refusal(400, "Invalid password", "INVALID_PASSWORD")
NO_PASSWORD = Refusal(400, "Credential account not found", "CREDENTIAL_ACCOUNT_NOT_FOUND")
PASSWORD_FAULTS = {
    "PASSWORD_TOO_SHORT": Refusal(400, "Password too short", "PASSWORD_TOO_SHORT"),
    "PASSWORD_TOO_LONG": Refusal(400, "Password too long", "PASSWORD_TOO_LONG"),
}

# mail
RESET_OFF = Refusal(400, "Reset password isn't enabled", "RESET_PASSWORD_DISABLED")
VERIFICATION_OFF = Refusal(400, "Verification email isn't enabled", "VERIFICATION_EMAIL_NOT_ENABLED")
INVALID_TOKEN = Refusal(400, "Invalid token", "INVALID_TOKEN")
EMAIL_MISMATCH = Refusal(400, "Email mismatch", "EMAIL_MISMATCH")
ALREADY_VERIFIED = Refusal(400, "Email is already verified", "EMAIL_ALREADY_VERIFIED")

# not now
STORE_UNAVAILABLE = Refusal(503, "The session store does not answer", "STORE_UNAVAILABLE", RETRY_AFTER_S)


def busy(seconds: int) -> Refusal:
    """More passwords wait than there is time for."""
    return Refusal(503, "Too many sign-ins at once. Please try again later.", "BUSY", seconds)


def too_many(seconds: int) -> Refusal:
    """Who tried too often is to wait so long."""
    return Refusal(429, "Too many requests. Please try again later.", None, seconds)
