"""What a refused account call is called for the person who sent the form: never more than the call itself tells."""

from gatekeeper.server.account_pages.visit import Fault
from gatekeeper.server.auth_refusals import Refusal
from gatekeeper.server.texts import Words

_WORDS = {
    "INVALID_EMAIL_OR_PASSWORD": "credentials",
    "BANNED_USER": "blocked",
    "STORE_UNAVAILABLE": "store",
    "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL": "taken",
    "CREDENTIAL_ACCOUNT_NOT_FOUND": "no_password",
    "EMAIL_MISMATCH": "email_mismatch",
    "EMAIL_IS_ALREADY_VERIFIED": "already_verified",
    "EMAIL_ALREADY_VERIFIED": "already_verified",
    "VALIDATION_ERROR": "unusable",
}
_FIELDS = {"INVALID_EMAIL": ("email", "email"), "INVALID_PASSWORD": ("currentPassword", "current_password")}
_OF_BODY = {"[body.email]": ("email", "email"), "[body.name]": ("name", "name")}


def fault_of(refusal: Refusal, words: Words, *, new_field: str = "", min_length: int = 0) -> Fault:
    """The fault that a form is shown again with.

    `new_field` is the name of the field with the password that may be too short or too long; "" is `password`.
    """
    code, faults = refusal.code or "", words.faults
    if code == "PASSWORD_TOO_SHORT":
        return Fault(words.counts["too_short"].of(min_length), new_field or "password")
    if code == "PASSWORD_TOO_LONG":
        return Fault(faults["too_long"], new_field or "password")
    field = _FIELDS.get(code) or next((at for mark, at in _OF_BODY.items() if refusal.message.startswith(mark)), None)
    if field is not None:
        return Fault(faults[field[1]], field[0])
    if refusal.retry_after_s is not None and code != "STORE_UNAVAILABLE":
        text = faults["too_many" if refusal.status == 429 else "busy"]
        return Fault(text.format(duration=words.duration(refusal.retry_after_s)))
    return Fault(faults[_WORDS.get(code, "failed")])
