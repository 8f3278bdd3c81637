"""Class 13: a cache in front keeps a page that was meant for one person."""

import asyncio

import pytest

from tests.attacks.site import SIGNED_IN, Site
from tests.server.upstreams import Received

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard, {{path: /seen, access: presence}}]
public: [{{path: /known, identity: optional}}]
"""
GIVEN = [
    *(
        b"public",
        b"public, max-age=3600",
        b"PUBLIC",
        b"max-age=3600, public",
        b"public;max-age=1",
        b"public =x",
        b"max-age=60",
    ),
    *(
        b"s-maxage=3600",
        b"S-MaxAge=1, must-revalidate",
        b'private="set-cookie", max-age=60',
        b'no-cache="x"',
        b"immutable",
    ),
    *(
        b'private="a, public',
        b'"public"',
        b"public,,,",
        b",",
        b"",
        b" ",
        b"max-age",
        b"private, public",
        b"no-store, public",
    ),
    *(b"must-understand, max-age=9", b"stale-while-revalidate=9, s-maxage=9", b"x\xff", b"private", b"no-store"),
]
SHARED = [b"CDN-Cache-Control", b"Cloudflare-CDN-Cache-Control", b"Surrogate-Control", b"X-Accel-Expires"]


def answer_with(site: Site, head: bytes, body: bytes = b"secret page") -> None:
    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        has_body = received.method != "HEAD" and not head.startswith((b"204", b"304"))
        length = b"" if head.startswith((b"204", b"304")) else b"Content-Length: %d\r\n" % len(body)
        writer.write(b"HTTP/1.1 " + head + length + b"\r\n" + (body if has_body else b""))
        return True

    site.upstream.answering = answer


def may_be_shared(cache_control: bytes) -> bool:
    """Whether a shared cache may keep it: unless `private` or `no-store` stands there without an argument."""
    bare = [directive.strip().lower() for directive in cache_control.split(b",")]
    if b"public" in bare or any(directive.startswith(b"s-maxage") for directive in bare):
        return b"no-store" not in bare
    return b"private" not in bare and b"no-store" not in bare


@pytest.mark.parametrize("given", GIVEN, ids=repr)
async def test_no_word_of_the_app_makes_a_protected_page_shared(site: Site, given: bytes) -> None:
    for status in (b"200 OK", b"404 Not Found", b"301 Moved Permanently", b"304 Not Modified", b"410 Gone"):
        answer_with(site, status + b"\r\nCache-Control: " + given + b"\r\nExpires: Fri, 01 Jan 2100 00:00:00 GMT\r\n")
        for method in ("GET", "HEAD"):
            for target, cookie in (("/dashboard/x.css", SIGNED_IN), ("/seen", "Cookie: better-auth.session_token=x")):
                answer = await site.ask(method, target, cookie)
                (caching,) = answer.values(b"cache-control")
                assert not may_be_shared(caching), caching


async def test_several_lines_are_one_list(site: Site) -> None:
    for lines in (
        b"Cache-Control: private\r\nCache-Control: public\r\n",
        b"cache-control: a\r\nCACHE-CONTROL: s-maxage=9\r\n",
    ):
        answer_with(site, b"200 OK\r\n" + lines)
        answer = await site.ask("GET", "/dashboard", SIGNED_IN)
        (caching,) = answer.values(b"cache-control")
        assert not may_be_shared(caching)


async def test_without_a_word_it_is_kept_nowhere(site: Site) -> None:
    for head in (
        b"200 OK\r\n",
        b"200 OK\r\nExpires: Fri, 01 Jan 2100 00:00:00 GMT\r\nETag: x\r\n",
        b"204 No Content\r\n",
    ):
        answer_with(site, head)
        answer = await site.ask("GET", "/dashboard", SIGNED_IN)
        assert answer.values(b"cache-control") == [b"private, no-store"]


@pytest.mark.parametrize("name", SHARED)
async def test_fields_that_overrule_it_stay_behind_on_protected_paths(site: Site, name: bytes) -> None:
    answer_with(site, b"200 OK\r\n" + name + b": public, max-age=3600\r\n" + name.upper() + b": max-age=1\r\n")
    assert (await site.ask("GET", "/dashboard", SIGNED_IN)).values(name.lower()) == []
    assert len((await site.ask("GET", "/open")).values(name.lower())) == 2


async def test_public_pages_are_the_apps_own_business(site: Site) -> None:
    answer_with(site, b"200 OK\r\nCache-Control: public, max-age=60\r\n")
    answer = await site.ask("GET", "/open", SIGNED_IN)
    assert answer.values(b"cache-control") == [b"public, max-age=60"]
    assert b"Vary" not in dict(answer.fields)


async def test_what_may_differ_by_session_says_so(site: Site) -> None:
    for vary in (b"", b"Vary: Accept-Encoding\r\n", b"Vary: *\r\n"):
        answer_with(site, b"200 OK\r\nCache-Control: public, max-age=60\r\n" + vary)
        for lines in ((), (SIGNED_IN,)):
            answer = await site.ask("GET", "/known", *lines)
            names = b", ".join(answer.values(b"vary")).lower()
            assert b"cookie" in names or b"*" in names


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("/dashboard", ()),
        ("/dashboard/logo.png", ("Accept: text/html",)),
        ("/dashboard/x.css?v=1", ("Sec-Fetch-Mode: navigate",)),
        ("/dashboard/x.js", ("Accept: image/*",)),
        ("/dashboard/..;/x.css", ()),
        ("/seen/x.css", ()),
        ("/.gatekeeper/whoami", ()),
        ("/.gatekeeper/whoami", (SIGNED_IN,)),
        ("/.gatekeeper/nothing.css", ()),
        ("/.gatekeeper/clear-cookies", ()),
    ],
)
async def test_refusals_and_own_answers_are_kept_nowhere(site: Site, target: str, lines: tuple[str, ...]) -> None:
    for method in ("GET", "HEAD", "POST"):
        answer = await site.ask(method, target, *lines)
        assert answer.values(b"cache-control") == [b"no-store"]
        if answer.status in (307, 303, 401) and not target.startswith("/.gatekeeper"):
            assert answer.values(b"vary") == [b"Cookie, Authorization, Accept, Sec-Fetch-Mode"]
    assert site.reached == []


async def test_a_verdict_is_not_kept_for_whoever_asks_next(site: Site) -> None:
    """The gate's own memory: by token, never by path, address or connection."""
    for _ in range(3):
        assert (await site.ask("GET", "/dashboard/same", SIGNED_IN)).status == 200
        assert (await site.ask("GET", "/dashboard/same")).status == 401
        assert (await site.ask("GET", "/dashboard/same", SIGNED_IN.replace("Site", "site", 1))).status == 401
