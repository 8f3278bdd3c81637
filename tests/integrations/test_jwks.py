"""When keys are fetched, by whom, what is kept, and what of a JWKS counts; then over a real connection."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gatekeeper.integrations.jwks import (
    MAX_BYTES,
    MAX_KEYS,
    REFETCH_S,
    RETRY_S,
    STALE_S,
    Fetched,
    KeySet,
    fetch_keys,
    read_keys,
)
from gatekeeper.integrations.model import Reason
from tests.integrations.gate import KEY, Clock, Key, KeysInMemory, KeysServer, encoded, jwks, keys_server

URL = "http://127.0.0.1:9/jwks.json"
OTHER = Key("key-2")


class Gated:
    """Stands for fetching: a fetch begins, and ends when the test says so."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.fetches = 0

    def __call__(self, url: str) -> Fetched:
        self.fetches += 1
        self.began.release()
        assert self.may_end.acquire(timeout=60)
        return Fetched(self.body)


def settle() -> None:
    """Until no fetch runs beside the test any more."""
    for thread in threading.enumerate():
        if thread.name == "gatekeeper-keys":
            thread.join(60)


def kid_of(found: jwt.PyJWK | Reason) -> str | Reason | None:
    return found if isinstance(found, Reason) else found.key_id


@pytest.fixture
def timer() -> Clock:
    return Clock(1000.0)


def test_a_known_key_is_fetched_once(timer: Clock) -> None:
    fetch = KeysInMemory(jwks(KEY, OTHER))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    assert fetch.fetches == 0
    assert [kid_of(keys.find(kid)) for kid in ("key-1", "key-2", "key-1")] == ["key-1", "key-2", "key-1"]
    assert fetch.fetches == 1


def test_an_unknown_key_is_sought_at_most_once_a_minute(timer: Clock) -> None:
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    assert keys.find("key-9") is Reason.UNKNOWN_KEY
    assert [keys.find(f"key-{n}") for n in range(2, 50)] == [Reason.UNKNOWN_KEY] * 48
    assert fetch.fetches == 1
    timer.now += REFETCH_S - 1
    assert keys.find("key-9") is Reason.UNKNOWN_KEY
    assert fetch.fetches == 1
    timer.now += 1
    assert keys.find("key-9") is Reason.UNKNOWN_KEY
    assert keys.find("key-8") is Reason.UNKNOWN_KEY
    assert fetch.fetches == 2


def test_a_key_that_came_later_is_found(timer: Clock) -> None:
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    keys.find("key-1")
    fetch.body = jwks(KEY, OTHER)
    timer.now += REFETCH_S
    assert kid_of(keys.find("key-2")) == "key-2"


def test_old_keys_are_fetched_beside_the_request_that_they_serve(timer: Clock) -> None:
    fetch = Gated(jwks(KEY))
    fetch.may_end.release()
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    keys.find("key-1")
    timer.now += 299.9
    keys.find("key-1")
    assert fetch.fetches == 1
    timer.now += 0.1
    fetch.body = jwks(OTHER)
    assert kid_of(keys.find("key-1")) == "key-1"  # although the fetch cannot have ended
    assert kid_of(keys.find("key-1")) == "key-1"
    fetch.may_end.release()
    settle()
    assert fetch.fetches == 2
    fetch.may_end.release()
    assert keys.find("key-1") is Reason.UNKNOWN_KEY  # withdrawn


async def test_so_they_are_without_blocking(timer: Clock) -> None:
    fetch = Gated(jwks(KEY))
    fetch.may_end.release()
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    assert kid_of(await keys.find_async("key-1")) == "key-1"
    timer.now += 300
    assert kid_of(await keys.find_async("key-1")) == "key-1"
    assert kid_of(await keys.find_async("key-1")) == "key-1"
    fetch.may_end.release()
    await asyncio.to_thread(settle)
    assert fetch.fetches == 2


def test_keys_that_were_withdrawn_are_not_believed_after_a_long_while(timer: Clock) -> None:
    """Nobody asked meanwhile, so nobody has noticed: who has the old key must not be the first one."""
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    keys.find("key-1")
    fetch.body = jwks(OTHER)
    timer.now += 300 + STALE_S
    assert keys.find("key-1") is Reason.UNKNOWN_KEY
    assert kid_of(keys.find("key-2")) == "key-2"


async def test_nor_are_they_without_blocking(timer: Clock) -> None:
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    await keys.find_async("key-1")
    fetch.body = jwks(OTHER)
    timer.now += 300 + STALE_S
    found = await asyncio.gather(*(keys.find_async("key-1") for _ in range(5)))
    assert found == [Reason.UNKNOWN_KEY] * 5
    assert fetch.fetches <= 3  # for the old keys, and perhaps once more for one that is unknown by now


def test_they_are_while_the_gate_is_away(timer: Clock) -> None:
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    keys.find("key-1")
    fetch.body = None
    timer.now += 300 + STALE_S
    assert [kid_of(keys.find("key-1")) for _ in range(3)] == ["key-1"] * 3
    assert fetch.fetches == 2


@pytest.fixture
def no_threads() -> Iterator[None]:
    """No thread can be started: each would have a stack that no memory has room for."""
    threading.stack_size(1 << 50)
    yield
    threading.stack_size(0)


async def test_where_no_thread_can_be_started_known_keys_go_on(timer: Clock, no_threads: None) -> None:
    with pytest.raises(RuntimeError, match="thread"):
        threading.Thread(target=print).start()
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    assert await keys.find_async("key-1") is Reason.KEYS_UNAVAILABLE
    assert kid_of(keys.find("key-1")) is Reason.KEYS_UNAVAILABLE  # tried a moment ago
    timer.now += RETRY_S
    assert kid_of(keys.find("key-1")) == "key-1"  # in this thread
    timer.now += 300
    assert kid_of(keys.find("key-1")) == "key-1"
    assert kid_of(await keys.find_async("key-1")) == "key-1"
    assert fetch.fetches == 1


async def test_a_known_key_is_there_while_an_unknown_one_is_sought(timer: Clock) -> None:
    fetch = Gated(jwks(KEY))
    fetch.may_end.release()
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    await keys.find_async("key-1")
    timer.now += REFETCH_S
    seeking = [asyncio.create_task(keys.find_async(f"key-{n}")) for n in range(2, 6)]
    await asyncio.to_thread(fetch.began.acquire)
    await asyncio.to_thread(fetch.began.acquire)
    assert kid_of(await keys.find_async("key-1")) == "key-1"
    assert kid_of(keys.find("key-1")) == "key-1"
    assert not any(task.done() for task in seeking)
    fetch.may_end.release()
    assert await asyncio.gather(*seeking) == [Reason.UNKNOWN_KEY] * 4
    assert fetch.fetches == 2


async def test_a_waiter_that_gives_up_spoils_nothing_for_the_others(timer: Clock) -> None:
    fetch = Gated(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    first, second = (asyncio.create_task(keys.find_async("key-1")) for _ in range(2))
    await asyncio.to_thread(fetch.began.acquire)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    fetch.may_end.release()
    assert kid_of(await second) == "key-1"


def test_threads_share_one_fetch(timer: Clock) -> None:
    fetch = Gated(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    found: list[str | Reason | None] = []
    threads = [threading.Thread(target=lambda: found.append(kid_of(keys.find("key-1")))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert fetch.began.acquire(timeout=60)
    fetch.may_end.release()
    for thread in threads:
        thread.join(60)
    assert found == ["key-1"] * 5
    assert fetch.fetches == 1


def test_keys_are_kept_while_the_gate_is_away(timer: Clock) -> None:
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    keys.find("key-1")
    fetch.body = None
    for _ in range(10):
        timer.now += 3600
        assert kid_of(keys.find("key-1")) == "key-1"
        settle()
    assert fetch.fetches == 11
    assert keys.find("key-2") is Reason.KEYS_UNAVAILABLE  # perhaps it is a new one: nobody can tell


def test_a_failed_fetch_is_tried_again_after_a_minute(timer: Clock) -> None:
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    keys.find("key-1")
    fetch.body = None
    timer.now += 300
    keys.find("key-1")
    settle()
    timer.now += REFETCH_S - 1
    keys.find("key-1")
    settle()
    assert fetch.fetches == 2
    timer.now += 1
    keys.find("key-1")
    settle()
    assert fetch.fetches == 3


def test_without_any_keys_it_is_tried_every_few_seconds(timer: Clock) -> None:
    fetch = KeysInMemory(None)
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    assert [keys.find("key-1") for _ in range(3)] == [Reason.KEYS_UNAVAILABLE] * 3
    assert fetch.fetches == 1
    timer.now += RETRY_S
    fetch.body = jwks(KEY)
    assert kid_of(keys.find("key-1")) == "key-1"
    assert keys.find("key-2") is Reason.UNKNOWN_KEY
    timer.now += RETRY_S
    assert keys.find("key-2") is Reason.UNKNOWN_KEY
    assert fetch.fetches == 2


@pytest.mark.parametrize(
    ("cache_control", "age"),
    [
        ("public, max-age=300", 300),
        ("max-age=600", 600),
        ("MAX-AGE=120, public", 120),
        (None, 300),
        ("no-cache", 300),
        ("s-maxage=900", 300),
        ("max-age=-5", 300),
        ("max-age=0", 60),
        ("max-age=999999999", 86_400),
    ],
)
def test_keys_are_as_new_as_the_gate_says(cache_control: str | None, age: int, timer: Clock) -> None:
    fetch = KeysInMemory(jwks(KEY), cache_control)
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    keys.find("key-1")
    timer.now += age - 1
    keys.find("key-1")
    settle()
    assert fetch.fetches == 1
    timer.now += 1
    keys.find("key-1")
    settle()
    assert fetch.fetches == 2


def test_a_fetch_that_was_lost_is_made_anew(timer: Clock) -> None:
    """A process that forks while a thread fetches has the fetch, and not the thread."""
    fetch = Gated(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    lost = threading.Thread(target=keys.find, args=("key-1",))
    lost.start()
    assert fetch.began.acquire(timeout=60)
    timer.now += 3600
    fetch.may_end.release(2)
    assert kid_of(keys.find("key-1")) == "key-1"
    lost.join(60)
    assert kid_of(keys.find("key-1")) == "key-1"
    assert fetch.fetches == 2


def test_who_has_waited_long_enough_cannot_tell(timer: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Gated(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    fetching = threading.Thread(target=keys.find, args=("key-1",))
    fetching.start()
    assert fetch.began.acquire(timeout=60)
    monkeypatch.setattr("gatekeeper.integrations.jwks.TIMEOUT_S", 0.0)
    assert keys.find("key-1") is Reason.KEYS_UNAVAILABLE
    assert asyncio.run(keys.find_async("key-1")) is Reason.KEYS_UNAVAILABLE
    fetch.may_end.release()
    fetching.join(60)
    assert kid_of(keys.find("key-1")) == "key-1"


def rsa_jwk(bits: int) -> dict[str, Any]:
    numbers = rsa.generate_private_key(65537, bits).public_key().public_numbers()
    return {"kty": "RSA", "n": encoded(numbers.n.to_bytes(bits // 8, "big")), "e": "AQAB", "kid": "rsa"}


def other_curve() -> dict[str, Any]:
    point = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    x, y = (encoded(value.to_bytes(48, "big")) for value in (point.x, point.y))
    return {"kty": "EC", "crv": "P-384", "x": x, "y": y, "kid": "384"}


UNFIT: list[object] = [
    {**OTHER.jwk(), "use": "enc"},
    {**OTHER.jwk(), "alg": "ES384"},
    {**OTHER.jwk(), "d": encoded(OTHER.private.private_numbers().private_value.to_bytes(32, "big"))},
    {**OTHER.jwk(), "kid": 7},
    {name: value for name, value in OTHER.jwk().items() if name != "kid"},
    {**OTHER.jwk(), "x": "AAAA"},
    {**OTHER.jwk(), "x": OTHER.jwk()["y"]},
    {**OTHER.jwk(), "x": 7},
    {name: value for name, value in OTHER.jwk().items() if name != "y"},
    {**OTHER.jwk(), "crv": "secp256k1"},
    {**OTHER.jwk(), "kty": "oct", "k": "AAAA"},
    other_curve(),
    rsa_jwk(2048),
    "key",
    None,
    [],
]


@pytest.mark.parametrize("unfit", UNFIT, ids=range(len(UNFIT)))
def test_what_is_no_key_for_the_algorithm_is_passed_over(unfit: object) -> None:
    assert list(read_keys(json.dumps({"keys": [unfit, KEY.jwk()]}).encode(), "ES256")) == ["key-1"]
    with pytest.raises(ValueError, match="no key"):
        read_keys(json.dumps({"keys": [unfit]}).encode(), "ES256")


def test_use_and_alg_may_be_left_out() -> None:
    bare = {name: value for name, value in OTHER.jwk().items() if name not in ("use", "alg")}
    assert list(read_keys(json.dumps({"keys": [bare]}).encode(), "ES256")) == ["key-2"]


def test_a_short_rsa_key_is_no_key() -> None:
    assert list(read_keys(json.dumps({"keys": [rsa_jwk(2048)]}).encode(), "RS256")) == ["rsa"]
    with pytest.raises(ValueError, match="no key"):
        read_keys(json.dumps({"keys": [rsa_jwk(1024)]}).encode(), "RS256")


def test_of_the_same_id_the_first_counts() -> None:
    first, second = KEY.jwk(), {**OTHER.jwk(), "kid": "key-1"}
    found = read_keys(json.dumps({"keys": [first, second]}).encode(), "ES256")["key-1"]
    assert found.key.public_numbers() == KEY.private.public_key().public_numbers()


def test_no_more_than_a_few_keys_are_kept() -> None:
    many = [{**KEY.jwk(), "kid": f"key-{n}"} for n in range(MAX_KEYS + 5)]
    assert list(read_keys(json.dumps({"keys": many}).encode(), "ES256")) == [f"key-{n}" for n in range(MAX_KEYS)]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"{}", b'{"keys":{}}', b'{"keys":[]}', b"\xff", b"[" * 60000]
)
def test_what_is_no_set_of_keys_is_refused_and_the_old_ones_are_kept(body: bytes, timer: Clock) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_keys(body, "ES256")
    fetch = KeysInMemory(jwks(KEY))
    keys = KeySet(URL, "ES256", fetch=fetch, timer=timer)
    keys.find("key-1")
    fetch.body = body
    timer.now += 300
    keys.find("key-1")
    settle()
    assert fetch.fetches == 2
    assert kid_of(keys.find("key-1")) == "key-1"


@pytest.fixture
def served() -> Iterator[KeysServer]:
    with keys_server() as server:
        yield server


def test_keys_over_a_connection(served: KeysServer, timer: Clock) -> None:
    keys = KeySet(served.url, "ES256", timer=timer)
    assert kid_of(keys.find("key-1")) == "key-1"
    assert [keys.find("key-2") for _ in range(5)] == [Reason.UNKNOWN_KEY] * 5
    assert served.asked == 1
    served.body = jwks(KEY, OTHER)
    timer.now += REFETCH_S
    assert kid_of(keys.find("key-2")) == "key-2"
    assert served.asked == 2


async def test_keys_over_a_connection_without_blocking(served: KeysServer, timer: Clock) -> None:
    keys = KeySet(served.url, "ES256", timer=timer)
    found = await asyncio.gather(*(keys.find_async("key-1") for _ in range(10)))
    assert [kid_of(one) for one in found] == ["key-1"] * 10
    assert served.asked == 1


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, {}, b""),
        (404, {}, b"{}"),
        (302, {"Location": "/elsewhere"}, b""),
        (200, {}, b"<!doctype html>"),
        (200, {}, b" " * (MAX_BYTES + 1)),
    ],
    ids=["error", "nothing-there", "redirect", "page", "too-long"],
)
def test_other_answers_are_no_keys(
    status: int, headers: dict[str, str], body: bytes, served: KeysServer, timer: Clock
) -> None:
    served.status, served.headers, served.body = status, headers, body
    assert KeySet(served.url, "ES256", timer=timer).find("key-1") is Reason.KEYS_UNAVAILABLE
    assert served.asked == 1


PROXIED = """
import sys
from gatekeeper.integrations.jwks import fetch_keys
print(fetch_keys(sys.argv[1]).body.decode())
"""


def test_no_proxy_can_put_its_own_keys_in_their_place(served: KeysServer) -> None:
    with keys_server() as proxy:
        proxy.body = jwks(OTHER)
        environment = {**os.environ, "http_proxy": proxy.url, "HTTP_PROXY": proxy.url, "no_proxy": "", "NO_PROXY": ""}
        command = [sys.executable, "-c", PROXIED, served.url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout.strip().encode() == jwks(KEY)
        assert (served.asked, proxy.asked) == (1, 0)


def test_keys_that_come_too_slowly_are_none(served: KeysServer) -> None:
    clock = Clock(0.0)

    def passing() -> float:
        clock.now += 10
        return clock.now

    with pytest.raises(TimeoutError):
        fetch_keys(served.url, timer=passing)


def test_nobody_there_is_an_error_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        fetch_keys(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_what_is_no_http_is_an_error_of_the_system(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reply() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        assert KeySet(url, "ES256").find("key-1") is Reason.KEYS_UNAVAILABLE
        thread.join(60)
