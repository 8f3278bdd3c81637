"""Signing out: the session is ended where it is kept, forgotten here, and its cookies are cleared.

Only ever the caller's own session; where a header and a cookie carry two, both.  As at Better Auth, who has none is
signed out all the same, and a cookie that nobody signed is cleared, too: somebody asked for that.  A store that cannot
end the session leaves everything as it is: who believes to be signed out must be.
"""

from gatekeeper.core.credentials import presented_tokens
from gatekeeper.core.decide import RETRY_AFTER_S, wants_page
from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import Reason, RequestFacts, SessionRecord, SessionToken
from gatekeeper.core.session_cookies import clearing_lines
from gatekeeper.core.urls import safe_callback
from gatekeeper.server.answers import Answer, json_answer, page_headers, to_ascii
from gatekeeper.server.gate import Gate, Runtime
from gatekeeper.server.pages import error_answer
from gatekeeper.server.streams import Streams
from gatekeeper.server.troubles import Troubles
from gatekeeper.stores.app_sign_out import AppSignOut
from gatekeeper.telemetry.lines import session_mark

_PAGE = b'<!doctype html><html lang="en"><meta charset="utf-8"><title>Signed out</title><p>You are signed out.</html>\n'


class SignOut:
    """Answers sign-outs of this gate, and ends the streams of the sessions that end."""

    def __init__(self, gate: Gate, streams: Streams) -> None:
        self._gate = gate
        self._streams = streams
        self._troubles = Troubles("sessions cannot be signed out", "sessions can be signed out again")

    async def answer(self, facts: RequestFacts, return_to: str | None) -> Answer:
        """The answer to a request that comes from our own origin.

        A page navigation is led to `return_to`, as far as that is a path of the own origin; who is no page gets JSON.
        """
        runtime = self._gate.runtime
        snapshot = runtime.snapshot
        name, keys = snapshot.cookies.session_token, snapshot.keys
        try:
            for carried in presented_tokens(facts.cookie, facts.authorization, name, keys, bearer=snapshot.bearer):
                await self._end(runtime, carried.token, facts)
        except StoreError as error:
            self._troubles.began(error)
            return error_answer(503, Reason.STORE_UNAVAILABLE, facts, self._gate.pages, retry_after=RETRY_AFTER_S)
        lines = clearing_lines(snapshot.cookies, facts.cookie, snapshot.cookie_scope)
        cookies = tuple((b"Set-Cookie", to_ascii(line)) for line in lines)
        if not wants_page(facts):
            return json_answer(200, {"success": True}, cookies)
        location = safe_callback(return_to, snapshot.policy.public_origin)
        return Answer(303, (*page_headers(), (b"Location", location.encode()), *cookies), _PAGE)

    async def _end(self, runtime: Runtime, token: SessionToken, facts: RequestFacts) -> None:
        """End this session everywhere, if there is one.  Raises StoreError, and then nothing of it has changed here."""
        record = await runtime.sessions.get(token, facts.client_address)
        if record is None:
            return
        await self._revoke(runtime, token, record, facts)
        self._troubles.ended()
        runtime.session_ended(token)
        self._streams.cut_session(token)
        mark = session_mark(token)
        self._gate.telemetry.audit("signed_out", session=mark, user=record.user.id, client=facts.client_address)

    async def _revoke(self, runtime: Runtime, token: SessionToken, record: SessionRecord, facts: RequestFacts) -> None:
        revoker = runtime.revoker
        if isinstance(revoker, AppSignOut):
            await revoker.sign_out(token, facts, runtime.snapshot.policy.own_origin(facts))
        elif revoker is not None:
            await revoker.revoke([record.session])
        else:
            raise StoreError("nothing that ends sessions was configured")
