"""Class 19: guessing at the sign-in, and whatever else account calls are sent.

Each test makes accounts of its own, and every request comes from an address of its own, so that tries of one test do
not count for another.
"""

import hashlib
import itertools
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gatekeeper.core.attempts import account_key, device_cookie
from gatekeeper.core.cookies import Keys
from gatekeeper.server.portal import ACCOUNT_BODY_BYTES
from tests.attacks.accounts_site import (
    JSON_TYPE,
    MOST,
    OLD_SECRET,
    OTHER_PEER,
    PASSWORD,
    Accounts,
    Hashes,
    cookies_of,
    open_accounts_site,
    without_date,
)
from tests.attacks.site import Site
from tests.attacks.test_09_callbacks import FOREIGN, where_a_browser_goes
from tests.better_auth_db import execute
from tests.server.gates import COOKIE, SECRET, running_gate

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEVICE = "gatekeeper.device"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def hashes() -> Iterator[Hashes]:
    """What stands for scrypt in this module."""
    made = Hashes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "scrypt", made)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, hashes: Hashes) -> AsyncIterator[Accounts]:
    async with open_accounts_site(tmp_path_factory.mktemp("site") / "auth.db") as opened:
        yield opened


def new_email() -> str:
    return f"somebody{next(_numbers)}@example.test"


async def device_of(site: Accounts, email: str) -> str:
    """The Cookie header of a browser that has signed in to this account, without its session."""
    return f"Cookie: {DEVICE}={cookies_of(await site.sign_in(email))[DEVICE]}"


# nobody learns whom there is


async def test_the_same_answer_and_one_hash_whoever_is_asked_for(site: Accounts, hashes: Hashes) -> None:
    known, disabled, linked = new_email(), new_email(), new_email()
    for email in (known, disabled, linked):
        await site.sign_up(email)
    of = "where userId = (select id from user where email = ?)"
    execute(site.database, f"update account set password = 'disabled:disabled' {of}", (disabled,))  # noqa: S608
    execute(site.database, f"update account set password = null {of}", (linked,))  # noqa: S608
    answers = []
    for email in (known, disabled, linked, new_email()):
        before = hashes.count
        answer = await site.sign_in(email, "wrong password")
        answers.append((answer.status, without_date(answer), answer.body, hashes.count - before))
    assert answers == [answers[0]] * 4
    assert (answers[0][0], answers[0][3]) == (401, 1)


async def test_unknown_accounts_are_held_up_as_known_ones_are(site: Accounts) -> None:
    known, unknown = new_email(), new_email()
    await site.sign_up(known)
    for email in (known, unknown):
        await site.use_up(email)
    held_up = [await site.sign_in(email, "wrong password") for email in (known, unknown)]
    assert [answer.body for answer in held_up] == [held_up[0].body] * 2
    assert all(answer.values(b"retry-after") != [] for answer in held_up)


async def test_whoever_is_held_up_costs_no_hash(site: Accounts, hashes: Hashes) -> None:
    email = new_email()
    await site.use_up(email)
    before = hashes.count
    for _ in range(20):
        assert (await site.sign_in(email, "wrong password")).status == 429
    assert hashes.count == before


# the counts cannot be got round


SPELLINGS = [
    *("{upper}", "{title}", " {email}", "{email} ", "\t{email}", "{email}\n", "{email}\x00", "\ufeff{email}"),
    *("{name}.@{host}", ".{name}@{host}", "{name}@{host}.", "{name}+x@{host}", '"{name}"@{host}', "{name}@[{host}]"),
    *("{name} @{host}", "{name}\u200b@{host}", "{name}@{host}\u200b", "{name}\u00ad@{host}", "\u202e{email}"),
    *("{fullwidth}", "{name}\uff20{host}", "{name}@{host}\u3002", "{dotless}", "{long_s}", "{email},x@{host}"),
    *("{email}\u0000x", "{email}%00", "{name}%40{host}", "mailto:{email}", "<{email}>", "{email};", "{email}\\"),
    *("{email}\ud800", "{name}@{host}:25", "{name}(x)@{host}", "{name}@(x){host}", "{kelvin}"),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_of_an_address_opens_an_account_that_is_used_up(
    site: Accounts, hashes: Hashes, spelling: str
) -> None:
    name = f"skid{next(_numbers)}"
    email = f"{name}@example.test"
    await site.sign_up(email)
    await site.use_up(email)
    written = spelling.format(
        email=email,
        name=name,
        host="example.test",
        upper=email.upper(),
        title=email.title(),
        fullwidth="".join(chr(ord(letter) + 0xFEE0) for letter in name) + "@example.test",
        dotless=email.replace("i", "\u0131"),
        long_s=email.replace("s", "\u017f"),
        kelvin=email.replace("k", "\u212a"),
    )
    before = hashes.count
    answer = await site.sign_in(written)
    assert answer.status in (400, 401, 429)
    assert hashes.count - before == (answer.status == 401)


async def test_letters_of_either_case_are_one_account(site: Accounts) -> None:
    email = new_email()
    for spelling in (email, email.upper(), email.title(), email.swapcase(), email.capitalize()):
        assert (await site.sign_in(spelling, "wrong password")).status == 401
    assert (await site.sign_in(email, "wrong password")).status == 429


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param([f"2001:db8:1:2::{number:x}" for number in range(1, 7)], id="one-ipv6-network"),
        pytest.param(["2001:db8:7:8:9::1", "2001:DB8:7:8:A::1", "2001:0db8:0007:0008::1"] * 2, id="spellings-of-ipv6"),
        pytest.param(["10.99.0.1", "::ffff:10.99.0.1", "[::ffff:a63:1]", "10.99.0.1:4711"] * 2, id="ipv4-in-ipv6"),
    ],
)
async def test_an_address_has_its_tries_however_it_is_written(site: Accounts, addresses: list[str]) -> None:
    statuses = [(await site.sign_in(new_email(), "wrong", client=address)).status for address in addresses]
    assert statuses == [401] * MOST + [429] * (len(addresses) - MOST)


async def test_another_network_has_tries_of_its_own(site: Accounts) -> None:
    for number in range(MOST):
        await site.sign_in(new_email(), "wrong", client=f"2001:db8:ffff:1::{number + 1:x}")
    assert (await site.sign_in(new_email(), "wrong", client="2001:db8:ffff:1::9")).status == 429
    assert (await site.sign_in(new_email(), "wrong", client="2001:db8:ffff:2::1")).status == 401


@pytest.mark.parametrize(
    "line",
    [
        "X-Forwarded-For: {new}",
        "X-Real-IP: {new}",
        "Forwarded: for={new}",
        "X-Client-IP: {new}",
        "True-Client-IP: {new}",
    ],
)
async def test_an_untrusted_peer_has_one_address_whatever_it_says(site: Accounts, line: str) -> None:
    site.forget_tries()
    statuses = []
    for _ in range(MOST + 1):
        said = line.format(new=site.new_address())
        body = json.dumps({"email": new_email(), "password": "wrong"}).encode()
        answer = await site.ask("POST", "/api/auth/sign-in/email", JSON_TYPE, said, body=body, address=OTHER_PEER)
        statuses.append(answer.status)
    assert statuses == [401] * MOST + [429]


# devices


async def test_a_known_device_gets_in_when_strangers_have_used_up_the_tries(site: Accounts) -> None:
    email = new_email()
    await site.sign_up(email)
    device = await device_of(site, email)
    await site.use_up(email)
    assert (await site.sign_in(email)).status == 429
    assert (await site.sign_in(email, PASSWORD, device)).status == 200


async def test_a_stolen_device_cookie_guesses_as_often_as_a_stranger(site: Accounts) -> None:
    email = new_email()
    await site.sign_up(email)
    device = await device_of(site, email)
    statuses = [(await site.sign_in(email, "wrong", device)).status for _ in range(MOST + 2)]
    assert statuses == [401] * MOST + [429] * 2
    assert (await site.sign_in(email)).status == 200


def forged_devices(email: str, real: str, others: str) -> dict[str, str]:
    now_s = int(real.partition(".")[0])
    issued, device, mac = real.split(".")
    key = account_key(email)

    def made(secret: str, at_s: int, account: str = key) -> str:
        return device_cookie(None, account, Keys([secret]), at_s, lambda size: b"\x07" * size)

    return {
        "another-account's": others,
        "of-an-older-secret": made(OLD_SECRET, now_s),
        "of-a-guessed-secret": made("better-auth-secret-12345678901234567890", now_s),
        "too-old": made(SECRET, now_s - 200 * 86_400),
        "of-the-future": made(SECRET, now_s + 3600),
        "of-the-address-itself": made(SECRET, now_s, email),
        "another-time": f"{now_s + 1}.{device}.{mac}",
        "another-id": f"{issued}.{'A' * 22}.{mac}",
        "no-mac": f"{issued}.{device}.",
        "an-empty-mac": f"{issued}.{device}.{'A' * 43}",
        "cut-off": real[:-1],
        "in-quotes": f'"{real}"',
        "behind-three-others": "~".join([others] * 3 + [real]),
        "escaped": real.replace(".", "%2E"),
        "a-session's": "x.y",
        "nothing": "",
    }


FORGERIES = forged_devices("", "0.x.y", "")


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_no_other_device_cookie_opens_an_account_that_is_used_up(site: Accounts, forgery: str) -> None:
    email, other = new_email(), new_email()
    for one in (email, other):
        await site.sign_up(one)
    real, others = [(await device_of(site, one)).partition("=")[2] for one in (email, other)]
    await site.use_up(email)
    cookie = f"Cookie: {DEVICE}={forged_devices(email, real, others)[forgery]}"
    assert (await site.sign_in(email, PASSWORD, cookie)).status == 429
    if forgery not in ("in-quotes", "escaped"):  # ... of which the real one is none
        assert (await site.sign_in(email, PASSWORD, f"Cookie: {DEVICE}={real}")).status == 200


async def test_a_device_cookie_is_no_session_and_a_session_no_device(site: Accounts) -> None:
    email = new_email()
    cookies = cookies_of(await site.sign_up(email))
    await site.use_up(email)
    as_session = await site.ask("GET", "/dashboard", f"Cookie: {COOKIE}={cookies[DEVICE]}", "Accept: application/json")
    as_device = await site.sign_in(email, PASSWORD, f"Cookie: {DEVICE}={cookies[COOKIE]}")
    assert (as_session.status, as_device.status) == (401, 429)


async def test_cookies_of_the_gate_do_not_reach_the_app(site: Accounts) -> None:
    cookies = cookies_of(await site.sign_up(new_email()))
    assert {COOKIE, DEVICE, "better-auth.session_data"} <= cookies.keys()
    sent = "; ".join(f"{name}={value}" for name, value in {"theme": "dark", **cookies, "lang": "en"}.items())
    answer = await site.ask("GET", "/dashboard", f"Cookie: {sent}; {DEVICE}=x; better-auth.dont_remember=x")
    assert answer.status == 200
    assert site.received.values("cookie") == ["theme=dark; lang=en"]
    assert site.received.values("x-auth-user-id") != []


# bodies


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_is_64_kib_long_at_most(site: Accounts, hashes: Hashes, framing: str) -> None:
    before = hashes.count
    head = f"POST /api/auth/sign-in/email HTTP/1.1\r\nHost: {site.gate.host}\r\n{JSON_TYPE}\r\nConnection: close\r\n"
    size = ACCOUNT_BODY_BYTES + 1
    chunked = f"Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{' ' * size}\r\n0\r\n\r\n"
    sized = f"Content-Length: {size}\r\n\r\n{' ' * size}"
    (answer,) = await site.say(head + (chunked if framing == "chunked" else sized))
    assert (answer.status, hashes.count) == (413, before)


async def test_a_body_that_says_to_be_endless_is_refused_as_soon_as_it_is_too_long(site: Accounts) -> None:
    client = await site.open()
    client.send(
        f"POST /api/auth/sign-in/email HTTP/1.1\r\nHost: x\r\n{JSON_TYPE}\r\nContent-Length: 9999999999\r\n\r\n"
    )
    client.send(" " * (ACCOUNT_BODY_BYTES + 1))
    (answer,) = await client.answers(1)
    client.transport.abort()
    assert answer.status == 413


async def test_a_body_of_64_kib_is_read(site: Accounts) -> None:
    body = json.dumps({"email": new_email(), "password": "x"}).encode().ljust(ACCOUNT_BODY_BYTES)
    assert (await site.post("sign-in/email", body, JSON_TYPE)).status == 401


async def test_chunks_are_put_together(site: Accounts) -> None:
    email = new_email()
    await site.sign_up(email)
    body = json.dumps({"email": email, "password": PASSWORD})
    chunks = "".join(f"1\r\n{letter}\r\n" for letter in body)
    head = f"POST /api/auth/sign-in/email HTTP/1.1\r\nHost: {site.gate.host}\r\n{JSON_TYPE}\r\nConnection: close\r\n"
    (answer,) = await site.say(f"{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    assert answer.status == 200


async def test_a_body_that_does_not_come_holds_up_nobody_and_is_no_try(site: Accounts, hashes: Hashes) -> None:
    before, tries = hashes.count, site.rows("gatekeeper_attempt")
    slow = [await site.open() for _ in range(20)]
    for one in slow:
        one.send(f"POST /api/auth/sign-in/email HTTP/1.1\r\nHost: x\r\n{JSON_TYPE}\r\nContent-Length: 50\r\n\r\n{{")
    assert (await site.ask("GET", "/api/auth/ok")).status == 200
    for one in slow:
        one.transport.abort()
    assert (await site.ask("GET", "/api/auth/ok")).status == 200
    assert (hashes.count, site.rows("gatekeeper_attempt")) == (before, tries)


async def test_who_leaves_while_the_password_is_hashed_leaves_nothing(site: Accounts, hashes: Hashes) -> None:
    email = new_email()
    await site.sign_up(email)
    sessions = site.rows("session")
    hashes.held = True
    hashes.begun.clear()
    client = await site.open()
    body = json.dumps({"email": email, "password": PASSWORD})
    head = f"POST /api/auth/sign-in/email HTTP/1.1\r\nHost: x\r\n{JSON_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    client.send(head + body)
    while not hashes.begun.is_set():  # the gate is in this process
        await site.ask("GET", "/api/auth/ok")
    # Reset: who has only sent all may still wait for the answer.
    client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()
    for _ in range(5):  # by then the gate has seen it
        await site.ask("GET", "/api/auth/ok")
    hashes.held = False
    hashes.goes_on.set()
    assert (await site.sign_in(email, "wrong password")).status == 401  # the thread is free again
    assert site.rows("session") == sessions
    assert (await site.sign_in(email)).status == 200


CREDENTIALS = {"email": "{email}", "password": PASSWORD}
TYPES: dict[str, tuple[str | None, str | bytes, int]] = {
    "text": ("text/plain", "json", 415),
    "text-that-says-json": ("text/plain; application/json", "json", 415),
    "no-type": (None, "json", 400),
    "an-empty-type": ("", "json", 400),
    "json-of-another-kind": ("application/problem+json", "json", 415),
    "json-by-name-alone": ("application/jsonx", "json", 415),
    "json-and-text": ("application/json, text/plain", "json", 415),
    "multipart": ("multipart/form-data; boundary=x", "multipart", 415),
    "xml": ("application/xml", "<x/>", 415),
    "json-in-utf-16": ("application/json; charset=utf-16", "utf-16", 400),
    "json-in-utf-7": ("application/json; charset=utf-7", "utf-7", 400),
    "form-as-json": ("application/json", "form", 400),
    "json-as-form": ("application/x-www-form-urlencoded", "json", 400),
    "a-form-twice-escaped": ("application/x-www-form-urlencoded", "escaped", 400),
}


def written(how: str | bytes, email: str) -> bytes:
    document = json.dumps({"email": email, "password": PASSWORD})
    form = f"email={email.replace('@', '%40')}&password={PASSWORD.replace(' ', '+')}"
    return {
        "json": document.encode(),
        "utf-16": document.encode("utf-16"),
        "utf-7": document.replace("{", "+AHs-").encode(),
        "form": form.encode(),
        "escaped": form.replace("=", "%3D").encode(),
        "multipart": (
            f'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\n{email}\r\n--x\r\n'
            f'Content-Disposition: form-data; name="password"\r\n\r\n{PASSWORD}\r\n--x--\r\n'
        ).encode(),
    }.get(str(how), str(how).encode())


@pytest.mark.parametrize("case", TYPES)
async def test_a_body_of_another_type_signs_nobody_in(site: Accounts, hashes: Hashes, case: str) -> None:
    content_type, how, status = TYPES[case]
    email = new_email()
    await site.sign_up(email)
    before = hashes.count
    lines = [] if content_type is None else [f"Content-Type: {content_type}"]
    answer = await site.post("sign-in/email", written(how, email), *lines)
    assert (answer.status, hashes.count) == (status, before)
    assert cookies_of(answer) == {}


async def test_a_form_signs_in_from_the_own_origin_and_changes_nothing_else(site: Accounts) -> None:
    email, form = new_email(), "Content-Type: application/x-www-form-urlencoded"
    signed_in = f"Cookie: {COOKIE}={cookies_of(await site.sign_up(email))[COOKIE]}"
    assert (await site.post("sign-in/email", written("form", email), form)).status == 200
    foreign = [f"Origin: {origin}" for origin in ("https://evil.test", "null")]
    for line in foreign:
        assert (await site.post("sign-in/email", written("form", email), form, line, own_origin=False)).status == 403
    for call in ("change-password", "update-user", "revoke-sessions", "revoke-session"):
        refused = await site.post(call, b"newPassword=x&currentPassword=y&name=z&token=t", form, signed_in)
        assert refused.status == 415


DOCUMENTS: dict[str, str] = {
    "nothing": "",
    "a-list": "[]",
    "a-text": '"x"',
    "a-number": "1",
    "null": "null",
    "a-list-of-one": '[{"email": EMAIL, "password": PASSWORD}]',
    "two-documents": '{"email": EMAIL, "password": PASSWORD}{}',
    "a-comment": '{"email": EMAIL, /* */ "password": PASSWORD}',
    "a-comma-too-many": '{"email": EMAIL, "password": PASSWORD,}',
    "single-quotes": "{'email': EMAIL, 'password': PASSWORD}",
    "cut-off": '{"email": EMAIL, "password": PASSWORD',
    "a-raw-control": '{"email": EMAIL, "password": PASSWORD, "x": "\n"}',
    "not-a-number": '{"email": EMAIL, "password": NaN}',
    "infinity": '{"email": EMAIL, "password": -Infinity}',
    "password-is-a-number": '{"email": EMAIL, "password": 1}',
    "password-is-a-list": '{"email": EMAIL, "password": [PASSWORD]}',
    "email-is-an-object": '{"email": {"$ne": null}, "password": PASSWORD}',
    "email-is-a-list": '{"email": [EMAIL], "password": PASSWORD}',
    "other-case": '{"Email": EMAIL, "Password": PASSWORD}',
    "a-prototype": '{"__proto__": {"email": EMAIL, "password": PASSWORD}}',
    "a-constructor": '{"constructor": {"prototype": {"email": EMAIL, "password": PASSWORD}}}',
    "dotted-names": '{"user.email": EMAIL, "user.password": PASSWORD}',
    "the-last-of-two": '{"email": EMAIL, "password": PASSWORD, "password": 7}',
    "remember-is-a-text": '{"email": EMAIL, "password": PASSWORD, "rememberMe": "false"}',
    "callback-is-an-object": '{"email": EMAIL, "password": PASSWORD, "callbackURL": {"toString": 1}}',
    "deep": "[" * 30_000,
    "deep-and-closed": "[" * 30_000 + "]" * 30_000,
    "deep-in-a-field": '{"email": EMAIL, "password": PASSWORD, "x": ' + '{"a":' * 8_000 + "1" + "}" * 8_001,
    "long-number": '{"email": EMAIL, "password": PASSWORD, "rememberMe": ' + "9" * 60_000 + "}",
    "long-exponent": '{"email": EMAIL, "password": PASSWORD, "rememberMe": 1e999999999}',
    "lone-surrogate-in-the-address": '{"email": "\\ud800" EMAIL, "password": PASSWORD}',
    "nul-in-the-address": '{"email": "a\\u0000@example.test", "password": PASSWORD}',
}


@pytest.mark.parametrize("case", DOCUMENTS)
async def test_an_odd_document_is_the_sender_s_fault_and_costs_no_hash(
    site: Accounts, hashes: Hashes, case: str
) -> None:
    text = DOCUMENTS[case].replace("EMAIL", '"ada@example.test"').replace("PASSWORD", f'"{PASSWORD}"')
    before = hashes.count
    answer = await site.post("sign-in/email", text.encode(), JSON_TYPE)
    assert (answer.status, hashes.count) == (400, before)


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 980, 1_000, 2_000, 5_000])
async def test_depth_of_nesting_is_never_the_gate_s_fault(site: Accounts, depth: int) -> None:
    """Also where texts in it are looked at one by one, which takes more of the stack than reading does."""
    nested = '{"a":' * depth + '"\\ud800"' + "}" * depth
    document = f'{{"email": "{new_email()}", "password": "wrong", "x": {nested}}}'
    assert (await site.post("sign-in/email", document.encode(), JSON_TYPE)).status in (400, 401)


ODD_TEXTS = ["\ud800", "a\0b", "\uffff", "x" * 10_000, "\u202e", "'; drop table user; --", "%s%n", "${7*7}"]


@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
async def test_an_odd_text_is_no_error_of_the_gate(site: Accounts, text: str) -> None:
    email = new_email()
    made = await site.post("sign-up/email", {"name": text, "email": email, "password": PASSWORD, "image": text})
    assert made.status in (200, 400)
    odd = [
        await site.sign_in(email, text),
        await site.sign_in(text),
        await site.post("sign-up/email", {"name": "x", "email": text, "password": PASSWORD}),
        await site.post("reset-password", {"newPassword": text, "token": text}),
        await site.post("sign-in/email", {"email": email, "password": PASSWORD, text: text, "callbackURL": text}),
    ]
    assert all(answer.status < 500 for answer in odd)


# from where it comes


ORIGINS: list[tuple[str | None, int, int, int]] = [
    # of a sign-in without cookies, of one with a cookie, of a sign-out
    (None, 401, 403, 403),
    ("{url}", 401, 401, 200),
    ("https://spa.example.test", 401, 401, 200),
    ("https://evil.test", 403, 403, 403),
    ("null", 403, 403, 403),
    ("https://spa.example.test.evil.test", 403, 403, 403),
    ("http://spa.example.test", 403, 403, 403),
    ("{url}0", 403, 403, 403),
    ("https://spa.example.test:444", 403, 403, 403),
]


@pytest.mark.parametrize(("origin", "bare", "with_cookie", "signing_out"), ORIGINS)
async def test_origins(site: Accounts, origin: str | None, bare: int, with_cookie: int, signing_out: int) -> None:
    lines = [] if origin is None else [f"Origin: {origin.replace('{url}', site.gate.url)}"]
    body = {"email": new_email(), "password": "wrong"}
    asked: list[tuple[str, Any, list[str], int]] = [
        ("sign-in/email", body, lines, bare),
        ("sign-in/email", body, [*lines, "Cookie: theme=dark"], with_cookie),
        ("sign-out", {}, [*lines, f"Cookie: {COOKIE}=x.y"], signing_out),
    ]
    for call, document, sent, status in asked:
        answer = await site.post(call, document, *sent, own_origin=False)
        assert answer.status == status, (call, sent)
        readable = [b"https://spa.example.test"] if origin == "https://spa.example.test" else []
        assert answer.values(b"access-control-allow-origin") == readable
        assert answer.values(b"access-control-allow-credentials") == [b"true"] * len(readable)


async def test_a_navigation_from_another_site_signs_nobody_in(site: Accounts) -> None:
    email, form = new_email(), "Content-Type: application/x-www-form-urlencoded"
    await site.sign_up(email)
    fetch = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    answer = await site.post("sign-in/email", written("form", email), form, *fetch, own_origin=False)
    assert (answer.status, cookies_of(answer)) == (403, {})


@pytest.mark.parametrize("origin", ["https://spa.example.test", "https://evil.test", "null", "{url}", ""])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_preflights_are_for_trusted_origins(site: Accounts, origin: str, method: str) -> None:
    lines = (f"Origin: {origin.replace('{url}', site.gate.url)}", f"Access-Control-Request-Method: {method}")
    answer = await site.ask("OPTIONS", "/api/auth/sign-in/email", *lines)
    is_trusted = origin == "https://spa.example.test"
    assert answer.status == (204 if is_trusted else 403)
    assert answer.values(b"access-control-allow-origin") == ([origin.encode()] if is_trusted else [])
    assert b"*" not in b"".join(value for name, value in answer.fields if name.lower().startswith(b"access-control"))


@pytest.mark.parametrize("call", ["get-session", "list-sessions", "ok", "no-such-call"])
async def test_what_is_read_is_readable_for_trusted_origins(site: Accounts, call: str) -> None:
    signed_in = f"Cookie: {COOKIE}={cookies_of(await site.sign_up(new_email()))[COOKIE]}"
    for origin in ("https://spa.example.test", "https://evil.test", "null"):
        answer = await site.ask("GET", f"/api/auth/{call}", signed_in, f"Origin: {origin}")
        expected = [origin.encode()] if origin.startswith("https://spa") else []
        assert answer.values(b"access-control-allow-origin") == expected
        assert b"no-store" in b",".join(answer.values(b"cache-control"))


# paths, methods, hosts


PATHS = [
    *("/api/auth%2fsign-in/email", "/api%2fauth/sign-in/email", "/api/auth/sign-in%2femail", "/api/auth%5csign-in"),
    *("/API/auth/sign-in/email", "/Api/Auth/sign-in/email", "/api/auth;x/sign-in/email", "/api;x=y/auth/sign-in/email"),
    *("//api//auth//sign-in/email", "/x/../api/auth/sign-in/email", "/%61pi/auth/sign-in/email", "/api/./auth/ok"),
    *("/api/auth", "/api/auth/", "/api/auth/no-such-call", "/api/auth./ok", "/api/auth%20/ok", "/%2e/api/auth/ok"),
    *("/api/auth/../auth/ok", "/api/auth/sign-in/email/", "/api/auth/SIGN-IN/email", "/api/auth/sign-in/email;x"),
]


@pytest.mark.parametrize("path", PATHS)
async def test_account_paths_are_never_the_app_s(site: Accounts, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        answer = await site.ask(method, path, f"Origin: {site.gate.url}")
        assert answer.status < 500, method
    assert site.reached == []


@pytest.mark.parametrize("path", ["/api/authx/ok", "/api/aut", "/x/api/auth/ok", "/api", "/api/auth.json"])
async def test_paths_beside_them_are(site: Accounts, path: str) -> None:
    assert (await site.ask("GET", path)).status == 200
    assert site.reached == [path]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "post"])
async def test_other_methods_sign_nobody_in(site: Accounts, hashes: Hashes, method: str) -> None:
    email = new_email()
    await site.sign_up(email)
    before = hashes.count
    answers = await site.say(
        f"{method} /api/auth/sign-in/email HTTP/1.1\r\nHost: {site.gate.host}\r\n{JSON_TYPE}\r\nConnection: close\r\n"
        f"X-HTTP-Method-Override: POST\r\nContent-Length: {len(written('json', email))}\r\n\r\n".encode()
        + written("json", email),
        to_head=method == "HEAD",
    )
    assert [answer.status for answer in answers if answer.status < 400] == []
    assert hashes.count == before


async def test_a_spelling_of_the_path_has_no_tries_of_its_own(site: Accounts) -> None:
    email = new_email()
    await site.use_up(email)
    for path in ("//api/auth/sign-in/email", "/x/../api/auth/sign-in/email", "/api/auth//sign-in/email"):
        answer = await site.post(path, {"email": email, "password": "wrong"})
        assert answer.status == 429


@pytest.mark.parametrize("url", FOREIGN)
async def test_no_call_leads_to_another_host(site: Accounts, url: str) -> None:
    url = url.replace("{host}", site.gate.host)
    email = new_email()
    await site.sign_up(email)
    told = await site.post("sign-in/email", {"email": email, "password": PASSWORD, "callbackURL": url})
    if told.status == 200:
        leads = json.loads(told.body).get("url")
        for target in [leads, *(line.decode("latin-1") for line in told.values(b"location"))]:
            assert not target or where_a_browser_goes(target, site.gate.url) == site.gate.url
    else:
        assert told.status == 403
    escaped = "".join(f"%{byte:02x}" for byte in url.encode())
    for link in (f"verify-email?token=x&callbackURL={escaped}", f"reset-password/x?callbackURL={escaped}"):
        answer = await site.ask("GET", f"/api/auth/{link}")
        assert answer.status in (302, 400, 401, 403, 431)  # 431: too long for a link
        for location in answer.values(b"location"):
            assert where_a_browser_goes(location.decode("latin-1"), site.gate.url) == site.gate.url


async def test_links_do_not_follow_a_forged_host(site: Accounts) -> None:
    public = "public_url: http://app.example.test\n"
    text = "listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: kJ8vR2mQzX5tW9nB4hL7cF3yD6gP1sZa0uEi\n"
    text += "store: sqlite:///{database}\nprotect: [/dashboard]\naccounts: {{enabled: true}}\n"
    async with running_gate(site.upstream.url, site.database, public, text=text) as gate:
        named = Site(gate, site.upstream, site.other, site.database)
        for lines in (
            ("Host: evil.test",),
            ("Host: app.example.test", "X-Forwarded-Host: evil.test"),
            ("Host: app.example.test", "Forwarded: host=evil.test"),
            ("Host: app.example.test.evil.test",),
        ):
            answer = await named.ask("GET", "/api/auth/reset-password/x?callbackURL=%2Fnew", *lines)
            assert answer.values(b"location") == [b"http://app.example.test/new?error=INVALID_TOKEN"]


async def test_no_token_of_a_link_is_logged(tmp_path: Path, hashes: Hashes) -> None:
    log = tmp_path / "gate.log"
    token, escaped = "aB3xY9zTaB3xY9zTaB3xY9zT", "%61B3xY9zTaB3xY9zTaB3xY9zT"
    async with open_accounts_site(tmp_path / "auth.db", f"log: {{access: true, level: debug, file: {log}}}\n") as site:
        cookies = cookies_of(await site.sign_up(new_email()))
        for target in (
            f"/api/auth/reset-password/{token}?callbackURL=%2Fnew",
            f"/api/auth/reset-password/{escaped}?callbackURL=%2Fnew",
            f"/api/auth//x/../reset-password/{token}",
            f"/API/AUTH/reset-password/{token}",
            f"/api/auth%2freset-password%2f{token}",
            f"/elsewhere/api/auth/reset-password/{token}",
            f"/api/auth/verify-email?token={token}",
            f"/reset-password?token={token}",
            f"/sign-in?callbackUrl=%2Fapi%2Fauth%2Freset-password%2F{token}",
        ):
            await site.ask("GET", target, f"Cookie: {DEVICE}={cookies[DEVICE]}")
        await site.post(f"reset-password?token={token}", {"newPassword": PASSWORD, "token": token})
        await site.sign_in("somebody@example.test", token)
    lines = log.read_text()
    assert lines.count("reset-password") >= 6
    for secret in (token, PASSWORD, cookies[DEVICE], cookies[COOKIE], *cookies[DEVICE].split(".")[1:]):
        assert secret not in lines
