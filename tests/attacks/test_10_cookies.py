"""Class 10: cookies tossed from elsewhere, and neighbours that make a reader lose the right one."""

import pytest

from tests.attacks.site import STRONG, TOKEN, USER_ID, WITH_PUBLIC_URL, Site
from tests.server.gates import COOKIE, cookie_value, running_gate

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
upstreams: {{api: '{other}'}}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard, {{path: /seen, access: presence}}]
public: [{{path: /api, upstream: api, identity: optional}}]
"""
VALUE = cookie_value(TOKEN)
GOOD = f"{COOKIE}={VALUE}"


@pytest.mark.parametrize(
    ("cookie", "status"),
    [
        # odd neighbours: a strict parser would stop there and sign the visitor out
        pytest.param(f'a="b; {GOOD}', 200, id="open-quote-before"),
        pytest.param(f'a="x; {COOKIE}=y; {GOOD}"', 401, id="quotes-do-not-hide-the-first"),
        pytest.param(f"a=b, c; {GOOD}", 200, id="comma-before"),
        pytest.param(f"a; b; ;; = ; =x; {GOOD}", 200, id="no-equals-signs-before"),
        pytest.param(f"a[b]=(c)<d>@/?: {{e}}; {GOOD}", 200, id="separators-before"),
        pytest.param(f"\xe4=\xf6\xfc; {GOOD}", 200, id="latin-1-before"),
        pytest.param(f"a=\xc3\xa4\xf0\x9f\x92\xa9; {GOOD}; b=\xff", 200, id="utf-8-around"),
        pytest.param(f"a=%ff%00%zz; {GOOD}", 200, id="bad-escapes-before"),
        pytest.param(f"$Version=1; $Path=/; {GOOD}; $Domain=h", 200, id="of-the-year-1997"),
        pytest.param(f"{GOOD};", 200, id="semicolon-behind"),
        pytest.param(f";{GOOD}", 200, id="semicolon-before"),
        pytest.param(f"a=b;{GOOD};c=d", 200, id="no-blanks"),
        pytest.param(f"a=b;\t{GOOD}\t;c", 200, id="tabs"),
        pytest.param(f"{COOKIE} = {VALUE}", 200, id="blanks-around-the-equals-sign"),
        pytest.param(f'{COOKIE}="{VALUE}"', 200, id="quoted"),
        pytest.param("; ".join(f"c{i}={i}" for i in range(2_000)) + f"; {GOOD}", 200, id="two-thousand-before"),
        pytest.param("a=" + "b" * 30_000 + f"; {GOOD}", 200, id="a-long-one-before"),
        # other names
        pytest.param(f"Better-Auth.session_token={VALUE}", 401, id="capitals"),
        pytest.param(f"better-auth_session_token={VALUE}", 401, id="underscore"),
        pytest.param(f"xbetter-auth.session_token={VALUE}", 401, id="ends-alike"),
        pytest.param(f"better-auth.session_tokens={VALUE}", 401, id="begins-alike"),
        pytest.param(f"a={GOOD}", 401, id="inside-of-a-value"),
        pytest.param(f"better-auth.session%5Ftoken={VALUE}", 401, id="escaped-name"),
        pytest.param(f'"{COOKIE}"={VALUE}', 401, id="quoted-name"),
        pytest.param(f"$Version=1, {GOOD}", 401, id="comma-does-not-separate"),
        pytest.param(f"__Secure-{GOOD}", 401, id="secure-prefix"),
        pytest.param(f"__Host-{GOOD}", 401, id="host-prefix"),
        pytest.param(f"{COOKIE}", 401, id="name-alone"),
        pytest.param(f"{COOKIE}={COOKIE}={VALUE}", 401, id="name-twice"),
        pytest.param(f"{COOKIE}=={VALUE}", 401, id="two-equals-signs"),
        # tossing: the first of the name counts, at the gate as at the app
        pytest.param(f"{COOKIE}=tossed; {GOOD}", 401, id="tossed-before"),
        pytest.param(f"{COOKIE}=; {GOOD}", 401, id="empty-before"),
        pytest.param(f"{COOKIE}; {GOOD}", 200, id="name-alone-before"),
        pytest.param(f"{GOOD}; {COOKIE}=tossed", 200, id="tossed-behind"),
        pytest.param(f"{COOKIE}={cookie_value('x' * 32)}; {GOOD}", 401, id="another-signed-one-before"),
        pytest.param(f"{COOKIE} =tossed;{GOOD}", 401, id="tossed-with-a-blank"),
    ],
)
async def test_which_cookie_is_the_session(site: Site, cookie: str, status: int) -> None:
    answer = await site.ask("GET", "/dashboard", f"Cookie: {cookie}")
    assert answer.status == status
    if status == 200:
        assert site.received.values("x-auth-user-id") == [USER_ID]
        (forwarded,) = site.received.values("cookie")
        names = [part.partition("=")[0].strip() for part in forwarded.split(";") if "=" in part]
        assert names.count(COOKIE) == 1
        assert VALUE in forwarded


async def test_several_cookie_lines_are_one_list_in_their_order(site: Site) -> None:
    for lines, status in (
        (("Cookie: a=b", f"cookie: {GOOD}"), 200),
        ((f"COOKIE: {GOOD}", f"Cookie: {COOKIE}=tossed"), 200),
        ((f"Cookie: {COOKIE}=tossed", f"Cookie: {GOOD}"), 401),
        (("Cookie:", f"Cookie: {GOOD}", "Cookie: ;"), 200),
        (('Cookie: a="', f"Cookie: {GOOD}"), 200),
    ):
        site.forget()
        assert (await site.ask("GET", "/dashboard", *lines)).status == status
        if status == 200:
            assert len([name for name, _ in site.received.headers if name.lower() == "cookie"]) == 1
            assert b"tossed" not in site.received.head


@pytest.mark.parametrize(
    "line",
    [
        *(f"Cookie2: {GOOD}", f"X-Cookie: {GOOD}", f"Coo_kie: {GOOD}", f"Cookie_: {GOOD}", f"Set-Cookie: {GOOD}"),
        *(f"Authorization: Bearer {VALUE}", f"X-Session-Token: {VALUE}", f"Set_Cookie: {GOOD}", f"C-o-o-k-i-e: {GOOD}"),
    ],
)
async def test_no_other_header_is_a_cookie(site: Site, line: str) -> None:
    assert (await site.ask("GET", "/dashboard", line)).status == 401
    assert (await site.ask("GET", f"/dashboard?{GOOD}", line)).status == 401
    assert (await site.ask("POST", "/dashboard", line, body=GOOD.encode())).status == 401


@pytest.mark.parametrize("rule", ["/dashboard", "/seen"])
async def test_a_huge_cookie_is_refused_and_a_large_one_read(site: Site, rule: str) -> None:
    large = f"Cookie: {GOOD}; a=" + "b" * 60_000
    assert (await site.ask("GET", rule, large)).status == 200
    huge = f"Cookie: {GOOD}; a=" + "b" * 66_000
    assert (await site.ask("GET", rule, huge)).status in (400, 431)
    split = [f"Cookie: {GOOD}; a={'b' * 30_000}"] * 3
    assert (await site.ask("GET", rule, *split)).status in (400, 431)
    assert len(site.upstream.requests) == 1


async def test_a_presence_rule_asks_for_a_name_with_a_value(site: Site) -> None:
    for cookie, status in (("", 401), (COOKIE, 401), (f"{COOKIE}=", 401), (f"{COOKIE}=x", 200), (f"x{COOKIE}=x", 401)):
        assert (await site.ask("GET", "/seen", f"Cookie: {cookie}")).status == status


@pytest.mark.parametrize(
    "cookie",
    [
        f"a=1; {GOOD}; b=2",
        f"a=1;{GOOD};better-auth.session_data=x; b=2",
        f"a=1; {COOKIE} = x; better-auth.session_data.0=x;\tbetter-auth.session_data.1 =x; b=2",
        f"a=1; better-auth.dont_remember=x; {GOOD}; {COOKIE}=again; b=2",
    ],
)
async def test_a_named_app_never_sees_a_session_cookie(site: Site, cookie: str) -> None:
    assert (await site.ask("GET", "/api/x", f"Cookie: {cookie}", "Cookie: c=3")).status == 200
    (request,) = site.other.requests
    (forwarded,) = request.values("cookie")
    assert [part.strip() for part in forwarded.split(";")] == ["a=1", "b=2", "c=3"]
    assert VALUE.encode() not in request.head
    assert TOKEN.encode() not in request.head


async def test_behind_tls_only_the_prefixed_name_counts(site: Site) -> None:
    good = f"{COOKIE}={cookie_value(TOKEN, STRONG)}"
    text = WITH_PUBLIC_URL + "https://app.example.test\n"
    async with running_gate(site.upstream.url, site.database, text=text) as gate:
        secure = Site(gate, site.upstream, site.other, site.database)
        for cookie, status in (
            (f"__Secure-{good}", 200),
            (good, 401),
            (f"__secure-{good}", 401),
            (f"__Host-{good}", 401),
            (f"{COOKIE}=tossed; __Secure-{good}", 200),
            (f"__Secure-{COOKIE}=tossed; {good}", 401),
        ):
            assert (await secure.ask("GET", "/dashboard", f"Cookie: {cookie}")).status == status
