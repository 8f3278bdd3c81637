"""Class 22: sessions in the Authorization header.  What is not signed is nobody's, and what is goes no further than a
session cookie would.
"""

from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from tests.attacks.site import TOKEN, USER_ID, Site
from tests.attacks.strict import Answer
from tests.server.gates import COOKIE, SECRET, cookie_value, running_gate
from tests.server.wire import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD = "an-older-secret-of-more-than-32-bytes-77aa"
CONFIG = (
    """\
listen: 127.0.0.1:0
upstream: {upstream}
upstreams: {{api: "{other}"}}
secrets: [{{version: 2, value: {secret}}}, {{version: 1, value: """
    + OLD
    + """}}]
store: sqlite:///{database}
protect: [/dashboard, {{path: /api, upstream: api}}, {{path: /edge, access: presence}}]
public: [{{path: /me, identity: optional}}, {{path: /api/open, upstream: api}}]
session: {{bearer: signed}}
"""
)
SIGNED = cookie_value(TOKEN)
PLAIN = unquote(SIGNED)
OTHER = unquote(cookie_value("another-token-that-nobody-has"))
NOBODY = f"Cookie: {COOKIE}={cookie_value('another-token-that-nobody-has')}"
SOMEBODY = f"Cookie: {COOKIE}={SIGNED}"


async def asked(site: Site, target: str, *lines: str) -> Answer:
    """The last of three equal answers on one connection: what the gate remembers of the first must not differ."""
    conversation = await site.open()
    raw = f"GET {target} HTTP/1.1\r\nHost: h\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
    for number in (1, 2, 3):
        site.forget()
        conversation.send(raw)
        answers = await conversation.answers(number)
    conversation.transport.abort()
    assert len({answer.status for answer in answers}) == 1
    return answers[-1]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"Bearer {PLAIN}", id="plain"),
        pytest.param(f"Bearer {SIGNED}", id="percent-encoded"),
        pytest.param(f"bearer {PLAIN}", id="lower-case"),
        pytest.param(f"BEARER {PLAIN}", id="upper-case"),
        pytest.param(f"Bearer   {PLAIN}", id="blanks-as-better-auth-trims-them"),
        pytest.param(f"Bearer {cookie_value(TOKEN, OLD)}", id="an-older-secret"),
    ],
)
async def test_a_signed_token_is_a_session(site: Site, value: str) -> None:
    assert (await asked(site, "/dashboard", f"Authorization: {value}")).status == 200
    assert site.received.values("X-Auth-User-Id") == [USER_ID]
    assert site.received.values("Cookie") == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"Bearer {TOKEN}", id="raw"),
        pytest.param(f"Bearer {TOKEN}.", id="no-signature"),
        pytest.param(f"Bearer .{PLAIN.rpartition('.')[2]}", id="no-token"),
        pytest.param(f"Bearer {PLAIN[:-2]}A=", id="wrong-signature"),
        pytest.param(
            f"Bearer {unquote(cookie_value(TOKEN, 'a-foreign-secret-of-more-than-32-bytes-9'))}", id="foreign"
        ),
        pytest.param(f"Bearer {TOKEN}.{OTHER.rpartition('.')[2]}", id="another-tokens-signature"),
        pytest.param(f"Bearer {PLAIN}x", id="trailing-text"),
        pytest.param(f"Bearer {PLAIN} {PLAIN}", id="two-tokens"),
        pytest.param(f"Bearer {PLAIN},{PLAIN}", id="two-with-a-comma"),
        pytest.param(f"Bearer {quote(SIGNED)}", id="encoded-twice"),
        pytest.param(f'Bearer "{PLAIN}"', id="in-quotes"),
        pytest.param(f"Bearer{PLAIN}", id="no-blank"),
        pytest.param(f"Bearer\t{PLAIN}", id="a-tab"),
        pytest.param(f"Bearer: {PLAIN}", id="a-colon"),
        pytest.param(f"Token {PLAIN}", id="another-scheme"),
        pytest.param(f"Basic {PLAIN}", id="basic"),
        pytest.param(PLAIN, id="no-scheme"),
        pytest.param("Bearer", id="nothing"),
        pytest.param(f"Bearer {'a' * 20_000}.{PLAIN.rpartition('.')[2]}", id="over-long"),
    ],
)
async def test_anything_else_is_ignored(site: Site, value: str) -> None:
    answer = await asked(site, "/dashboard", f"Authorization: {value}")
    assert answer.status == 401
    assert b"NO_COOKIE" in answer.body
    assert site.reached == []
    assert (await asked(site, "/dashboard", f"Authorization: {value}", SOMEBODY)).status == 200
    assert site.received.values("Authorization") == [value]  # the app may know what it means
    await asked(site, "/me", f"Authorization: {value}")
    assert site.received.values("X-Auth-Status") == ["anonymous"]


async def test_it_wins_over_the_cookie(site: Site) -> None:
    assert (await asked(site, "/dashboard", f"Authorization: Bearer {PLAIN}", NOBODY)).status == 200
    assert (await asked(site, "/dashboard", f"Authorization: Bearer {OTHER}", SOMEBODY)).status == 401
    assert site.reached == []


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        pytest.param(PLAIN, OTHER, 200, id="the-right-one-first"),
        pytest.param(OTHER, PLAIN, 401, id="the-right-one-last"),
        pytest.param("x", PLAIN, 401, id="after-one-that-says-nothing"),
    ],
)
async def test_of_two_headers_the_first_counts_and_the_app_sees_no_other(
    site: Site, first: str, second: str, status: int
) -> None:
    lines = (f"Authorization: Bearer {first}", f"authorization: Bearer {second}")
    assert (await asked(site, "/dashboard", *lines)).status == status
    await asked(site, "/open", *lines)
    assert site.received.values("Authorization") == [f"Bearer {first}"]


async def test_the_app_gets_the_current_secrets_signature(site: Site) -> None:
    await asked(site, "/dashboard", f"Authorization: bearer {cookie_value(TOKEN, OLD)}")
    assert site.received.values("Authorization") == [f"Bearer {SIGNED}"]
    await asked(site, "/dashboard", f"Authorization: bearer  {PLAIN}")
    assert site.received.values("Authorization") == [f"bearer  {PLAIN}"]


@pytest.mark.parametrize("path", ["/api/x", "/api/open"])
async def test_a_named_app_does_not_get_the_session(site: Site, path: str) -> None:
    assert (await asked(site, path, f"Authorization: Bearer {PLAIN}", "Authorization: Basic eDp5")).status == 200
    (request,) = site.other.requests
    assert request.values("Authorization") == []
    await asked(site, path, "Authorization: Basic eDp5", SOMEBODY)
    (request,) = site.other.requests
    assert request.values("Authorization") == ["Basic eDp5"]


async def test_presence_is_the_cookies(site: Site) -> None:
    assert (await asked(site, "/edge", f"Authorization: Bearer {PLAIN}")).status == 401


async def test_a_shared_cache_is_told(site: Site) -> None:
    answer = await asked(site, "/me", f"Authorization: Bearer {PLAIN}")
    assert answer.values(b"vary") == [b"Cookie, Authorization"]
    assert site.received.values("X-Auth-Status") == ["authenticated"]


async def test_it_is_not_logged(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "gate.log"
    text = CONFIG.replace("{other}", site.other.url)
    more = f"log: {{level: debug, file: '{log}'}}\n"
    async with running_gate(site.upstream.url, site.database, more, text=text) as gate:
        for target in ("/dashboard", "/api/x", "/me", "/a%2fb", "/open", "/.gatekeeper/whoami"):
            for value in (PLAIN, SIGNED, OTHER, TOKEN):
                for mode in ("", "hang-up", "not-http"):
                    lines = (f"Authorization: Bearer {value}", f"X-Drill-Upstream: {mode}")
                    await ask(gate.port, "GET", target, *lines)
    said = log.read_text()
    assert said.count("/dashboard") > 12
    assert [secret for secret in (TOKEN, PLAIN, SIGNED, OTHER, SECRET) if secret in said] == []
