"""The gate's own pages and calls on the public listener: everything below `/.gatekeeper`.

They are never forwarded and always public; what needs a session asks the gate for it.  An own path that does not
exist is a 404 here, not the upstream's business.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from gatekeeper.core.decide import RETRY_AFTER_S, is_preflight
from gatekeeper.core.model import AnswerPreflight, Deny, Reason, RequestFacts, SessionRecord, Target
from gatekeeper.server.answers import Answer
from gatekeeper.server.body import RequestBody
from gatekeeper.server.gate import Gate
from gatekeeper.server.pages import answer, cleared, error_answer, static, whoami
from gatekeeper.server.sign_out import SignOut
from gatekeeper.server.streams import Streams

OWN_SEGMENT = ".gatekeeper"
WELL_KNOWN = (".well-known", "gatekeeper")

_FORM_LIMIT = 16 * 1024

_Call = Callable[[RequestFacts, RequestBody], Awaitable[Answer]]


class Portal:
    """Answers the own paths."""

    def __init__(self, gate: Gate, streams: Streams) -> None:
        self._gate = gate
        self._sign_out = SignOut(gate, streams)
        self._pages = gate.pages
        self._calls: dict[str, tuple[tuple[str, ...], _Call]] = {
            "/.gatekeeper/whoami": (("GET", "HEAD"), self._whoami),
            "/.gatekeeper/clear-cookies": (("POST",), self._clear_cookies),
            "/.gatekeeper/sign-out": (("POST",), self._end_session),
        }

    async def answer(self, facts: RequestFacts, body: RequestBody) -> Answer:
        """The answer to a request for an own path (see `owns`)."""
        asset = static(facts.target.path) if facts.method in ("GET", "HEAD") else None
        if asset is not None:
            return asset
        methods, call = self._calls.get(facts.target.path, ((), None))
        if call is None:
            return error_answer(404, Reason.NOT_FOUND, facts, self._pages)
        if facts.method in methods:
            return await call(facts, body)
        now_ms = self._gate.clock()
        if is_preflight(facts):
            return answer(AnswerPreflight(methods), facts, self._pages, now_ms=now_ms)
        return answer(Deny(405, Reason.METHOD_NOT_ALLOWED, allow=methods), facts, self._pages, now_ms=now_ms)

    async def _whoami(self, facts: RequestFacts, body: RequestBody) -> Answer:
        found = await self._gate.identify(facts)
        if found is Reason.STORE_UNAVAILABLE:
            return error_answer(503, found, facts, self._pages, retry_after=RETRY_AFTER_S)
        if isinstance(found, SessionRecord):
            return whoami(found, facts, self._pages)
        return whoami(None, facts, self._pages, reason=found)

    async def _end_session(self, facts: RequestFacts, body: RequestBody) -> Answer:
        form = await self._own_form(facts, body)
        return form if isinstance(form, Answer) else await self._sign_out.answer(facts, form.get("callbackUrl"))

    async def _own_form(self, facts: RequestFacts, body: RequestBody) -> dict[str, str] | Answer:
        """The form of a request that comes from our own pages, or the refusal."""
        if not is_same_origin(facts, self._gate.runtime.snapshot.policy.own_origin(facts)):
            return error_answer(403, Reason.FOREIGN_ORIGIN, facts, self._pages)
        form = await read_form(body)
        return error_answer(413, Reason.BODY_TOO_LARGE, facts, self._pages) if form is None else form

    async def _clear_cookies(self, facts: RequestFacts, body: RequestBody) -> Answer:
        """The loop page's way out: a person asks, from our own page, to sign in anew."""
        form = await self._own_form(facts, body)
        if isinstance(form, Answer):
            return form
        self._gate.telemetry.audit("cookies_cleared", client=facts.client_address)
        cookies = self._gate.runtime.snapshot.cookies
        names = [cookies.session_token, cookies.session_data, cookies.dont_remember]
        sent = [part.partition("=")[0].strip() for part in (facts.cookie or "").split(";")]
        names += [name for name in sent if name.startswith(cookies.session_data + ".")]
        return cleared(names, self._pages, form.get("callbackUrl"))


def owns(target: Target) -> bool:
    """Whether this path is the gate's own, in any spelling that folds to it and in either reading."""
    folded = target.folded
    if folded and (folded[0] == OWN_SEGMENT or folded[:2] == WELL_KNOWN):
        return True
    return target.slash_reading is not None and owns(target.slash_reading)


def is_same_origin(facts: RequestFacts, own_origin: str) -> bool:
    """Whether a state-changing request comes from our own pages: by Origin, else by Sec-Fetch-Site (Fetch metadata).

    A request with neither is refused: every browser that could be tricked sends one of them.
    """
    if facts.origin is not None:
        return facts.origin.lower() == own_origin.lower()
    return facts.sec_fetch_site == "same-origin"


async def read_form(body: RequestBody) -> dict[str, str] | None:
    """The first value of each field of an urlencoded form, or None when it is too long.  Raises as the body does."""
    data = b""
    while not body.is_whole:
        data += await body.piece()
        if len(data) > _FORM_LIMIT:
            return None
    fields = parse_qs(data.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}
