"""Who is told when a session or a user changes: what is in memory, what cookies say, and the streams that are open."""

from collections.abc import Callable

from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.server.gate import Runtime
from gatekeeper.server.recheck import Recheck
from gatekeeper.server.streams import Streams
from gatekeeper.stores.feeds.feed import Changes, Memory, digest_of
from gatekeeper.stores.tables import BATCH
from gatekeeper.telemetry.telemetry import Telemetry


class Revocations(Changes, Memory):
    """What a feed tells, passed on.  `clock` gives monotonic seconds."""

    def __init__(
        self, runtime: Runtime, streams: Streams, recheck: Recheck, telemetry: Telemetry, clock: Callable[[], float]
    ) -> None:
        self._sessions = runtime.sessions
        self._claims = runtime.claims
        self._lease = runtime.sessions.lease
        self._streams = streams
        self._recheck = recheck
        self._telemetry = telemetry
        self._clock = clock
        streams.when_opened = self.stream_opened

    def session_changed(self, digest: bytes) -> None:
        self._sessions.session_changed(digest)
        self._claims.session_changed(digest)
        self._recheck.look_soon(self._streams.tokens_of_session(digest))
        self._observe()

    def user_changed(self, digest: bytes) -> None:
        self._sessions.user_changed(digest)
        self._claims.user_changed(digest)
        self._recheck.look_soon(self._streams.tokens_of_user(digest))
        self._observe()

    def all_changed(self) -> None:
        self._sessions.all_changed()
        self._claims.all_changed()
        self._recheck.look_soon(self._streams.tokens())

    def stream_opened(self, record: SessionRecord) -> None:
        """A change that was told before concerned no stream yet: look now, unless what was known is known still."""
        if not self._sessions.knows(record):
            self._recheck.look_soon([SessionToken(record.session.token)])

    def any_token(self) -> str | None:
        """Of a session that is believed: a cookie, or an open stream, may be all there is of it here."""
        found = self._sessions.any_token() or self._claims.any_token()
        return found or self._streams.any_token(self._recheck.doubted)

    async def reconcile(self) -> None:
        """Something has changed, and the store does not say what: read all that is remembered, and see.

        Raises StoreError.
        """
        sessions = self._sessions
        sessions.doubt_reads()
        tokens = list(dict.fromkeys((*sessions.tokens(), *self._streams.tokens())))
        for start in range(0, len(tokens), BATCH):
            batch = tokens[start : start + BATCH]
            self._recheck.judge(batch, await sessions.read_all(batch))
            for token in batch:
                if not sessions.remembers(token):
                    self._claims.session_changed(digest_of(token))
                    self._observe()

    def _observe(self) -> None:
        """A change that was told now came after the last marker that went round: it is no older than that."""
        now = self._clock()
        if self._lease.is_held(now):
            self._telemetry.revocations.add(now - self._lease.proven_at)
