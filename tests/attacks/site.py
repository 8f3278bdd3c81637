"""A gate under attack, and conversations with it, byte for byte."""

import asyncio
from pathlib import Path

from tests.attacks.strict import Answer, read_responses
from tests.server.gates import COOKIE, RunningGate, cookie_value
from tests.server.upstreams import Received, RecordingUpstream

TOKEN, USER_ID = "SiteSiteSiteSiteSiteSiteSiteSi01", "site-user"
SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
STRONG = "kJ8vR2mQzX5tW9nB4hL7cF3yD6gP1sZa0uEi"
"""A secret for gates that are not for loopback alone."""

WITH_PUBLIC_URL = f"""\
listen: 127.0.0.1:0
upstream: {{upstream}}
secret: {STRONG}
store: sqlite:///{{database}}
protect: [/dashboard]
public_url: """
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
PATIENCE_S = 5.0


class Conversation(asyncio.Protocol):
    """One client's connection; `said` is everything that the gate has sent."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.transport: asyncio.Transport
        self.is_over = False
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.said += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        self._news.set()

    def send(self, text: str | bytes) -> None:
        self.transport.write(text.encode("latin-1") if isinstance(text, str) else text)

    async def answers(self, number: int, *, to_head: bool = False) -> list[Answer]:
        """The responses, once there are so many complete ones or the gate has closed."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                stream = read_responses(bytes(self.said), may_be_head=to_head)
                assert stream.trouble is None, stream.trouble
                if self.is_over or len([answer for answer in stream.answers if answer.complete]) >= number:
                    return stream.answers
                self._news.clear()
                await self._news.wait()

    async def end(self, *, to_head: bool = False) -> list[Answer]:
        """The responses until the gate closes, or until one that says it will."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                stream = read_responses(bytes(self.said), may_be_head=to_head)
                assert stream.trouble is None, stream.trouble
                closes = bool(stream.answers) and stream.answers[-1].closes and stream.answers[-1].complete
                if self.is_over or closes:
                    self.transport.abort()
                    return stream.answers
                self._news.clear()
                await self._news.wait()


class Site:
    """The gate, the app behind it, and a second app that only a rule may choose."""

    def __init__(
        self, gate: RunningGate, upstream: RecordingUpstream, other: RecordingUpstream, database: Path
    ) -> None:
        self.gate = gate
        self.upstream = upstream
        self.other = other
        self.database = database

    def forget(self) -> None:
        self.upstream.requests.clear()
        self.other.requests.clear()
        self.upstream.answering = self.other.answering = None

    @property
    def reached(self) -> list[str]:
        """The targets that reached the app."""
        return [request.target for request in self.upstream.requests]

    @property
    def received(self) -> Received:
        """The only request that reached the app."""
        (request,) = self.upstream.requests
        return request

    async def open(self, address: str | None = None) -> Conversation:
        """A connection, from another loopback `address` if one is given."""
        local = None if address is None else (address, 0)
        loop = asyncio.get_running_loop()
        _, conversation = await loop.create_connection(Conversation, "127.0.0.1", self.gate.port, local_addr=local)
        return conversation

    async def say(self, raw: str | bytes, *, to_head: bool = False, address: str | None = None) -> list[Answer]:
        """The responses to these bytes, until the gate closes."""
        conversation = await self.open(address)
        conversation.send(raw)
        return await conversation.end(to_head=to_head)

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"", address: str | None = None) -> Answer:
        """The only response to a well-formed request."""
        framing = [f"Content-Length: {len(body)}"] if body else []
        fields = "".join(f"{line}\r\n" for line in (*lines, *framing, "Connection: close"))
        host = "" if any(line.lower().startswith("host:") for line in lines) else f"Host: {self.gate.host}\r\n"
        raw = f"{method} {target} HTTP/1.1\r\n{host}{fields}\r\n".encode("latin-1") + body
        (answer,) = await self.say(raw, to_head=method == "HEAD", address=address)
        return answer

    async def still_serves(self) -> bool:
        """Whether a stranger gets the answer to their own request, and the app sees that request as it was sent."""
        answer = await self.ask("GET", "/stranger")
        return answer.status == 200 and b'"/stranger"' in answer.body and self.upstream.requests[-1].trouble is None
