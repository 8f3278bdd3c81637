"""What happens between requests, and during them, means the same to the fast lane as to the coroutine path.

Every scene is played with the lane and without it, and everything that is seen must be equal; what it must be is said
besides, where it is not plain.
"""

from collections.abc import Callable

import pytest

from gatekeeper.server.heads import MAX_KNOWN, MAX_KNOWN_BYTES
from gatekeeper.stores.feeds.feed import digest_of
from tests.server.by_hand import HandClient, Reply
from tests.server.lane_gates import (
    CACHE_S,
    CONFIG,
    HEAD_S,
    KEEP_ALIVE_S,
    NOW_MS,
    OK,
    RESPONSE_S,
    HandGate,
    signed_in,
    two_gates,
)

Scene = Callable[[HandGate], object]


def get(path: str = "/dashboard", *lines: str, who: str | None = "ada") -> bytes:
    """A request that the lane takes when it has seen it."""
    cookies = [] if who is None else [f"Cookie: {signed_in(who)}"]
    fields = "".join(f"{line}\r\n" for line in ("Host: h", *cookies, *lines))
    return f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode()


def post(body: bytes, path: str = "/dashboard") -> bytes:
    fields = f"Host: h\r\nCookie: {signed_in('ada')}\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n".encode() + body


def play(scene: Scene, *, taken: int, **settings: int | str) -> HandGate:
    """Play a scene with both gates, and let time pass until all is over.  The lane takes `taken` requests at least."""
    with two_gates(**settings) as gates:
        told = []
        for gate in gates:
            results = [scene(gate)]
            for seconds in (0.5, 2.5, 3.0, 3.0, 3.0):
                gate.loop.pass_s(seconds)
                results.append(gate.seen())
            told.append((results, gate.logged(), gate.metrics()))
        assert told[0] == told[1]
        assert gates[0].taken >= taken
        return gates[0]


def warm(gate: HandGate, *requests: bytes, peer: str = "203.0.113.7") -> HandClient:
    """A client whose requests the lane knows."""
    client = gate.connect(peer)
    for request in requests or (get(),):
        for _ in range(3):
            gate.say(client, request)
    client.got.clear()
    return client


def statuses(client: HandClient) -> list[int]:
    """The statuses of what the client has got since the last time."""
    found = [int(part[:3]) for part in bytes(client.got).split(b"HTTP/1.1 ")[1:]]
    client.got.clear()
    return found


def reasons(gate: HandGate) -> list[str]:
    return [line.partition(b'"reason":"')[2].partition(b'"')[0].decode() for line in gate.logged()]


# --- what the lane remembers ends when it must --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/dashboard", "/me", "/"])
@pytest.mark.parametrize("change", ["revoked", "banned", "expired", "renamed"])
def test_what_changes_in_the_store_counts_once_the_memory_is_too_old(path: str, change: str) -> None:
    changes = {
        "revoked": {"session": None},
        "banned": {"banned": True},
        "expired": {"session": {"expires_at_ms": NOW_MS - 1}},
        "renamed": {"name": "Countess"},
    }[change]

    def scene(gate: HandGate) -> list[int]:
        client = warm(gate, get(path))
        gate.change("ada", **changes)
        gate.say(client, get(path))
        gate.loop.pass_s(CACHE_S - 0.01)
        gate.say(client, get(path))
        gate.loop.pass_s(0.01)
        gate.say(client, get(path))
        gate.say(client, get(path))
        got = statuses(client)
        assert got == [200] * 4 if path != "/dashboard" or change == "renamed" else [200, 200, 401, 401]
        assert (b"Countess" in gate.app.connections[-1].got) == (change == "renamed")
        return got

    play(scene, taken=4)


@pytest.mark.parametrize("how", ["forget", "forget_user", "clear"])
def test_what_is_forgotten_is_forgotten_at_once(how: str) -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.change("ada", session=None)
        gate.say(client, get())
        sessions = gate.gate.runtime.sessions
        acts: dict[str, Callable[[], None]] = {
            "forget": lambda: gate.forget("ada"),
            "forget_user": lambda: sessions.user_changed(digest_of("ada")),
            "clear": sessions.all_changed,
        }
        acts[how]()
        gate.say(client, get())
        got = statuses(client)
        assert got == [200, 401]
        return got

    play(scene, taken=3)


def at(gate: HandGate, client: HandClient, request: bytes, ms: int) -> int:
    """The status of a request at this moment of the wall clock, with a session that was read just before."""
    gate.shift_ms += ms - gate.now_ms()
    gate.say(client, request)
    (status,) = statuses(client)
    return status


def sweep(path: str, limit_ms: int, before: int, after: int, who: str = "soon") -> Scene:
    """Ask around a moment, forwards, backwards, and across it in both directions; each time as if for the first time,
    too, by another client's equal request after the clock was moved.
    """

    def scene(gate: HandGate) -> list[int]:
        request = get(path, who=who)
        gate.shift_ms = -10_000
        client = warm(gate, request)
        got: list[int] = []
        for ms in (-1_500, -1, 0, 1, -1, 1, -1, 0, -2, 500, -1_500, 0):
            got.append(at(gate, client, request, limit_ms + ms))
            assert got[-1] == (after if ms >= 0 else before), ms
        return got

    return scene


def test_a_session_is_over_one_millisecond_after_its_expiry() -> None:
    play(sweep("/dashboard", NOW_MS + 5_001, 200, 401), taken=10)


def test_freshness_is_lost_on_the_millisecond() -> None:
    play(sweep("/fresh", NOW_MS + 4_000, 200, 403), taken=10)


def test_freshness_has_its_limit_where_it_is_measured_in_fractions_of_a_millisecond() -> None:
    config = CONFIG.replace("fresh_age: 1h", "fresh_age: 3600.0005s")
    play(sweep("/fresh", NOW_MS + 4_001, 200, 403), taken=10, config=config)


def test_a_ban_ends_on_the_millisecond() -> None:
    def scene(gate: HandGate) -> object:
        gate.change("ada", banned=True, ban_expires_ms=NOW_MS + 3_000)
        return sweep("/dashboard", NOW_MS + 3_000, 401, 200, who="ada")(gate)

    play(scene, taken=6)


def test_an_optional_identity_ends_with_the_session() -> None:
    def scene(gate: HandGate) -> list[bool]:
        gate.shift_ms = -10_000
        client = warm(gate, get("/me", who="soon"))
        told: list[bool] = []
        for ms in (-1, 0, -1, 1_000, -1_000):
            gate.app.connections[0].got.clear()
            at(gate, client, get("/me", who="soon"), NOW_MS + 5_001 + ms)
            told.append(b"X-Auth-User-Id: soon" in gate.app.connections[0].got)
        assert told == [True, False, True, False, True]
        return told

    play(scene, taken=6)


def test_get_session_is_the_apps_from_the_millisecond_on_that_the_session_is_due() -> None:
    path = "/api/auth/get-session"
    more = "fresh_age: 1h, expires_in: 60s, update_age: 59s, serve_get_session: true"

    def scene(gate: HandGate) -> list[bool]:
        gate.shift_ms = -10_000
        client = warm(gate, get("/open", who=None), get(path, who="soon"))
        told: list[bool] = []
        for ms in (-1, 0, -1, 1_000, -1_000, -1, -1, 1, -1):
            gate.app.connections[0].got.clear()
            assert at(gate, client, get(path, who="soon"), NOW_MS + 4_000 + ms) == 200
            told.append(b"get-session" in gate.app.connections[0].got)
        assert told == [False, True, False, True, False, False, False, True, False]
        return told

    config = CONFIG.replace("- {path: /api, upstream: api, preflight: answer}", "").replace("fresh_age: 1h", more)
    play(scene, taken=6, config=config)


def test_an_optional_identity_comes_back_when_a_ban_ends() -> None:
    def scene(gate: HandGate) -> list[bool]:
        gate.change("ada", banned=True, ban_expires_ms=NOW_MS + 3_000)
        client = warm(gate, get("/me"))
        told: list[bool] = []
        for ms in (-1, 0, -1, 1_000, -1_000, 1):
            gate.app.connections[0].got.clear()
            at(gate, client, get("/me"), NOW_MS + 3_000 + ms)
            told.append(b"X-Auth-User-Id: ada" in gate.app.connections[0].got)
        assert told == [False, True, False, True, False, True]
        return told

    play(scene, taken=6)


@pytest.mark.parametrize("lines", [("Accept: text/html",), ("Accept: application/json",)])
@pytest.mark.parametrize("who", [None, "unknown", "expired"])
def test_the_loop_breaker_counts_by_the_second(lines: tuple[str, ...], who: str | None) -> None:
    def scene(gate: HandGate) -> list[bytes]:
        client = warm(gate, get("/dashboard", *lines, who=who))
        got: list[bytes] = []
        for shift in (0, 749, 750, 751, 1_750, 749, 31_000, -1_000):
            client.got.clear()
            gate.shift_ms = shift
            gate.say(client, get("/dashboard", *lines, who=who))
            got.append(bytes(client.got))
        return got

    gate = play(scene, taken=6 if who is None else 4)
    assert gate.lane is not None


def test_the_loop_breakers_cookie_counts_up_and_starts_anew() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = gate.connect()
        jar, got = "a=b", []
        for seconds in (0, 1, 1, 1, 5, 40, 1, 1, 1):
            gate.loop.pass_s(float(seconds))
            if client.is_lost:
                client = gate.connect()
            request = get("/dashboard", "Accept: text/html", f"Cookie: {jar}", who=None)
            for _ in range(2):
                client.got.clear()
                gate.say(client, request)
            answer = bytes(client.got)
            got.append(int(answer[9:12]))
            if b"Set-Cookie: gatekeeper.redirects=" in answer:
                jar = answer.partition(b"Set-Cookie: ")[2].partition(b";")[0].decode()
        assert got == [307, 307, 401, 401, 401, 307, 307, 401, 401]
        return got

    play(scene, taken=9)


@pytest.mark.parametrize(("who", "status"), [("ada", 200), ("guest", 403), ("banned", 401), ("unverified", 403)])
def test_conditions_hold_for_each_by_themselves(who: str, status: int) -> None:
    def scene(gate: HandGate) -> list[int]:
        path = "/verified" if who == "unverified" else "/admin"
        client = warm(gate, get("/admin"), get(path, who=who))
        for one in ("ada", who, who, "ada", who):
            gate.say(client, get(path, who=one))
        got = statuses(client)
        assert got == [200, status, status, 200, status]
        return got

    play(scene, taken=6)


def test_a_role_that_is_taken_away_is_gone_with_the_memory() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate, get("/admin"))
        gate.change("ada", role="user")
        gate.say(client, get("/admin"))
        gate.forget("ada")
        for _ in range(2):
            gate.say(client, get("/admin"))
        gate.change("ada", role="admin")
        gate.forget("ada")
        gate.say(client, get("/admin"))
        got = statuses(client)
        assert got == [200, 403, 403, 200]
        return got

    play(scene, taken=4)


def test_another_runtime_decides_from_the_next_request_on() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate, get("/open", who=None), get("/open"))
        first = gate.gate.runtime
        gate.gate.runtime = gate.runtime(CONFIG.replace("- /dashboard\n", "- /dashboard\n- /open\n"))
        for _ in range(2):
            gate.say(client, get("/open", who=None))
        gate.gate.runtime = first
        gate.say(client, get("/open", who=None))
        gate.gate.runtime = gate.runtime(CONFIG.replace("prefix: /x", "").replace(signed_in("ada"), ""))
        gate.change("ada", session=None)
        gate.say(client, get("/dashboard"))
        got = statuses(client)
        assert got == [401, 401, 200, 401]
        return got

    play(scene, taken=5)


def test_a_request_keeps_the_runtime_that_it_began_with() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.app.holds = True
        gate.say(client, get())
        gate.gate.runtime = gate.runtime(CONFIG.replace("- /dashboard\n", "- {path: /dashboard, access: presence}\n"))
        gate.loop.do(gate.app.release)
        return statuses(client)

    gate = play(scene, taken=2)
    assert reasons(gate)[-1] == "SESSION"


# --- who is who -----------------------------------------------------------------------------------------------------


def test_equal_bytes_from_another_address_are_another_clients() -> None:
    def scene(gate: HandGate) -> list[bytes]:
        peers = ("203.0.113.7", "203.0.113.8", "2001:db8::1")
        clients = {peer: warm(gate, peer=peer) for peer in peers}
        got: list[bytes] = []
        for peer in (*peers, *reversed(peers)):
            gate.app.connections[0].got.clear()
            gate.say(clients[peer], get())
            got.append(gate.fixed(bytes(gate.app.connections[0].got)))
            assert got[-1].count(f"X-Forwarded-For: {peer}\r\n".encode()) == 1
        return got

    gate = play(scene, taken=9)
    assert sum(b'"client":"2001:db8::1"' in line for line in gate.logged()) == 5


def test_each_clients_cookie_is_judged() -> None:
    def scene(gate: HandGate) -> list[bytes]:
        who = ("ada", "guest", None, "expired")
        clients = {one: warm(gate, get("/me", who=one)) for one in who}
        got: list[bytes] = []
        for one in (*who, *reversed(who)):
            gate.app.connections[0].got.clear()
            gate.say(clients[one], get("/me", who=one))
            got.append(gate.fixed(bytes(gate.app.connections[0].got)))
            told = one if one in ("ada", "guest") else None
            assert (b"X-Auth-User-Id:" in got[-1]) == (told is not None)
            assert told is None or f"X-Auth-User-Id: {told}\r\n".encode() in got[-1]
        return got

    play(scene, taken=12)


def test_a_trusted_proxy_speaks_for_many_and_a_stranger_only_for_themselves() -> None:
    def scene(gate: HandGate) -> list[bytes]:
        got: list[bytes] = []
        proxy, stranger = gate.connect("10.0.0.1"), gate.connect("203.0.113.9")
        for number in (1, 1, 2, 2, 1):
            lines = (
                f"X-Forwarded-For: 198.51.100.{number}",
                "X-Forwarded-Proto: https",
                f"X-Request-Id: from-{number}",
            )
            for client in (proxy, stranger):
                for _ in range(2):
                    gate.say(client, get("/dashboard", *lines))
                    data = bytes(gate.app.connections[0].got)
                    gate.app.connections[0].got.clear()
                    got.append(gate.fixed(data))
                    of_proxy = f"X-Forwarded-For: 198.51.100.{number}\r\n".encode() in data
                    assert of_proxy == (client is proxy)
                    assert (f"X-Request-Id: from-{number}\r\n".encode() in data) == (client is proxy)
        return got

    play(scene, taken=14)


def test_the_ids_of_requests_differ_however_alike_they_are() -> None:
    def scene(gate: HandGate) -> int:
        client = warm(gate, get("/open", who=None))
        for _ in range(20):
            gate.say(client, get("/open", who=None))
        ids = [part[:16] for part in bytes(gate.app.connections[0].got).split(b"X-Request-Id: ")[1:]]
        assert len(set(ids)) == len(ids) == 23
        return len(ids)

    play(scene, taken=20)


def test_no_memory_of_the_lane_grows_without_bound() -> None:
    gate = HandGate(lane=True)
    client = warm(gate, get("/open", who=None))

    assert gate.lane is not None
    gate.replies = lambda head: OK
    for number in range(MAX_KNOWN + 100):
        for _ in range(2):  # what comes once is not remembered at all
            gate.loop.call_soon(client.say, get("/dashboard", f"X-Unlike: {number}", who=None))
            gate.loop.turn()
        gate.loop.call_soon(client.say, get("/dashboard", "X-Long: " + "v" * MAX_KNOWN_BYTES, who=None))
        gate.loop.turn()
    gate.loop.settle()
    assert gate.lane.parsed > MAX_KNOWN
    sizes = [size for size in gate.lane.memory() if size]
    assert len(sizes) >= 3
    assert max(sizes) <= MAX_KNOWN
    assert gate.close() == []


# --- what comes while a request is in the lane --------------------------------------------------------------------


def test_what_comes_in_the_turn_of_the_answer_stands_behind_what_is_held() -> None:
    """Nothing of a body may be taken for a request, whenever it comes."""
    inner = get("/settings")

    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.app.connections[0].got.clear()
        gate.app.holds = True
        gate.say(client, get())
        head, _, body = post(inner).partition(b"\r\n\r\n")
        gate.say(client, head + b"\r\n\r\n")
        gate.app.holds = False
        gate.loop.do(gate.app.release, lambda: client.say(body))
        assert gate.app.connections[0].got.count(b"\r\nX-Request-Id: ") == 2
        assert gate.app.connections[0].got.endswith(b"\r\n\r\n" + inner)
        return statuses(client)

    play(scene, taken=2)


def test_a_request_that_is_held_is_answered_though_its_client_sends_no_more() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.app.holds = True
        gate.say(client, get())
        gate.say(client, get())
        gate.app.holds = False
        gate.loop.do(gate.app.release, lambda: client.say(None))
        got = statuses(client)
        assert got == [200, 200]
        assert client.is_lost
        return got

    play(scene, taken=2)


def test_a_log_line_tells_what_was_decided_for_that_request_though_an_equal_one_was_decided_otherwise_since() -> None:
    def scene(gate: HandGate) -> list[int]:
        slow, other = warm(gate), warm(gate)
        gate.app.holds = True
        gate.say(slow, get())
        gate.change("ada", banned=True)
        gate.forget("ada")
        for _ in range(3):
            gate.say(other, get())
        gate.app.holds = False
        gate.loop.do(gate.app.release)
        got = statuses(slow) + statuses(other)
        assert got == [200, 401, 401, 401]
        return got

    gate = play(scene, taken=7)
    assert sorted(reasons(gate)[-4:]) == ["SESSION"] + ["USER_BANNED"] * 3


@pytest.mark.parametrize("then", ["keep", "close"])
def test_an_answer_that_breaks_off_is_logged_with_the_time_that_the_app_took(then: str) -> None:
    half = Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",), then)

    def scene(gate: HandGate) -> tuple[str, ...]:
        client = warm(gate)
        gate.app.holds = True
        gate.replies = lambda head: half
        gate.say(client, get())
        gate.loop.pass_s(1.0)
        gate.loop.do(gate.app.release)
        gate.loop.pass_s(0.5)
        if then == "keep":
            gate.loop.do(lambda: client.lose(None))
        return tuple(client.ends)

    gate = play(scene, taken=2)
    (line,) = [line for line in gate.logged() if b'"bytes":76' in line]
    assert b'"upstream_seconds":1.0,' in line
    assert (b"CLIENT_LEFT" if then == "keep" else b"UPSTREAM_PROTOCOL") in line


@pytest.mark.parametrize("then", ["close", "reset"])
def test_an_answer_that_breaks_off_while_its_client_does_not_read(then: str) -> None:
    half = Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 800,), then)

    def scene(gate: HandGate) -> tuple[str, ...]:
        client = warm(gate)
        client.takes = False
        gate.replies = lambda head: half
        gate.say(client, get())
        gate.loop.pass_s(10.0)
        return tuple(client.ends)

    play(scene, taken=2)


def test_a_client_that_leaves_before_its_answer_is_logged_so() -> None:
    def scene(gate: HandGate) -> tuple[str, ...]:
        client = warm(gate)
        gate.app.holds = True
        gate.say(client, get())
        gate.loop.pass_s(1.0)
        gate.loop.do(lambda: client.lose(None))
        assert gate.app.connections[0].ends == ["aborted", "over"]
        return tuple(client.ends)

    gate = play(scene, taken=2)
    assert reasons(gate)[-1] == "CLIENT_LEFT"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_connection_that_was_dead_is_tried_anew_once_where_nothing_can_happen_twice(method: str, then: str) -> None:
    request = get().replace(b"GET", method.encode())

    def scene(gate: HandGate) -> list[int]:
        client = warm(gate, request)
        dead = iter([Reply((), then), OK, Reply((), then), Reply((), then), OK])
        gate.replies = lambda head: next(dead)
        for _ in range(3):
            gate.say(client, request)
        got = statuses(client)
        assert got == ([200, 502, 200] if method == "GET" else [502, 200, 502])
        return got

    play(scene, taken=3)


def test_an_app_that_hangs_up_between_requests_is_connected_anew() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.loop.do(gate.app.hang_up)
        gate.say(client, get())
        gate.loop.do(gate.app.hang_up, lambda: client.say(get()))
        gate.app.refuses = True
        gate.loop.do(gate.app.hang_up)
        gate.say(client, get())
        got = statuses(client)
        assert got == [200, 200, 502]
        return got

    play(scene, taken=5)


def test_an_app_that_does_not_answer_in_time_is_given_up() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.app.holds = True
        gate.say(client, get())
        gate.loop.pass_s(RESPONSE_S - 0.3)
        assert statuses(client) == []
        gate.loop.pass_s(0.6)
        got = statuses(client)
        assert got == [504]
        gate.app.holds = False
        gate.say(client, get())
        assert statuses(client) == [200]
        return got

    play(scene, taken=3)


def test_requests_wait_for_a_connection_in_their_order() -> None:
    def scene(gate: HandGate) -> list[list[int]]:
        clients = [warm(gate) for _ in range(4)]
        gate.app.holds = True
        got = []
        for client in clients:
            gate.say(client, get())
        for _ in clients:
            gate.loop.do(lambda: gate.app.release(1))
            got.append([len(client.got) for client in clients])
        assert [statuses(client) for client in clients] == [[200]] * 4
        return got

    play(scene, taken=9, max_connections=2)


def test_a_client_that_does_not_read_gets_its_next_answer_only_when_it_does() -> None:
    big = Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 900,))

    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.replies = lambda head: big
        client.takes = False
        gate.say(client, get())
        for _ in range(3):
            gate.say(client, get())
        assert gate.app.requests == 4
        gate.loop.pass_s(1.0)
        gate.loop.do(client.take)
        got = statuses(client)
        assert got == [200] * 4
        gate.say(client, get())
        return got

    play(scene, taken=4)


@pytest.mark.parametrize("how", ["leaves", "stalls", "ends"])
@pytest.mark.parametrize("path", ["/dashboard", "/settings"])
def test_a_client_that_never_reads(how: str, path: str) -> None:
    big = Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 450, b"x" * 450))

    def scene(gate: HandGate) -> tuple[str, ...]:
        who = "ada" if path == "/dashboard" else None
        client = warm(gate, get(path, "Accept: text/html", who=who))
        gate.replies = lambda head: big
        client.takes = False
        for _ in range(2):
            gate.say(client, get(path, "Accept: text/html", who=who))
        if how == "leaves":
            gate.loop.do(lambda: client.lose(ConnectionResetError()))
        elif how == "ends":
            gate.say(client, None)
        gate.loop.pass_s(12.0)
        return tuple(client.ends)

    play(scene, taken=3)


# --- time ----------------------------------------------------------------------------------------------------------


def test_a_long_request_is_not_idle_and_after_it_the_connection_is_kept_as_long_as_ever() -> None:
    slow = Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",))

    def scene(gate: HandGate) -> list[object]:
        client = warm(gate)
        gate.replies = lambda head: slow
        gate.say(client, get())
        seen: list[object] = []
        for _ in range(3):
            gate.loop.pass_s(KEEP_ALIVE_S - 0.5)
            gate.loop.do(lambda: gate.app.connections[0].say(b"x"))
            seen.append(tuple(client.ends))
        assert seen == [(), (), ()]
        gate.loop.pass_s(KEEP_ALIVE_S - 0.3)
        seen.append(tuple(client.ends))
        gate.replies = lambda head: OK
        gate.say(client, get())
        gate.loop.pass_s(KEEP_ALIVE_S - 0.3)
        seen.append(tuple(client.ends))
        gate.loop.pass_s(0.6)
        assert client.ends == ["over"]
        assert seen[3:] == [(), ()]
        return seen

    play(scene, taken=3)


def test_part_of_a_head_has_its_deadline_though_a_request_was_in_the_lane() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.say(client, get()[:40])
        gate.loop.pass_s(HEAD_S - 0.3)
        assert statuses(client) == []
        gate.loop.pass_s(0.6)
        got = statuses(client)
        assert got == [408]
        return got

    play(scene, taken=2)


def test_a_body_that_was_held_is_no_head_that_has_begun() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.app.holds = True
        head, _, body = post(b"x" * 40).partition(b"\r\n\r\n")
        gate.say(client, get() + head + b"\r\n\r\n")
        gate.say(client, body)
        gate.app.holds = False
        gate.loop.do(gate.app.release)
        gate.loop.pass_s(HEAD_S + 0.5)
        gate.say(client, get())
        got = statuses(client)
        assert got == [200] * 3
        return got

    play(scene, taken=1)


@pytest.mark.parametrize("reads", [True, False])
def test_an_event_stream_ends_with_its_session(reads: bool) -> None:
    event = b"data: %b\n\n" % (b"x" * 600)
    stream = Reply((b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event,))

    def scene(gate: HandGate) -> list[object]:
        client = warm(gate, get("/dashboard", who="soon"))
        gate.loop.pass_s(2.0)
        gate.say(client, get("/dashboard", who="soon"))
        gate.replies = lambda head: stream
        client.takes = reads
        gate.say(client, get("/dashboard", who="soon"))
        seen: list[object] = []
        for _ in range(24):
            gate.loop.pass_s(0.25)
            seen.append((len(client.got), tuple(client.ends)))
        assert client.ends == ["aborted", "over"]
        return seen

    gate = play(scene, taken=3)
    assert reasons(gate)[-1] == "SESSION_ENDED"


# --- stopping ------------------------------------------------------------------------------------------------------


def test_who_asks_while_the_gate_stops_is_told_to_go_elsewhere() -> None:
    def scene(gate: HandGate) -> list[bool]:
        before, during = warm(gate), warm(gate)
        unsettled = warm(gate, get("/settings", who=None))
        gate.app.holds = True
        gate.say(during, get())
        gate.server.draining = True
        gate.app.holds = False
        gate.loop.do(gate.app.release)
        gate.say(before, get())
        gate.say(unsettled, get("/settings", who=None))
        closes = [b"Connection: close" in client.got for client in (before, during, unsettled)]
        assert closes == [True] * 3
        assert all(client.is_lost for client in gate.clients)
        return closes

    play(scene, taken=6)


def test_what_is_idle_and_what_is_not() -> None:
    def scene(gate: HandGate) -> list[bool]:
        client = warm(gate)
        (connection,) = gate.server.clients()
        seen = [connection.is_idle]
        gate.app.holds = True
        gate.say(client, get())
        seen.append(connection.is_idle)
        gate.app.holds = False
        gate.loop.do(gate.app.release)
        seen.append(connection.is_idle)
        assert seen == [True, False, True]
        return seen

    play(scene, taken=3)


# --- what cannot be foreseen ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
def test_an_error_that_nobody_thought_of_is_a_500(known: bool, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> int:
        raise ZeroDivisionError("a clock that breaks")

    answers = []
    for lane in (True, False):
        gate = HandGate(lane=lane)
        client = warm(gate, get("/settings", "Accept: text/html", who=None))
        gate.gate.clock = broken
        path = "/settings" if known else "/settings/other"
        gate.say(client, get(path, "Accept: text/html", who=None))
        answers.append((gate.seen(), gate.logged()))
        assert gate.close() == []
    assert answers[0][0] == answers[1][0]
    assert answers[0][0][0][1].startswith(b"HTTP/1.1 500 ")
    assert [line for line in answers[0][1] if b'"status":500' in line] == [
        line for line in answers[1][1] if b'"status":500' in line
    ]
    assert "a clock that breaks" in caplog.text


# --- bodies ---------------------------------------------------------------------------------------------------------

INNER = get("/settings")
CHUNKED = (
    f"POST /dashboard HTTP/1.1\r\nHost: h\r\nCookie: {signed_in('ada')}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
)
LATE = CHUNKED + b"%x\r\n" % len(INNER)


@pytest.mark.parametrize(
    ("pieces", "answers"),
    [
        pytest.param([get(), post(b"hello"), get(), get()], 4, id="a-whole-body"),
        pytest.param([get(), post(b"hello")[:-5], b"hello", get(), get()], 4, id="a-body-by-itself"),
        pytest.param([get(), post(b"hello")[:-5], b"he", b"llo", get(), get()], 4, id="a-body-in-pieces"),
        pytest.param([get(), post(b"hello") + get(), get()], 4, id="a-request-behind-a-body"),
        pytest.param([get(), post(b"hello") + get()[:9], get()[9:], get()], 4, id="part-of-one-behind-a-body"),
        pytest.param([get(), post(b"hello")[:-5], b"hello" + get()[:9], get()[9:], get()], 4, id="part-of-one-later"),
        pytest.param([get(), post(INNER)[: -len(INNER)], INNER, get()], 3, id="a-body-that-is-a-request"),
        pytest.param(
            [get(), post(INNER + INNER)[: -2 * len(INNER)], INNER, INNER, get()], 3, id="two-requests-as-body"
        ),
        pytest.param(
            [get(), b"\r\n\r\n" + post(INNER * 2)[: -2 * len(INNER)], INNER, INNER, get()], 3, id="blank-lines"
        ),
        pytest.param([get(), LATE, INNER, b"\r\n0\r\n\r\n", get()], 3, id="a-chunk-that-is-a-request"),
        pytest.param([get(), CHUNKED, b"0\r\n\r\n" + get()[:9], get()[9:], get()], 4, id="part-of-one-behind-chunks"),
        pytest.param([get(), CHUNKED, b"0\r\nX: y\r\n\r\n", get(), get()], 4, id="trailers"),
        pytest.param([get(), CHUNKED, b"0\r\n", b"\r\n" + get(), get()], 4, id="trailers-cut"),
        pytest.param([get(), post(b"")[:-2] + b"X: y\r\n\r\n", get(), get()], 4, id="an-empty-body"),
        pytest.param([get(), get()[:-2], b"\r\n" + get(), get()], 4, id="the-last-line-end-comes-later"),
        pytest.param([get(), get() + b"\r\n", b"\r\n" + get(), b"\r\n", get()], 4, id="blank-lines-between"),
        pytest.param([get(), get() + b"\r", b"\n" + get(), get()], 4, id="half-a-line-end-between"),
        pytest.param([get() * 40, get(), post(INNER)[: -len(INNER)], INNER, get()], 43, id="many-at-once"),
        pytest.param([get() * 32 + post(INNER)[: -len(INNER)], INNER, get(), get()], 35, id="a-body-behind-many"),
        pytest.param(
            [get() * 32 + post(INNER)[: -len(INNER)] + INNER[:20], INNER[20:], get()], 34, id="and-part-of-it"
        ),
        pytest.param([get(), get()[:20], get(), get()], 2, id="a-request-inside-a-head"),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_the_lane_takes_no_part_of_a_body_for_a_request(pieces: list[bytes], answers: int, together: bool) -> None:
    def scene(gate: HandGate) -> int:
        client = warm(gate, get(), INNER)
        if together:
            for piece in pieces:
                gate.loop.call_soon(client.say, piece)
                gate.loop.turn()
            gate.loop.settle()
        else:
            for piece in pieces:
                gate.say(client, piece)
        got = len(statuses(client))
        assert got == answers
        gate.say(client, get())
        return got

    play(scene, taken=4)


@pytest.mark.parametrize("lead", [b"\r\n", b"\r\n\r\n", b"\r\n" * 9])
def test_blank_lines_before_a_request_are_no_part_of_what_is_known_of_it(lead: bytes) -> None:
    """Else the same lines behind an empty head, where they are a request of their own, would be known."""

    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        line, _, fields = get("/open", who=None).partition(b"\r\n")
        for _ in range(2):
            gate.say(client, lead + line + b"\r\n" + fields)
        gate.say(client, line + b"\r\n" + lead + fields)
        got = statuses(client)
        assert got[:2] == [200, 200]
        assert got[2] == 400
        return got

    play(scene, taken=2)


def test_a_head_has_its_limit_though_its_lines_are_known() -> None:
    config = CONFIG + "limits: {header_bytes: 2KiB}\n"
    lines = [f"X-{number}: {'v' * 300}" for number in range(6)]
    room = 2_048 - sum(len(line) - 2 for line in lines) - len("Hosth")

    def scene(gate: HandGate) -> list[int]:
        client = warm(gate, get("/open", *lines, who=None))
        got: list[int] = []
        for size in (room - 1, room, room + 1):
            for _ in range(2):
                gate.say(client, get("/" + "a" * (size - 1), *lines, who=None))
                got += statuses(client)
        assert got == [200, 200, 200, 200, 431]  # which ends the connection
        return got

    play(scene, taken=6, config=config)


def test_part_of_a_head_behind_a_body_that_was_held_is_no_beginning() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.app.holds = True
        gate.say(client, get())
        gate.say(client, post(b"hello") + get()[:20])
        gate.app.holds = False
        gate.loop.do(gate.app.release)
        for _ in range(2):
            gate.say(client, get())
        got = statuses(client)
        assert got == [200, 200, 400]
        return got

    play(scene, taken=2)


def test_a_connection_goes_on_however_many_requests_were_parsed_for_the_lane() -> None:
    def scene(gate: HandGate) -> int:
        client = warm(gate)
        for number in range(40):
            gate.say(client, get("/open", f"X-Unlike: {number}", who=None))
        gate.say(client, get() * 3)
        got = statuses(client)
        assert got == [200] * 43
        return len(got)

    play(scene, taken=42)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([post(b"hello")[:-5], b"hello" + get()[:20]], id="a-body-by-itself"),
        pytest.param([post(b"hello") + get()[:20]], id="a-whole-request"),
        pytest.param([CHUNKED, b"5\r\nhello\r\n0\r\n\r\n" + get()[:20]], id="chunks"),
    ],
)
def test_part_of_a_head_behind_a_body_is_no_beginning(pieces: list[bytes]) -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        for piece in (get(), *pieces, get(), get()):
            gate.say(client, piece)
        got = statuses(client)
        assert got == [200, 200, 400]
        return got

    play(scene, taken=3)


def test_a_client_that_sends_no_more_gets_its_answer_and_then_the_end() -> None:
    def scene(gate: HandGate) -> list[int]:
        client = warm(gate)
        gate.app.holds = True
        gate.say(client, get())
        gate.say(client, None)
        assert client.ends == []
        gate.loop.do(gate.app.release)
        assert client.ends == ["over"]
        return statuses(client)

    play(scene, taken=3)


def test_who_waits_for_a_connection_is_not_overtaken_in_the_turn_that_frees_one() -> None:
    def scene(gate: HandGate) -> bytes:
        first, second, third = (warm(gate, get(f"/open/{number}", who=None)) for number in range(3))
        gate.app.holds = True
        gate.say(first, get("/open/0", who=None))
        gate.say(second, get("/open/1", who=None))
        gate.app.connections[0].got.clear()
        gate.loop.do(gate.app.release, lambda: third.say(get("/open/2", who=None)))
        gate.app.holds = False
        gate.loop.do(gate.app.release)
        got = bytes(gate.app.connections[0].got)
        assert 0 <= got.find(b"GET /open/1 ") < got.find(b"GET /open/2 ")
        return gate.fixed(got)

    play(scene, taken=6, max_connections=1)


def test_who_comes_in_the_turn_that_frees_more_than_are_waited_for_is_served_too() -> None:
    def scene(gate: HandGate) -> list[list[int]]:
        clients = [warm(gate, get(f"/open/{number}", who=None)) for number in range(4)]
        gate.app.holds = True
        for number in range(3):
            gate.say(clients[number], get(f"/open/{number}", who=None))
        gate.loop.do(
            lambda: gate.loop.call_soon(gate.app.release),  # before the task of the one who comes
            lambda: clients[3].say(get("/open/3", who=None)),
        )
        assert gate.app.requests == 3 * 4 + 4
        gate.app.holds = False
        gate.loop.do(gate.app.release)
        got = [statuses(client) for client in clients]
        assert got == [[200]] * 4
        return got

    play(scene, taken=8, max_connections=2)
