"""A mail server of tests, on the loopback: takes mail, or answers as a test has it."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import NamedTuple

HANGS = "hangs"
"""In a script: no answer, as long as the connection is there."""

BREAKS_OFF = "breaks off"
"""In a script: the connection is closed instead of an answer."""


class Taken(NamedTuple):
    """A mail that the server took.  `connection` counts from 1; `user` is who signed in."""

    sender: str
    recipient: str
    data: bytes
    is_encrypted: bool
    user: str | None
    connection: int

    @property
    def mail(self) -> EmailMessage:
        parsed = message_from_bytes(self.data, policy=default)
        assert isinstance(parsed, EmailMessage)
        return parsed


class _Ended(Exception):
    """The connection is over."""


class MailServer:
    """`script` has answers by command, the first for its first time and so on; CONNECT is the greeting, `.` the end
    of a mail's text.  Where it has none left the server agrees.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        encrypts_at_once: bool = False,
        passwords: dict[str, str] | None = None,
        mechanisms: str = "PLAIN LOGIN",
    ) -> None:
        self.script: dict[str, list[str]] = {}
        self.taken: list[Taken] = []
        self.commands: list[str] = []
        """What clients said, texts of mails aside."""
        self.in_clear: list[bytes] = []
        """All lines that came before encryption, texts of mails included."""
        self.connections = 0
        self.port = 0
        self.came = asyncio.Event()
        """Set when a mail was taken."""
        self.asked = asyncio.Event()
        """Set once the server hangs at something."""
        self._tls = tls
        self._encrypts_at_once = encrypts_at_once
        self._passwords = passwords
        self._mechanisms = mechanisms
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def mail(self, number: int) -> Taken:
        """The mail of this number, from 1 on, once it has come."""
        while len(self.taken) < number:
            self.came.clear()
            await self.came.wait()
        return self.taken[number - 1]

    async def start(self) -> None:
        context = self._tls if self._encrypts_at_once else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def verbs_in_clear(self) -> list[bytes]:
        """The first word of each line that came before encryption."""
        return [line.split()[0].upper() for line in self.in_clear]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            await _Conversation(self, reader, writer, self.connections, is_encrypted=self._encrypts_at_once).run()
        except (_Ended, OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.transport.abort()

    def extensions(self, *, is_encrypted: bool) -> list[str]:
        offered = ["PIPELINING"]
        if self._tls is not None and not is_encrypted:
            offered.append("STARTTLS")
        if self._passwords is not None and (is_encrypted or self._tls is None):
            offered.append(f"AUTH {self._mechanisms}")
        return offered

    def knows(self, user: str, password: str) -> bool:
        return self._passwords is not None and self._passwords.get(user) == password

    @property
    def tls(self) -> ssl.SSLContext:
        assert self._tls is not None
        return self._tls


class _Conversation:
    def __init__(
        self,
        server: MailServer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        *,
        is_encrypted: bool,
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._number = number
        self._is_encrypted = is_encrypted
        self._user: str | None = None
        self._sender = self._recipient = ""

    async def run(self) -> None:
        await self._say("CONNECT", "220 mail.test")
        while True:
            line = (await self._line()).decode().rstrip("\r\n")
            verb = line.partition(" ")[0].upper()
            self._server.commands.append(verb + line[len(verb) :])
            await self._follow(verb, line)

    async def _follow(self, verb: str, line: str) -> None:
        match verb:
            case "EHLO":
                lines = ["mail.test", *self._server.extensions(is_encrypted=self._is_encrypted)]
                marks = ["-"] * (len(lines) - 1) + [" "]
                await self._say(verb, "\r\n".join(f"250{mark}{text}" for mark, text in zip(marks, lines, strict=True)))
            case "STARTTLS":
                if await self._say(verb, "220 go on"):
                    await self._writer.start_tls(self._server.tls)
                    self._is_encrypted = True
            case "AUTH":
                await self._sign_in(line.split()[1], line.split()[2:])
            case "MAIL":
                self._sender = line.partition("<")[2].partition(">")[0]
                await self._say(verb, "250 ok")
            case "RCPT":
                self._recipient = line.partition("<")[2].partition(">")[0]
                await self._say(verb, "250 ok")
            case "DATA":
                await self._take(verb)
            case "QUIT":
                await self._say(verb, "221 bye")
                raise _Ended
            case _:
                await self._say(verb, "250 ok")

    async def _take(self, verb: str) -> None:
        if not await self._say(verb, "354 go on"):
            return
        lines: list[bytes] = []
        while (line := await self._line()) != b".\r\n":
            lines.append(line.removeprefix(b"."))
        if await self._say(".", "250 taken"):
            data = b"".join(lines)
            taken = Taken(self._sender, self._recipient, data, self._is_encrypted, self._user, self._number)
            self._server.taken.append(taken)
            self._server.came.set()

    async def _sign_in(self, mechanism: str, initial: list[str]) -> None:
        if mechanism == "PLAIN":
            _, user, password = base64.b64decode(initial[0]).decode().split("\0")
        else:
            user = base64.b64decode(initial[0]).decode()
            await self._say("LOGIN", "334 " + base64.b64encode(b"Password:").decode())
            password = base64.b64decode(await self._line()).decode()
        known = self._server.knows(user, password)
        if await self._say("AUTH", "235 welcome" if known else "535 5.7.8 no such user or password") and known:
            self._user = user

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line:
            raise _Ended
        if not self._is_encrypted:
            self._server.in_clear.append(line)
        return line

    async def _say(self, verb: str, usual: str) -> bool:
        """Answer as the script has it, or as usual; whether that was agreement."""
        answers = self._server.script.get(verb)
        answer = answers.pop(0) if answers else usual
        if answer == HANGS:
            self._server.asked.set()
            await asyncio.Event().wait()
        if answer == BREAKS_OFF:
            raise _Ended
        self._writer.write(answer.encode() + b"\r\n")
        await self._writer.drain()
        if answer.startswith("421"):
            raise _Ended
        return answer[0] in "23"


@asynccontextmanager
async def mail_server(
    *,
    tls: ssl.SSLContext | None = None,
    encrypts_at_once: bool = False,
    passwords: dict[str, str] | None = None,
    mechanisms: str = "PLAIN LOGIN",
) -> AsyncIterator[MailServer]:
    """A server that runs within the block.  It offers STARTTLS with `tls`, and AUTH with `passwords` of users."""
    server = MailServer(tls=tls, encrypts_at_once=encrypts_at_once, passwords=passwords, mechanisms=mechanisms)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
