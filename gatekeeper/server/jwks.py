"""The public keys of assertions, for whoever verifies them: anybody, from any origin."""

from gatekeeper.core.assertion_keys import JWKS_MAX_AGE_S, JWKS_PATH
from gatekeeper.core.decide import is_preflight
from gatekeeper.core.model import RequestFacts
from gatekeeper.server.answers import NO_SNIFF, Answer, is_known
from gatekeeper.server.assertion_keys import AssertionKeys

JWKS_PATHS = (JWKS_PATH, "/.well-known/pomerium/jwks.json")

JWKS_METHODS = ("GET", "HEAD")
_FROM_ANYWHERE = (b"Access-Control-Allow-Origin", b"*")
_CACHING = (b"Cache-Control", b"public, max-age=%d" % JWKS_MAX_AGE_S)
_PREFLIGHT = (
    _FROM_ANYWHERE,
    (b"Access-Control-Allow-Methods", b"GET, HEAD"),
    (b"Access-Control-Allow-Headers", b"*"),
    (b"Access-Control-Max-Age", b"600"),
)


def jwks_answer(facts: RequestFacts, keys: AssertionKeys, if_none_match: str | None) -> Answer | None:
    """The published set, 304 where the client has it already; None for a method that is not for it."""
    if is_preflight(facts):
        return Answer(204, _PREFLIGHT, b"")
    if facts.method not in JWKS_METHODS:
        return None
    document, etag = keys.published
    headers = ((b"Content-Type", b"application/json"), _CACHING, (b"ETag", etag), _FROM_ANYWHERE, NO_SNIFF)
    return Answer(304, headers, b"") if is_known(etag, if_none_match) else Answer(200, headers, document)
