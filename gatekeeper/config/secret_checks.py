"""Whether secrets are worth their name.  No message holds one, nor a part or the length of one."""

import re
from collections.abc import Iterator

from gatekeeper.config.addresses import is_loopback_only
from gatekeeper.config.schema import Settings

MIN_SECRET_BYTES = 32
MIN_DIFFERENT = 8
"""Different characters of a secret: chance alone gives more, even where all are digits."""

HOW_TO_MAKE_ONE = "make one with `openssl rand -base64 32`, and use the app's own BETTER_AUTH_SECRET"

_EXAMPLES = re.compile(
    r"secret|change[-_ ]?me|example|password|your[-_ ]|better[-_]auth|12345678|abcdefgh|qwertyui", re.IGNORECASE
)


def check_secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    """Path and message of what is wrong with the secrets."""
    if not settings.secrets:
        yield "secrets", f"there is no secret; {HOW_TO_MAKE_ONE}"
        return
    seen: set[int] = set()
    weak_is_fine = is_loopback_only(settings)
    for index, secret in enumerate(settings.secrets):
        if secret.version in seen:
            yield f"secrets[{index}].version", f"version {secret.version} is there already: each has its own"
        seen.add(secret.version)
        wrong = _problem(secret.value, weak_is_fine)
        if wrong:
            yield f"secrets[{index}].value", wrong


def _problem(value: str, weak_is_fine: bool) -> str | None:
    if not value.strip():
        return f"the secret is empty; {HOW_TO_MAKE_ONE}"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "the secret is not UTF-8 text"
    if weak_is_fine:
        return None
    if len(value.encode()) < MIN_SECRET_BYTES:
        return f"the secret is shorter than {MIN_SECRET_BYTES} bytes; {HOW_TO_MAKE_ONE}"
    if len(set(value)) < MIN_DIFFERENT or _EXAMPLES.search(value) or _repeats(value):
        return f"the secret looks like an example, not like chance; {HOW_TO_MAKE_ONE}"
    return None


def _repeats(value: str) -> bool:
    """Whether this is one piece again and again, the last time perhaps cut short."""
    return any(value[length:] == value[:-length] for length in range(1, len(value) // 2 + 1))
