"""Sessions that are extended beside the request: once each, with cookies on the first answer that can carry them.

With the fast lane and without it alike, and with time in hand.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gatekeeper.core.cookies import Keys, sign_value
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import Session, SessionToken
from gatekeeper.core.session_data import SessionDataCookie, decode
from gatekeeper.server import extension
from gatekeeper.server.extension import REST_MS, Extender
from gatekeeper.server.held import HOLD_S
from tests.attacks.judge import Response, parse_responses
from tests.core.records import record
from tests.server.by_hand import HandClient, Reply
from tests.server.clock import Clock
from tests.server.gates import COOKIE, SECRET, cookie_value
from tests.server.lane_gates import CONFIG, HOUR_MS, NOW_MS, TOKENS, HandGate, signed_in, snapshot_of, two_gates

DATA = "better-auth.session_data"
TWO_DAYS_MS = 172_800_000
DAY_MS = 86_400_000
KEYS = Keys([SECRET])
CHUNKED = Reply(
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"3\r\ndef\r\n", b"0\r\n\r\n"),
)
PAGE = Reply((b"HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nContent-Length: 2\r\n\r\nok",))


class HandWriter:
    """A store that does what it is told: with `holds`, not before `let_go`."""

    def __init__(self, gate: HandGate) -> None:
        self.gate = gate
        self.calls: list[tuple[Session, int, int]] = []
        self.holds = False
        self.error: Exception | None = None
        self.finds_it_changed = False
        self._waiting: list[asyncio.Future[None]] = []

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        self.calls.append((session, expires_at_ms, now_ms))
        if self.holds:
            waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waits)
            await waits
        if self.error is not None:
            raise self.error
        if not self.finds_it_changed:
            self.gate.change("ada", session={"expires_at_ms": expires_at_ms, "updated_at_ms": now_ms})
        return not self.finds_it_changed

    def let_go(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waits in waiting:
            waits.set_result(None)


class Scene:
    """A gate whose only due session is Ada's, for an hour more."""

    def __init__(self, gate: HandGate) -> None:
        self.gate = gate
        self.writer = HandWriter(gate)
        runtime = gate.gate.runtime
        self.extender = runtime.extender = Extender(self.writer, runtime.snapshot, runtime.sessions.forget, gate.now_ms)

    def client(self) -> "Browser":
        return Browser(self.gate, self.gate.connect())

    def let_go(self) -> None:
        self.gate.loop.do(self.writer.let_go)


class Browser:
    def __init__(self, gate: HandGate, client: HandClient) -> None:
        self.gate = gate
        self.client = client
        self._seen = 0

    def send(self, path: str = "/dashboard", cookie: str | None = None, method: str = "GET", body: bytes = b"") -> None:
        lines = f"Host: h\r\nCookie: {signed_in('ada') if cookie is None else cookie}\r\n"
        if body:
            lines += f"Content-Length: {len(body)}\r\n"
        self.gate.say(self.client, f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    @property
    def got(self) -> bytes:
        """What came since the last whole answer."""
        return bytes(self.client.got)[self._seen :]

    def answer(self, method: str = "GET") -> Response:
        raw = self.got
        self._seen += len(raw)
        (response,), _ = parse_responses(raw, method)
        assert response.complete
        return response

    def ask(self, *args: Any, **named: Any) -> Response:
        self.send(*args, **named)
        return self.answer(named.get("method", "GET"))


def values(response: Response, name: str) -> list[str]:
    return [value for key, value in response.headers if key.lower() == name]


def cookies(response: Response) -> dict[str, str]:
    """Set-Cookie values by name."""
    return {value.partition("=")[0]: value for value in values(response, "set-cookie")}


@pytest.fixture(params=["lane", "coroutine"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with two_gates() as gates:
        found = Scene(gates[request.param == "coroutine"])
        yield found
        found.let_go()


def test_first_answer_carries_the_cookies(scene: Scene) -> None:
    browser = scene.client()
    response = browser.ask()
    ((session, expires_at_ms, now_ms),) = scene.writer.calls
    assert (session.token, expires_at_ms) == (TOKENS["ada"], now_ms + TWO_DAYS_MS)
    sent = cookies(response)
    assert list(sent) == [COOKIE, DATA]
    value = cookie_value(TOKENS["ada"])
    assert sent[COOKIE] == f"{COOKIE}={value}; Max-Age=172800; Path=/; HttpOnly; SameSite=Lax"
    data, _, attributes = sent[DATA].removeprefix(f"{DATA}=").partition("; ")
    assert attributes == "Max-Age=300; Path=/; HttpOnly; SameSite=Lax"
    found = decode(data, KEYS, strategy="compact", version="1", now_ms=now_ms)
    assert isinstance(found, SessionDataCookie)
    assert found.record.session.expires_at_ms == expires_at_ms
    assert (found.record.session.updated_at_ms, found.updated_at_ms) == (now_ms, now_ms)
    assert found.record.user.role == "user,admin"
    assert response.body == b"ok"


def test_only_once(scene: Scene) -> None:
    browser = scene.client()
    assert [len(cookies(browser.ask())) for _ in range(4)] == [2, 0, 0, 0]
    assert len(scene.writer.calls) == 1
    assert scene.extender.outcomes == {"extended": 1, "lost": 0, "failed": 0}


def test_the_lane_takes_the_session_again_afterwards(scene: Scene) -> None:
    browser = scene.client()
    for _ in range(2):
        browser.ask()
    before = scene.gate.taken
    browser.ask()
    assert scene.gate.taken == before + (scene.gate.lane is not None)


def test_answer_with_cookies_is_for_nobody_else(scene: Scene) -> None:
    scene.gate.replies = lambda head: PAGE
    browser = scene.client()
    assert values(browser.ask(), "cache-control") == ["private, no-store"]
    assert values(browser.ask(), "cache-control") == ["private, max-age=60"]


def test_public_page_that_knows_its_visitor_extends_as_well(scene: Scene) -> None:
    scene.gate.replies = lambda head: PAGE
    browser = scene.client()
    response = browser.ask("/me")
    assert list(cookies(response)) == [COOKIE, DATA]
    assert values(response, "cache-control") == ["private, no-store"]


@pytest.mark.parametrize("path", ["/open", "/edge"])
def test_who_is_not_verified_extends_nothing(scene: Scene, path: str) -> None:
    browser = scene.client()
    assert browser.ask(path).status == 200
    assert scene.writer.calls == []


def test_not_due_yet(scene: Scene) -> None:
    scene.gate.change("ada", session={"expires_at_ms": NOW_MS + 2 * DAY_MS})
    browser = scene.client()
    assert [cookies(browser.ask()) for _ in range(3)] == [{}, {}, {}]
    assert scene.writer.calls == []


def test_due_while_the_session_is_in_memory(scene: Scene) -> None:
    """The lane has the answer to this very request by heart."""
    scene.gate.change("ada", session={"expires_at_ms": scene.gate.now_ms() + DAY_MS + 300})
    browser = scene.client()
    for _ in range(3):
        assert cookies(browser.ask()) == {}
    scene.gate.loop.pass_s(0.25)
    assert cookies(browser.ask()) == {}
    scene.gate.loop.pass_s(0.05)
    assert list(cookies(browser.ask())) == [COOKIE, DATA]


def test_who_is_not_to_be_remembered(scene: Scene) -> None:
    forget = f"better-auth.dont_remember={sign_value('true', KEYS)}"
    browser = scene.client()
    for _ in range(3):
        assert cookies(browser.ask(cookie=f"{signed_in('ada')}; {forget}")) == {}
    assert scene.writer.calls == []
    assert scene.gate.taken == (2 if scene.gate.lane is not None else 0)
    forged = f"{signed_in('ada')}; better-auth.dont_remember=true.AAAA"
    assert list(cookies(browser.ask(cookie=forged))) == [COOKIE, DATA]


@pytest.mark.parametrize("reply", [PAGE, CHUNKED], ids=["whole", "in-pieces"])
def test_answer_waits_for_a_store_that_is_slower_than_the_app(scene: Scene, reply: Reply) -> None:
    scene.gate.replies = lambda head: reply
    scene.writer.holds = True
    browser = scene.client()
    browser.send()
    assert browser.got == b""
    scene.let_go()
    response = browser.answer()
    assert list(cookies(response)) == [COOKIE, DATA]
    assert response.body == (b"ok" if reply is PAGE else b"abcdef")


@pytest.mark.parametrize("reply", [PAGE, CHUNKED], ids=["whole", "in-pieces"])
def test_answer_does_not_wait_long_and_the_next_one_has_the_cookies(scene: Scene, reply: Reply) -> None:
    scene.gate.replies = lambda head: reply
    scene.writer.holds = True
    browser = scene.client()
    browser.send()
    scene.gate.loop.pass_s(HOLD_S - 0.01)
    assert browser.got == b""
    scene.gate.loop.pass_s(0.02)
    response = browser.answer()
    assert cookies(response) == {}
    assert response.body == (b"ok" if reply is PAGE else b"abcdef")
    scene.let_go()
    assert list(cookies(browser.ask())) == [COOKIE, DATA]
    assert cookies(browser.ask()) == {}
    assert len(scene.writer.calls) == 1


def test_later_cookies_say_what_is_known_then(scene: Scene) -> None:
    scene.writer.holds = True
    browser = scene.client()
    browser.send()
    scene.gate.loop.pass_s(2 * HOLD_S)
    assert cookies(browser.answer()) == {}
    scene.let_go()
    began_ms = scene.writer.calls[0][2]
    scene.gate.change(
        "ada", session={"expires_at_ms": began_ms + TWO_DAYS_MS, "updated_at_ms": began_ms}, name="Countess"
    )
    scene.gate.loop.pass_s(60)
    data = cookies(scene.client().ask())[DATA].removeprefix(f"{DATA}=").partition(";")[0]
    found = decode(data, KEYS, strategy="compact", version="1", now_ms=scene.gate.now_ms())
    assert isinstance(found, SessionDataCookie)
    assert (found.record.user.name, found.updated_at_ms) == ("Countess", scene.gate.now_ms())


class HandRevoker:
    """Ends sessions where the gate of the test keeps them."""

    def __init__(self, gate: HandGate) -> None:
        self.gate = gate

    async def revoke(self, sessions: Sequence[Session]) -> int:
        self.gate.change("ada", session=None)
        return len(sessions)


@pytest.mark.parametrize("is_settled", [True, False], ids=["extended-before", "extended-meanwhile"])
def test_who_signed_out_gets_no_cookies_by_an_answer_that_was_under_way(scene: Scene, is_settled: bool) -> None:
    runtime = scene.gate.gate.runtime
    runtime.revoker = HandRevoker(scene.gate)  # type: ignore[assignment]  # revokes, which is all that is asked of it
    scene.writer.holds = not is_settled
    scene.gate.app.holds = True
    slow = scene.client()
    slow.send()
    other = scene.client()
    headers = f"Host: h\r\nOrigin: http://h\r\nCookie: {signed_in('ada')}\r\n\r\n"
    scene.gate.say(other.client, f"POST /.gatekeeper/sign-out HTTP/1.1\r\n{headers}".encode())
    assert other.answer("POST").status == 200
    scene.let_go()
    scene.gate.loop.do(scene.gate.app.release)
    response = slow.answer()
    assert (response.status, cookies(response)) == (200, {})


def test_many_at_once_are_one_attempt(scene: Scene) -> None:
    scene.writer.holds = True
    browsers = [scene.client() for _ in range(4)]
    for browser in browsers:
        browser.send()
    scene.let_go()
    assert [list(cookies(browser.answer())) for browser in browsers] == [[COOKIE, DATA]] * 4
    assert len(scene.writer.calls) == 1


def test_another_process_was_first(scene: Scene) -> None:
    scene.writer.finds_it_changed = True
    browser = scene.client()
    reads = scene.gate.gate.runtime.sessions.counters.reads
    assert cookies(browser.ask()) == {}
    scene.gate.change("ada", session={"expires_at_ms": NOW_MS + 2 * DAY_MS})
    assert cookies(browser.ask()) == {}
    assert scene.gate.gate.runtime.sessions.counters.reads == reads + 2  # what was known is not believed any more
    assert scene.extender.outcomes == {"extended": 0, "lost": 1, "failed": 0}


def test_a_store_that_cannot_is_left_alone_for_a_while(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("gatekeeper")
    logger.addHandler(caplog.handler)
    scene.writer.error = StoreUnavailable("the file is read-only")
    browser = scene.client()
    try:
        for _ in range(3):
            response = browser.ask()
            assert (response.status, cookies(response)) == (200, {})
        assert len(scene.writer.calls) == 1
        scene.gate.loop.pass_s(REST_MS / 1000 - 0.25)
        browser = scene.client()
        assert cookies(browser.ask()) == {}
        assert len(scene.writer.calls) == 1
        scene.gate.loop.pass_s(0.25)
        assert cookies(browser.ask()) == {}
        assert len(scene.writer.calls) == 2
        scene.writer.error = None
        scene.gate.loop.pass_s(REST_MS / 1000)
        assert list(cookies(scene.client().ask())) == [COOKIE, DATA]
    finally:
        logger.removeHandler(caplog.handler)
    assert scene.extender.outcomes == {"extended": 1, "lost": 0, "failed": 2}
    assert [message for message in caplog.messages if "extended" in message] == [
        "sessions cannot be extended, and end when they would have: the file is read-only",
        "sessions can be extended again",
    ]


@pytest.mark.parametrize("line", [f"Set-Cookie: {COOKIE}=; Max-Age=0; Path=/", f"set-cookie:{COOKIE}=other"])
def test_app_that_sets_the_cookie_itself_has_the_last_word(scene: Scene, line: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok".encode()
    scene.gate.replies = lambda head: Reply((answer,))
    browser = scene.client()
    assert len(values(browser.ask(), "set-cookie")) == 1
    scene.gate.replies = lambda head: PAGE
    assert list(cookies(browser.ask())) == [COOKIE, DATA]


def test_cookies_of_the_app_stay(scene: Scene) -> None:
    scene.gate.replies = lambda head: Reply((b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",))
    assert list(cookies(scene.client().ask())) == ["a", COOKIE, DATA]


def test_leftovers_of_an_earlier_cookie_are_cleared(scene: Scene) -> None:
    response = scene.client().ask(cookie=f"{signed_in('ada')}; {DATA}.0=x; {DATA}.1=y")
    lines = values(response, "set-cookie")
    assert [line.partition("=")[0] for line in lines] == [COOKIE, f"{DATA}.0", f"{DATA}.1", DATA]
    assert all("=; Max-Age=0; " in line for line in lines[1:3])


def test_without_a_cookie_cache_the_session_cookie_goes_alone(scene: Scene) -> None:
    config = CONFIG.replace("{fresh_age: 1h}", "{cookie_cache: {enabled: false}}")
    runtime = scene.gate.gate.runtime
    runtime.extender = Extender(scene.writer, snapshot_of(config), runtime.sessions.forget, scene.gate.now_ms)
    assert list(cookies(scene.client().ask())) == [COOKIE]


def test_name_that_better_auth_would_take_for_a_date_goes_into_no_cookie(scene: Scene) -> None:
    scene.gate.change("ada", name="2026-11-24T03:12:15Z")
    response = scene.client().ask(cookie=f"{signed_in('ada')}; {DATA}=old")
    assert [line.partition(";")[0] for line in values(response, "set-cookie")][1:] == [f"{DATA}="]


def test_request_with_a_body(scene: Scene) -> None:
    scene.writer.holds = True
    browser = scene.client()
    browser.send("/form", method="POST", body=b"a=b")
    assert browser.got == b""
    scene.let_go()
    assert list(cookies(browser.answer("POST"))) == [COOKIE, DATA]
    assert browser.ask("/form", method="POST", body=b"a=b").status == 200


def test_head_request(scene: Scene) -> None:
    response = scene.client().ask(method="HEAD")
    assert (list(cookies(response)), response.body) == ([COOKIE, DATA], b"")


def test_app_that_does_not_answer_leaves_the_cookies_to_the_next(scene: Scene) -> None:
    scene.gate.app.refuses = True
    browser = scene.client()
    response = browser.ask()
    assert (response.status, cookies(response)) == (502, {})
    scene.gate.app.refuses = False
    assert list(cookies(browser.ask())) == [COOKIE, DATA]
    assert len(scene.writer.calls) == 1


def test_app_that_breaks_off_while_its_answer_waits(scene: Scene) -> None:
    scene.gate.replies = lambda head: Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",), then="reset")
    scene.writer.holds = True
    browser = scene.client()
    browser.send()
    scene.let_go()
    (response,), _ = parse_responses(browser.got, "GET")
    assert (response.body, response.complete) == (b"ok", False)
    assert "aborted" in browser.client.ends


def test_answer_that_ends_with_its_connection_while_it_waits(scene: Scene) -> None:
    scene.gate.replies = lambda head: Reply((b"HTTP/1.1 200 OK\r\n\r\nall of it",))
    scene.writer.holds = True
    browser = scene.client()
    browser.send()
    scene.gate.loop.do(lambda: scene.gate.app.connections[0].lose(None))
    scene.let_go()
    response = browser.answer()
    assert (list(cookies(response)), response.body) == ([COOKIE, DATA], b"all of it")


def test_app_that_hangs_up_instead_of_answering(scene: Scene) -> None:
    scene.gate.replies = lambda head: Reply((), then="close")
    browser = scene.client()
    response = browser.ask("/form", method="POST", body=b"a=b")
    assert (response.status, cookies(response)) == (502, {})
    scene.gate.replies = lambda head: PAGE
    assert list(cookies(browser.ask())) == [COOKIE, DATA]


@pytest.mark.parametrize("reply", [PAGE, CHUNKED], ids=["whole", "in-pieces"])
def test_client_that_leaves_while_its_answer_waits(scene: Scene, reply: Reply) -> None:
    scene.gate.replies = lambda head: reply
    scene.writer.holds = True
    browser = scene.client()
    browser.send()
    scene.gate.loop.do(lambda: browser.client.lose(None))
    scene.let_go()
    scene.gate.loop.pass_s(1)
    assert browser.got == b""
    assert list(cookies(scene.client().ask())) == [COOKIE, DATA]
    assert len(scene.writer.calls) == 1


def test_slow_client_stops_the_app_after_the_wait_as_ever(scene: Scene) -> None:
    scene.gate.replies = lambda head: Reply(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"a" * 1000, b"b" * 1000)
    )
    scene.writer.holds = True
    browser = scene.client()
    browser.client.takes = False
    browser.send()
    scene.let_go()
    scene.gate.loop.do(browser.client.take)
    assert browser.answer().body == b"a" * 1000 + b"b" * 1000
    assert browser.ask().status == 200


def test_slow_client_of_a_whole_answer_stops_nobody_elses(scene: Scene) -> None:
    scene.gate.change("guest", session={"expires_at_ms": NOW_MS + 2 * DAY_MS})
    scene.gate.replies = lambda head: Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"a" * 2000,))
    scene.writer.holds = True
    slow, quick = scene.client(), scene.client()
    slow.client.takes = False
    slow.send()
    scene.let_go()
    assert quick.ask(cookie=signed_in("guest")).body == b"a" * 2000  # by the same connection to the app
    assert len(scene.gate.app.connections) == 1
    scene.gate.loop.do(slow.client.take)
    assert slow.answer().body == b"a" * 2000


async def test_a_late_answer_says_what_was_known_when_its_request_came() -> None:
    """A session that was revoked while the app took its time has no cookie from after that."""

    class Writer:
        async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
            return True

    clock = Clock(NOW_MS)
    extender = Extender(Writer(), snapshot_of(CONFIG), lambda token: None, clock)
    first = extender.claim(record({"expires_at_ms": NOW_MS + HOUR_MS}), None)
    assert first is not None
    done = asyncio.Event()
    first.when_settled(done.set)
    await done.wait()
    clock.at += 1_000
    second = extender.claim(record({"expires_at_ms": NOW_MS + TWO_DAYS_MS}), None)
    assert second is not None
    clock.at += 60_000
    data = second.cookies()[1].decode().removeprefix(f"{DATA}=").partition(";")[0]
    found = decode(data, KEYS, strategy="compact", version="1", now_ms=NOW_MS + 61_000)
    assert isinstance(found, SessionDataCookie)
    assert found.updated_at_ms == NOW_MS + 1_000


async def test_unforeseen_error_is_logged_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
            raise ZeroDivisionError

    extender = Extender(Broken(), snapshot_of(CONFIG), lambda token: None, lambda: NOW_MS)
    logger = logging.getLogger("gatekeeper")
    logger.addHandler(caplog.handler)
    try:
        claim = extender.claim(record({"expires_at_ms": NOW_MS + HOUR_MS}), None)
        assert claim is not None
        done = asyncio.Event()
        claim.when_settled(done.set)
        await done.wait()
    finally:
        logger.removeHandler(caplog.handler)
    assert (claim.cookies(), extender.outcomes["failed"]) == ([], 1)
    assert "a session could not be extended" in caplog.text


async def test_end_of_the_gate_ends_attempts() -> None:
    class Endless:
        async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
            return await asyncio.get_running_loop().create_future()

    extender = Extender(Endless(), snapshot_of(CONFIG), lambda token: None, lambda: NOW_MS)
    claim = extender.claim(record({"expires_at_ms": NOW_MS + HOUR_MS}), None)
    await extender.close()
    assert claim is not None
    assert (claim.is_settled, claim.cookies()) == (True, [])
    assert sum(extender.outcomes.values()) == 0
    assert repr(extender) == "<Extender 0 under way or to be told, 0 made>"


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "_MOST", 2)
    forgotten: list[SessionToken] = []

    class Writer:
        async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
            return True

    extender = Extender(Writer(), snapshot_of(CONFIG), forgotten.append, Clock(NOW_MS))
    claims = [extender.claim(record({"token": f"T{n}", "expires_at_ms": NOW_MS + HOUR_MS}), None) for n in range(4)]
    for _ in range(4):
        await asyncio.sleep(0)
    assert all(claim is not None and claim.is_settled for claim in claims)
    assert repr(extender).startswith("<Extender 2 under way")
    assert forgotten == ["T0", "T1", "T2", "T3"]
