"""What a running gate believes of sessions, as account calls ask for it and change it.

What a call has changed is no longer believed when its answer goes out, in this process: no feed has to say so first.
"""

from collections.abc import Iterable

from gatekeeper.core.model import RequestFacts, SessionRecord, SessionToken
from gatekeeper.server.gate import Gate
from gatekeeper.server.streams import Streams
from gatekeeper.stores.cache import ABSENT
from gatekeeper.stores.feeds.feed import digest_of


class KnownSessions:
    """The sessions of a gate, and the streams that end with them; see `auth_call.Sessions`."""

    def __init__(self, gate: Gate, streams: Streams) -> None:
        self._gate = gate
        self._streams = streams

    async def read(self, token: SessionToken, facts: RequestFacts, *, from_store: bool) -> SessionRecord | None:
        """The session, from memory or by its session_data cookie where these may decide, else from the store.

        With `from_store` nothing that was read before counts.  Raises StoreError.
        """
        runtime = self._gate.runtime
        if from_store:
            runtime.sessions.forget(token)
        known = runtime.sessions.peek(token)
        if known is None and not from_store:
            known = runtime.claims.read(facts.cookie, token, self._gate.clock())
        if known is None:
            return await runtime.sessions.get(token, facts.client_address)
        return None if known is ABSENT else known

    def changed(self, token: str) -> None:
        """Read this session anew from now on."""
        runtime = self._gate.runtime
        runtime.sessions.forget(SessionToken(token))
        runtime.claims.session_changed(digest_of(token))

    def ended(self, tokens: Iterable[str]) -> None:
        """These sessions are over: believe nothing of them, and end their streams."""
        for token in tokens:
            self._gate.runtime.session_ended(SessionToken(token))
            self._streams.cut_session(token)

    def user_changed(self, user_id: str) -> None:
        """Read the sessions of this user anew from now on."""
        runtime, digest = self._gate.runtime, digest_of(user_id)
        runtime.sessions.user_changed(digest)
        runtime.claims.user_changed(digest)
