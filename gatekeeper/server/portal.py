"""The gate's own pages and calls on the public listener: what is below `/.gatekeeper`, and account calls.

They are never forwarded and always public; what needs a session asks the gate for it.  An own path that does not
exist is a 404 here, not the upstream's business.
"""

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from gatekeeper.core.decide import RETRY_AFTER_S, is_preflight
from gatekeeper.core.model import AnswerPreflight, Deny, Reason, RequestFacts, SessionRecord, Target
from gatekeeper.server.account_pages.account_pages import AccountPages
from gatekeeper.server.answers import Answer
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_call import AuthRequest
from gatekeeper.server.body import RequestBody
from gatekeeper.server.facts import Parsed
from gatekeeper.server.gate import Gate
from gatekeeper.server.jwks import JWKS_METHODS, JWKS_PATHS, jwks_answer
from gatekeeper.server.pages import CLEAR_COOKIES, SIGN_OUT, answer, cleared, error_answer, readable, static, whoami
from gatekeeper.server.sign_out import SignOut
from gatekeeper.server.streams import Streams

logger = logging.getLogger("gatekeeper")

ACCOUNT_BODY_BYTES = 64 * 1024
"""The longest body of an account call."""

_FORM_LIMIT = 16 * 1024
_ACCOUNT_METHODS = ("GET", "POST")

_Call = Callable[[RequestFacts, RequestBody], Awaitable[Answer]]


class Portal:
    """Answers the own paths; `accounts` the calls of accounts mode, None where the app has the accounts, and `people`
    the pages for people.
    """

    def __init__(
        self, gate: Gate, streams: Streams, accounts: AuthApi | None = None, people: AccountPages | None = None
    ) -> None:
        self._gate = gate
        self._sign_out = SignOut(gate, streams)
        self._accounts = accounts
        self._people = people
        self._has_noted_proxy = False
        self._pages = gate.pages
        self._calls: dict[str, tuple[tuple[str, ...], _Call]] = {
            "/.gatekeeper/whoami": (("GET", "HEAD"), self._whoami),
            CLEAR_COOKIES: (("POST",), self._clear_cookies),
            SIGN_OUT: (("POST",), self._end_session),
        }

    async def answer(self, parsed: Parsed, body: RequestBody) -> Answer:
        """The answer to a request for an own path (see `owns`).  Raises as the body does."""
        facts = parsed.facts
        if self._accounts is not None and self._accounts.owns(facts.target.path):
            return await self._account_call(self._accounts, parsed, body)
        if self._people is not None and self._people.owns(facts.target.path):
            return await self._page(self._people, parsed, body)
        asset = self._asset(parsed) if facts.method in ("GET", "HEAD") else None
        if asset is not None:
            return asset
        methods, call = self._calls.get(facts.target.path, ((), None))
        assertions = self._gate.runtime.assertions
        if assertions is not None and facts.target.path in JWKS_PATHS:
            published = jwks_answer(facts, assertions.keys, parsed.head.first(b"if-none-match"))
            if published is not None:
                return published
            methods = JWKS_METHODS
        elif call is None:
            return error_answer(404, Reason.NOT_FOUND, facts, self._pages)
        if call is not None and facts.method in methods:
            return await call(facts, body)
        now_ms = self._gate.clock()
        if is_preflight(facts):
            return answer(AnswerPreflight(methods), facts, self._pages, now_ms=now_ms)
        return answer(Deny(405, Reason.METHOD_NOT_ALLOWED, allow=methods), facts, self._pages, now_ms=now_ms)

    async def _account_call(self, accounts: AuthApi, parsed: Parsed, body: RequestBody) -> Answer:
        facts = parsed.facts
        if is_preflight(facts):
            return answer(AnswerPreflight(_ACCOUNT_METHODS), facts, self._pages, now_ms=self._gate.clock())
        self._note_proxy(parsed)
        data = await read_whole(body, ACCOUNT_BODY_BYTES)
        if data is None:
            return error_answer(413, Reason.BODY_TOO_LARGE, facts, self._pages)
        return readable(await accounts.answer(self._request(parsed, data)), facts, self._pages)

    async def _page(self, people: AccountPages, parsed: Parsed, body: RequestBody) -> Answer:
        if self._accounts is not None:
            self._note_proxy(parsed)
        data = await read_whole(body, _FORM_LIMIT)
        if data is None:
            return error_answer(413, Reason.BODY_TOO_LARGE, parsed.facts, self._pages)
        return await people.answer(self._request(parsed, data))

    def _request(self, parsed: Parsed, data: bytes) -> AuthRequest:
        head = parsed.head
        return AuthRequest(
            parsed.facts,
            self._gate.runtime.snapshot.policy.own_origin(parsed.facts),
            content_type=head.first(b"content-type"),
            user_agent=head.first(b"user-agent"),
            sec_fetch_dest=head.first(b"sec-fetch-dest"),
            body=data,
        )

    def _asset(self, parsed: Parsed) -> Answer | None:
        path = parsed.facts.target.path
        return static(path, parsed.head.first(b"if-none-match")) or self._pages.look.static(path)

    def _note_proxy(self, parsed: Parsed) -> None:
        """Say once that somebody forwards account calls who is not trusted to: tries are counted by address."""
        given, forwarding = parsed.head.given, parsed.forwarding
        if self._has_noted_proxy or given is None or given.forwarded_for is None or forwarding.hops:
            return
        self._has_noted_proxy = True
        logger.warning(
            "account calls come with X-Forwarded-For from %s, which trusted_proxies does not name: if this is your "
            "proxy, all visitors behind it count as one address, and share its tries of passwords",
            forwarding.client_address,
        )

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


def owns(target: Target, own_paths: tuple[tuple[str, ...], ...]) -> bool:
    """Whether this path is one of the gate's own, in any spelling that folds to it and in either reading."""
    folded = target.folded
    for own in own_paths:
        if folded[: len(own)] == own:
            return True
    return target.slash_reading is not None and owns(target.slash_reading, own_paths)


def is_same_origin(facts: RequestFacts, own_origin: str) -> bool:
    """Whether a state-changing request comes from our own pages: by Origin, else by Sec-Fetch-Site (Fetch metadata).

    A request with neither is refused: every browser that could be tricked sends one of them.
    """
    if facts.origin is not None:
        return facts.origin.lower() == own_origin.lower()
    return facts.sec_fetch_site == "same-origin"


async def read_form(body: RequestBody) -> dict[str, str] | None:
    """The first value of each field of an urlencoded form, or None when it is too long.  Raises as the body does."""
    data = await read_whole(body, _FORM_LIMIT)
    if data is None:
        return None
    fields = parse_qs(data.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


async def read_whole(body: RequestBody, limit: int) -> bytes | None:
    """The body, or None when it is longer than so many bytes.  Raises as the body does."""
    data = b""
    while not body.is_whole:
        data += await body.piece()
        if len(data) > limit:
            return None
    return data
