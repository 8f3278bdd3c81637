"""Drill: somebody signs out of all other devices on the page for that, and those are out within a second.

Two gates in accounts mode stand before one app, on one database: SQLite, PostgreSQL and MariaDB.  By turns people make
an account at the first gate and sign in on two further devices at the second one.  There each has an event stream open
and asks for a page all the time.  Then the form of the page of active sessions is sent at the first gate, and from that
moment on it is measured how long the others were let in, and how long their streams went on.

Passes when both took a second at most (MariaDB tells of nothing, so that what is believed is a second old there, and a
little more is allowed), the page counted right, and the device of who asked went on with its stream and its pages.

    python drills/sign_out_others.py [--people 4] [--stores sqlite,postgresql,mariadb]
"""

import argparse
import asyncio
import math
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

import uvloop
from rig.app import running_app
from rig.client import Answer, Lost, Stream, ask_once, request
from rig.figures import percentile
from rig.gate import NO_ADMIN, RunningGate, running_gate
from rig.sign_ins import PASSWORD, cookies_of, migrate, new_address, sign_in, sign_up
from rig.stores import MariadbStore, empty_postgres, empty_sqlite
from rig.verdict import verdict

OTHERS = 2
REST_S = 0.01
"""How long who waits to be refused rests between two requests."""

LIMIT_S = 60.0
"""What hangs must end, too."""

SESSIONS = "/.gatekeeper/sessions"
PAGE = "Accept: text/html"
MORE = "trusted_proxies: [127.0.0.1]\naccounts: {enabled: true, sign_up: true}\n" + NO_ADMIN
_TOKEN = re.compile(rb'name="token" value="([^"]+)"')


@dataclass(frozen=True)
class Place:
    """Where accounts are kept: `opened` gives a URL.  Limits are seconds."""

    title: str
    opened: Callable[[], AbstractAsyncContextManager[str]]
    refused_s: float = 1.0
    ended_s: float = 1.0


@dataclass
class Seen:
    """For how many seconds after the form was sent others were let in, and had a stream; and what went wrong."""

    let_in_s: list[float] = field(default_factory=list)
    streamed_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Device:
    """A browser at one gate, signed in."""

    def __init__(self, gate: RunningGate, cookies: dict[str, str]) -> None:
        self.gate = gate
        self.cookies = cookies
        self.stream: Stream | None = None

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"") -> Answer:
        """The answer, whose cookies it keeps."""
        answer = await ask_once(self.gate.port, request(method, target, self._cookie(), *lines, body=body))
        self.cookies |= cookies_of(answer)
        return answer

    async def listen(self) -> None:
        self.stream = await Stream.open(self.gate.port, request("GET", "/dashboard/events", self._cookie()), 200)
        await self.stream.event()

    async def until_refused(self) -> float:
        """When the last page came that was this session's."""
        page = request("GET", "/dashboard/data", self._cookie(), "Accept: application/json")
        last = time.monotonic()
        while (await ask_once(self.gate.port, page)).status == 200:
            last = time.monotonic()
            await asyncio.sleep(REST_S)
        return last

    async def until_ended(self) -> float:
        """When the stream ended."""
        assert self.stream is not None
        try:
            while True:
                await self.stream.event()
        except EOFError:
            return time.monotonic()

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()

    def _cookie(self) -> str:
        return "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items())


async def signed_in(gates: Sequence[RunningGate], email: str) -> list[Device]:
    """The device where the account was made, at the first gate, and the others; each has a stream."""
    devices = [Device(gates[0], await sign_up(gates[0].port, email))]
    for _ in range(OTHERS):
        answer = await ask_once(gates[1].port, sign_in(email, PASSWORD, new_address()))
        if answer.status != 200:
            raise RuntimeError(f"sign-in was answered {answer.status} {answer.body[:200]!r}")
        devices.append(Device(gates[1], cookies_of(answer)))
    for device in devices:
        await device.listen()
    return devices


async def sign_out_others(device: Device) -> tuple[float, str | None]:
    """Open the page, send its form; when that was sent, and what is wrong with the answers, if anything."""
    asked = await device.ask("GET", f"{SESSIONS}?confirm=others", PAGE)
    token = _TOKEN.search(asked.body)
    if token is None or b"Sign out of %d other devices?" % OTHERS not in asked.body:
        return time.monotonic(), f"the page does not ask about {OTHERS} devices: {asked.status} {asked.body[:200]!r}"
    form = urlencode({"token": token[1].decode(), "others": "yes"}).encode()
    kind = "Content-Type: application/x-www-form-urlencoded"
    sent = time.monotonic()
    done = await device.ask("POST", SESSIONS, PAGE, kind, "Origin: http://drill", body=form)
    page = await device.ask("GET", SESSIONS, PAGE)
    if done.status != 303 or b"%d other devices have been signed out." % OTHERS not in page.body:
        return sent, f"the form was answered {done.status}, and the page then did not count {OTHERS} devices"
    return sent, None


async def one_person(gates: Sequence[RunningGate], email: str, seen: Seen) -> None:
    mine, *others = devices = await signed_in(gates, email)
    refused = [asyncio.create_task(other.until_refused()) for other in others]
    ended = [asyncio.create_task(other.until_ended()) for other in others]
    await asyncio.sleep(10 * REST_S)
    if any(task.done() for task in (*refused, *ended)):
        seen.failures.append("somebody was out before the form was sent")
    sent, fault = await sign_out_others(mine)
    seen.failures += [] if fault is None else [fault]
    try:
        async with asyncio.timeout(5.0):
            seen.let_in_s += [max(0.0, at - sent) for at in await asyncio.gather(*refused)]
            seen.streamed_s += [max(0.0, at - sent) for at in await asyncio.gather(*ended)]
    except TimeoutError:
        seen.failures.append("somebody was still in 5 s after the form was sent")
    try:
        assert mine.stream is not None
        await mine.stream.event()
        if (await mine.ask("GET", "/dashboard/data")).status != 200:
            seen.failures.append("who signed out the others was refused")
    except (EOFError, Lost):
        seen.failures.append("who signed out the others lost the stream")
    for device in devices:
        device.close()


async def run(place: Place, people: int) -> list[str]:
    """What went wrong at this place.  Prints figures."""
    began, seen = time.monotonic(), Seen()
    async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
        store = await stack.enter_async_context(place.opened())
        await migrate(store, MORE)
        app = await stack.enter_async_context(running_app())
        gates = [await stack.enter_async_context(running_gate(app.port, MORE, store)) for _ in range(2)]
        for number in range(people):
            await one_person(gates, f"person{number}@example.test", seen)
        seen.failures += [line for gate in gates for line in gate.troubles()]
    took = time.monotonic() - began
    print(
        f"{place.title:10} last page {_figures(seen.let_in_s)}; stream {_figures(seen.streamed_s)}; took {took:.0f} s"
    )
    for what, values, limit in (
        ("let in", seen.let_in_s, place.refused_s),
        ("streamed", seen.streamed_s, place.ended_s),
    ):
        if len(values) != people * OTHERS or not max(values) <= limit:
            worst = max(values, default=math.nan)
            seen.failures.append(f"{len(values)} others, still {what} after {worst:.2f} s; the limit is {limit:g} s")
    return [f"{place.title}: {failure}" for failure in seen.failures]


def _figures(values: Sequence[float]) -> str:
    return f"{len(values):3d}: p50 {percentile(values, 50):.2f} s, at most {max(values, default=math.nan):.2f} s"


@asynccontextmanager
async def _mariadb() -> AsyncIterator[str]:
    async with MariadbStore.opened() as store:
        yield store.url


PLACES = {
    "sqlite": Place("SQLite", empty_sqlite),
    "postgresql": Place("PostgreSQL", empty_postgres),
    "mariadb": Place("MariaDB", _mariadb, refused_s=1.2, ended_s=1.5),
}


async def drill(places: Sequence[Place], people: int) -> list[str]:
    return [failure for place in places for failure in await run(place, people)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--people", type=int, default=4, help="at each store (default 4)")
    parser.add_argument("--stores", default=",".join(PLACES))
    arguments = parser.parse_args()
    chosen = [PLACES[name] for name in arguments.stores.split(",")]
    failures = uvloop.run(drill(chosen, arguments.people))
    return verdict(failures)


if __name__ == "__main__":
    sys.exit(main())
