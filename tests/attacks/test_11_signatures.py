"""Class 11: forged, changed and unknown session cookies.  A bad signature never costs a look into the store."""

import base64
import hashlib
import hmac
import sqlite3
from contextlib import closing
from urllib.parse import quote, unquote

import pytest

from gatekeeper.core.model import SessionRecord, SessionToken
from tests.attacks.site import LAST, TOKEN, USER_ID, Site
from tests.server.gates import COOKIE, SECRET, cookie_value

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD = "an-older-secret-of-more-than-32-bytes-77aa"
CONFIG = (
    """\
listen: 127.0.0.1:0
upstream: {upstream}
secrets: [{{version: 2, value: {secret}}}, {{version: 1, value: """
    + OLD
    + """}}]
store: sqlite:///{database}
protect: [/dashboard]
"""
)
SIGNED = unquote(cookie_value(TOKEN))
MAC = hmac.digest(SECRET.encode(), TOKEN.encode(), "sha256")
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class CountingStore:
    """Counts reads of the store behind the gate's cache."""

    def __init__(self, site: Site) -> None:
        self.reads = 0
        store = site.gate.gate.runtime.sessions._store
        read = store.read_session

        async def counting(token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
            self.reads += 1
            return await read(token, client_address)

        store.read_session = counting  # type: ignore[method-assign]


@pytest.fixture
def reads(site: Site) -> CountingStore:
    return CountingStore(site)


async def statuses(site: Site, values: list[str]) -> list[int]:
    """The statuses of one request with each of these session cookies, forty on a connection."""
    found: list[int] = []
    for start in range(0, len(values), 40):
        head = f"GET /dashboard HTTP/1.1\r\nHost: h\r\nCookie: {COOKIE}="
        requests = "".join(f"{head}{value}\r\n\r\n" for value in values[start : start + 40])
        found += [answer.status for answer in await site.say(requests.encode("latin-1") + LAST)][:-1]
    return found


async def test_every_bit_of_the_signature_counts(site: Site, reads: CountingStore) -> None:
    """Each letter with each of its six bits flipped, and every letter in the last place: accepted only where the
    decoded bytes are the true ones, since that place has two bits that stand for nothing.
    """
    start, last = len(TOKEN) + 1, len(SIGNED) - 2
    changed = [
        SIGNED[:at] + BASE64[BASE64.index(SIGNED[at]) ^ 1 << bit] + SIGNED[at + 1 :]
        for at in range(start, last + 1)
        for bit in range(6)
    ]
    changed += [SIGNED[:last] + letter + "=" for letter in BASE64]
    true = [base64.b64decode(value[start:]) == MAC for value in changed]
    assert true.count(True) == 2 + 4  # two single bits, and all four letters of the last place
    got = await statuses(site, [quote(value, safe="") for value in changed])
    assert got == [200 if is_true else 401 for is_true in true]
    assert reads.reads <= true.count(True)


async def test_every_bit_of_the_token_counts(site: Site, reads: CountingStore) -> None:
    changed = [
        SIGNED[:at] + chr(ord(SIGNED[at]) ^ 1 << bit) + SIGNED[at + 1 :] for at in range(len(TOKEN)) for bit in range(8)
    ]
    assert set(await statuses(site, [quote(value.encode("latin-1"), safe="") for value in changed])) == {401}
    assert reads.reads == 0


async def test_every_bit_of_the_raw_value_counts(site: Site, reads: CountingStore) -> None:
    """As it stands on the wire, escapes included; what is no printable byte is the parser's business."""
    raw = cookie_value(TOKEN)
    changed = [
        raw[:at] + chr(ord(raw[at]) ^ 1 << bit) + raw[at + 1 :]
        for at in range(len(raw))
        for bit in range(7)
        if 0x20 < ord(raw[at]) ^ 1 << bit < 0x7F
    ]
    got = await statuses(site, changed)
    accepted = [value for value, status in zip(changed, got, strict=True) if status == 200]
    for value in accepted:
        token, _, signature = unquote(value).rpartition(".")
        assert (token, base64.b64decode(signature)) == (TOKEN, MAC)
    assert set(got) == {200, 401}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(TOKEN, id="no-signature"),
        pytest.param(f"{TOKEN}.", id="empty-signature"),
        pytest.param(f".{SIGNED.rpartition('.')[2]}", id="empty-token"),
        pytest.param(SIGNED.rpartition(".")[2], id="signature-alone"),
        pytest.param(SIGNED[:-1], id="no-padding"),
        pytest.param(SIGNED[:-2], id="cut"),
        pytest.param(SIGNED + "=", id="more-padding"),
        pytest.param(SIGNED + "A", id="more-letters"),
        pytest.param(SIGNED + "." + SIGNED.rpartition(".")[2], id="signed-twice"),
        pytest.param("x" + SIGNED, id="letter-before"),
        pytest.param(SIGNED.replace(".", ".."), id="two-dots"),
        pytest.param(SIGNED.replace(".", "%252E"), id="twice-escaped-dot"),
        pytest.param(f"{TOKEN}." + MAC.hex(), id="hexadecimal"),
        pytest.param(f"{TOKEN}." + base64.b64encode(MAC.hex().encode()).decode(), id="base64-of-hexadecimal"),
        pytest.param(f"{TOKEN}." + base64.b64encode(MAC[:31]).decode(), id="31-bytes"),
        pytest.param(f"{TOKEN}." + base64.b64encode(MAC + b"\0").decode(), id="33-bytes"),
        pytest.param(f"{TOKEN}." + base64.b64encode(b"\0" * 32).decode(), id="zeros"),
        pytest.param(f"{TOKEN}." + base64.b64encode(hashlib.sha256(TOKEN.encode()).digest()).decode(), id="no-key"),
        pytest.param(
            f"{TOKEN}." + base64.b64encode(hmac.digest(b"", TOKEN.encode(), "sha256")).decode(), id="empty-key"
        ),
        pytest.param(
            f"{TOKEN}." + base64.b64encode(hmac.digest(TOKEN.encode(), SECRET.encode(), "sha256")).decode(),
            id="swapped",
        ),
        pytest.param(
            f"{TOKEN}." + base64.b64encode(hmac.digest(SECRET.encode(), TOKEN.encode(), "sha1")).decode(), id="sha1"
        ),
        pytest.param(
            f"{TOKEN}." + base64.b64encode(hmac.digest(SECRET.encode(), TOKEN.encode(), "sha512")).decode(), id="sha512"
        ),
        pytest.param(
            f"{TOKEN}." + base64.b64encode(hmac.digest(SECRET.encode(), TOKEN.lower().encode(), "sha256")).decode(),
            id="of-another-token",
        ),
        pytest.param(unquote(cookie_value(TOKEN, "some-other-secret-of-32-bytes-or-more")), id="another-secret"),
        pytest.param(unquote(cookie_value(TOKEN, SECRET.upper())), id="secret-in-capitals"),
        pytest.param("{" + f'"token":"{TOKEN}"' + "}", id="json"),
        pytest.param("eyJhbGciOiJub25lIn0.eyJzdWIiOiJzaXRlLXVzZXIifQ.", id="a-token-without-algorithm"),
        pytest.param("' or '1'='1", id="sql"),
        pytest.param("\0", id="nul"),
        pytest.param("true", id="a-word"),
        pytest.param("." * 2_000, id="dots"),
        pytest.param("a" * 5_000 + SIGNED, id="long"),
        pytest.param(SIGNED.replace(".", ".\n"), id="line-end"),
        pytest.param(SIGNED[:-6] + " " + SIGNED[-6:], id="blank"),
    ],
)
async def test_a_forged_cookie_is_nobody_and_costs_no_read(site: Site, reads: CountingStore, value: str) -> None:
    assert await statuses(site, [quote(value, safe="")]) == [401]
    assert reads.reads == 0
    assert site.reached == ["/last"]


async def test_the_url_alphabet_of_base64_is_another_one(site: Site) -> None:
    """A token is looked for whose signature has a `+` or a `/`."""
    token = next(
        t for t in (f"token-{i:032}" for i in range(100)) if set("+/") & set(unquote(cookie_value(t))[len(t) :])
    )
    value = unquote(cookie_value(token)).replace("+", "-").replace("/", "_")
    (answer,) = await site.say(
        f"GET /dashboard HTTP/1.1\r\nHost: h\r\nCookie: {COOKIE}={quote(value, safe='')}\r\nConnection: close\r\n\r\n"
    )
    assert b"BAD_SIGNATURE" in answer.body


async def test_a_good_signature_of_no_session_is_refused_and_makes_none(site: Site, reads: CountingStore) -> None:
    def count() -> int:
        with closing(sqlite3.connect(site.database)) as connection:
            return int(connection.execute("select count(*) from session").fetchone()[0])

    before = count()
    values = [cookie_value(f"fixed-by-an-attacker-{number:011}") for number in range(5)]
    assert await statuses(site, values * 4) == [401] * 20
    assert reads.reads == 5  # each once: then it is known that there is none
    assert count() == before


async def test_an_older_secret_still_vouches_and_a_forgotten_one_does_not(site: Site) -> None:
    assert await statuses(
        site, [cookie_value(TOKEN, OLD), cookie_value(TOKEN, "a-secret-that-was-taken-out-of-use")]
    ) == [
        *(200, 401),
    ]
    assert site.upstream.requests[0].values("x-auth-user-id") == [USER_ID]


async def test_the_refusal_does_not_say_how_near_it_was(site: Site) -> None:
    for value in (TOKEN, SIGNED[:-1], "x", SIGNED[:-3] + "AA="):
        answer = await site.ask("GET", "/dashboard", f"Cookie: {COOKIE}={quote(value, safe='')}")
        assert (
            answer.body
            == b'{"error":"Unauthorized","code":"BAD_SIGNATURE","signInUrl":"/sign-in?callbackUrl=%2Fdashboard"}'
        )


async def test_identity_comes_from_nowhere_else(site: Site) -> None:
    body = b'{"userId":"site-user","session":{"userId":"site-user"},"token":"' + TOKEN.encode() + b'"}'
    for lines in (("Content-Type: application/json",), (f"X-Session: {TOKEN}",), (f"Authorization: Bearer {TOKEN}",)):
        assert (await site.ask("POST", f"/dashboard?userId={USER_ID}&token={TOKEN}", *lines, body=body)).status == 401
    assert site.reached == []
