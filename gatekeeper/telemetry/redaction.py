"""What must not stand in a log: one rule, `Redactor.redact`, for every text that is logged, tracebacks included.

What is replaced by `[redacted]`:

* the configured secrets, as they are and as `repr` or JSON would write them;
* signed cookie values: a token, a dot and the 43 or 44 base64 characters of a MAC, wherever they stand;
* values of session cookies by the cookie's name (`session_token` and `session_data` of any prefix, the configured
  names);
* the rest of the line after `Cookie:`, `Set-Cookie:`, `Authorization:` and their like, and bearer credentials;
* values of query parameters whose name speaks of a secret (these become `***`), also inside an escaped URL;
* JSON in base64url, which is how JWTs, JWEs and session_data cookies begin;
* what comes after `/reset-password/` in a path: Better Auth's links for a new password have their token there.

The same holds for what is percent-escaped, once or several times: a piece of text that holds one of these after
decoding goes as a whole.  The rule takes too much rather than too little.  It cannot know a token that stands bare,
without signature, name or context: code must not log such.

Every pattern here takes time linear in the text, which may be a client's.
"""

import json
import re
from collections.abc import Iterable, Iterator

REDACTED = "[redacted]"
HIDDEN = "***"
"""Stands for the value of a query parameter."""

MIN_SECRET_CHARS = 4
"""A shorter secret is not looked for: it would stand in ordinary words."""

_MAX_DECODINGS = 4
_MAC_CHARS = 43
_ODD_PAIRS = 8
_SHORTEST_CREDENTIAL = len("session_data=")
_MEMO_LIMIT = 1024
_MEMO_LENGTH = 64

_MAC_CHAR = r"(?:[A-Za-z0-9+/_-]|%(?:25)*2[BbFf])"
_SIGNATURE = re.compile(rf"\.{_MAC_CHAR}{{{_MAC_CHARS}}}(?:=|%(?:25)*3[Dd]|(?!{_MAC_CHAR}))")
_PIECE = re.compile(r"""[^\s"';,&?<>()]+""")
_JSON_IN_BASE64 = re.compile(r"eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*)*")
_RESET_LINK = re.compile(r"""(?i)(/reset-password/)[^/?#\s"'&;<>]+""")
_HEADER = re.compile(
    r"""(?i)(?<![A-Za-z0-9_])((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)(["']?\s*(?::|["']\s*[,:=]|=)\s*)[^\r\n]*"""
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[^\s\"',;]{6,}")
_COOKIE_VALUE = r"""((?:=|%3[Dd]|["']\s*[:,]\s*b?(?=["']))\s*)(?:"[^"\r\n]*"?|'[^'\r\n]*'?|[^;\s]*)"""
_COOKIE_NAMES = ("session_token", "session_data", "dont_remember")
_PARAMETER = re.compile(r"([?&;#])([^?&;=\s\"'<>]*)=([^?&;\s\"'<>]*)")
_NAME_OF_PARAMETER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,40}")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_NAME = re.compile(r"([^?&;=]+)=")
_SUSPECT = re.compile(r"""[%=:"';?&\r\n]|eyJ|(?i:bearer|/reset-password/)""")
"""Without one of these, only a signature can be found in a text."""

_TELLING_PART = re.compile(
    r"(?i)token|code|secret|key|pass|pwd|signature|state|session|auth|credential|assertion|ticket|nonce|jwt|otp|saml|cookie"
)
_TELLING_NAMES = frozenset({"sig", "sid", "pin", "hash", "hmac", "mac", "csrf"})


class Redactor:
    """The rule, with what only this gate knows: its secrets, and how its cookies are called."""

    def __init__(self, secrets: Iterable[str] = (), cookie_names: Iterable[str] = ()) -> None:
        self._secrets = _spellings(secrets)
        names = "|".join(re.escape(name) for name in (*cookie_names, *_COOKIE_NAMES))
        self._cookie = re.compile(rf"((?:{names})(?:\.\d+)?){_COOKIE_VALUE}")
        self._telling: dict[str, bool] = {}

    def __repr__(self) -> str:
        return "<Redactor>"

    def redact(self, text: str) -> str:
        """The text without what must not be logged.  To be called before anything is cut off or escaped."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, REDACTED)
        if _is_plain(text):
            return text
        text = _HEADER.sub(rf"\1\2{REDACTED}", text)
        text = self._cookie.sub(rf"\1\2{REDACTED}", text)
        text = _BEARER.sub(rf"\1{REDACTED}", text)
        text = _RESET_LINK.sub(rf"\1{REDACTED}", text)
        if "=" in text:
            text = _PARAMETER.sub(self._without_value, text)
        text = _PIECE.sub(self._without_credentials, text)
        return _JSON_IN_BASE64.sub(REDACTED, text)  # last: a MAC may look like it by chance, and must be found whole

    def redact_query(self, query: str) -> str:
        """A request's query, values of telling names hidden, and otherwise as `redact` leaves it.

        Of odd values only the first few are looked into, since that takes time; the others are hidden.
        """
        parts = query.split("&")
        odd = [index for index, pair in enumerate(parts) if not self._is_plain_pair(pair)]
        for number, index in enumerate(odd):
            name, _, value = parts[index].partition("=")
            hides = number >= _ODD_PAIRS or self._is_telling(name) or self._holds_pairs(value)
            parts[index] = f"{_safe_name(name)}={HIDDEN}" if hides else self.redact(parts[index])
        safe = "&".join(parts)
        return self.redact(safe) if self._holds_secret(safe) else safe

    def _is_plain_pair(self, pair: str) -> bool:
        """Whether nothing in this parameter is to be hidden; quick, for what most queries are made of."""
        name, _, value = pair.partition("=")
        if value and self._is_telling(name):
            return False
        decoded = _decoded(value)
        return _is_plain(decoded) and _is_plain(name) and (decoded is value or not self._holds_secret(decoded))

    def _without_value(self, match: re.Match[str]) -> str:
        mark, name, value = match.groups()
        return f"{mark}{name}={HIDDEN}" if self._is_telling(name) or self._holds_pairs(value) else match[0]

    def _is_telling(self, name: str) -> bool:
        """Whether a parameter of this name, escaped or not, is likely to hold a secret."""
        known = self._telling.get(name)
        if known is None:
            plain = _decoded(name)
            known = _TELLING_PART.search(plain) is not None or plain.lower() in _TELLING_NAMES
            if len(self._telling) >= _MEMO_LIMIT:
                self._telling.clear()
            if len(name) <= _MEMO_LENGTH:
                self._telling[name] = known
        return known

    def _holds_pairs(self, value: str) -> bool:
        """Whether this is an escaped URL or form with a telling parameter of its own."""
        if "%" not in value:
            return False
        return any(map(self._is_telling, _NAME.findall(_decoded(value))))

    def _without_credentials(self, match: re.Match[str]) -> str:
        """A piece of text between blanks and punctuation, without signed values; nothing of it if they are escaped."""
        piece = match[0]
        end = 0
        for signature in _SIGNATURE.finditer(piece) if len(piece) > _MAC_CHARS else ():
            end = signature.end()
        if end:
            piece = REDACTED + piece[end:]
        if "%" in piece:
            decoded = _decoded(piece)
            if self._holds_secret(decoded) or (len(decoded) >= _SHORTEST_CREDENTIAL and self._is_credential(decoded)):
                return REDACTED
        return piece

    def _holds_secret(self, decoded: str) -> bool:
        """Whether a secret stands in this text."""
        return any(map(decoded.__contains__, self._secrets))

    def _is_credential(self, decoded: str) -> bool:
        patterns = (_SIGNATURE, _JSON_IN_BASE64, _RESET_LINK, self._cookie)
        return any(pattern.search(decoded) is not None for pattern in patterns)


def _safe_name(name: str) -> str:
    """The name of a parameter, or what stands for one that is no plain word."""
    return name if _NAME_OF_PARAMETER.fullmatch(name) else HIDDEN


def _is_plain(text: str) -> bool:
    """Whether none of the patterns can be found in this text."""
    return _SUSPECT.search(text) is None and (len(text) <= _MAC_CHARS or "." not in text)


def _spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """How each secret may stand in a text, header values and decoded escapes being read as latin-1; the longest first,
    since one may be a part of another.  One with escapes in it may have been decoded as well.
    """
    found: set[str] = set()
    for secret in secrets:
        as_json = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
        as_latin_1 = secret.encode("utf-8", "surrogatepass").decode("latin-1")
        in_form = (secret.replace(" ", "+"), as_latin_1.replace(" ", "+"))
        decoded = (*_decodings(secret), *_decodings(as_latin_1))
        written = (secret, as_latin_1, *decoded, *in_form, repr(secret)[1:-1], ascii(secret)[1:-1], *as_json)
        found.update(text for text in written if len(text) >= MIN_SECRET_CHARS)
    return tuple(sorted(found, key=lambda text: (-len(text), text)))


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))


def _decoded(text: str) -> str:
    """The text with its percent-escapes decoded (to latin-1), a few times if they are escaped themselves."""
    for decoded in _decodings(text):
        text = decoded
    return text


def _decodings(text: str) -> Iterator[str]:
    """The text with its escapes decoded once, twice, and so on, while there are any."""
    for _ in range(_MAX_DECODINGS):
        if "%" not in text:
            return
        text, before = _ESCAPE.sub(_character, text), text
        if text == before:
            return
        yield text
