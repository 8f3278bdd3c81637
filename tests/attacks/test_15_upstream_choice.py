"""Class 15: a request that chooses where it goes, and connections shared between people."""

import asyncio

import pytest

from tests.attacks.site import SIGNED_IN, Site
from tests.server.gates import COOKIE
from tests.server.upstreams import Received, read_body

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
upstreams: {{api: '{other}'}}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard, {{path: /api/admin}}]
public:
  - {{path: /api, upstream: api, encoded_slash: pass}}
  - {{path: /files, encoded_slash: pass}}
  - {{path: /files/api, upstream: api, encoded_slash: pass}}
"""


@pytest.mark.parametrize(
    "target",
    [
        *(
            "http://{other}/x",
            "http://{other}/files",
            "https://{other}/x",
            "//{other}/x",
            "/{other}/x",
            "/x?url=http://{other}/",
        ),
        *(
            "http://{other}?x",
            "/x?upstream=api",
            "/@{other}/x",
            "/http://{other}/x",
            "/apix",
            "/xapi",
            "/x/api",
            "/api/../x",
        ),
        *("/api/%2e%2e/x", "/api/./.././x", "/api%2e", "/..api"),
    ],
)
async def test_the_target_chooses_no_app(site: Site, target: str) -> None:
    text = target.replace("{other}", f"127.0.0.1:{site.other.port}")
    assert (await site.ask("GET", text)).status == 200
    assert len(site.upstream.requests) == 1
    assert site.other.requests == []


@pytest.mark.parametrize(
    "line",
    [
        *(
            "Host: {other}",
            "X-Forwarded-Host: {other}",
            "X-Host: {other}",
            "X-Original-URL: http://{other}/api",
            "Forwarded: host={other}",
        ),
        *(
            "X-Rewrite-URL: /api",
            "X-Upstream: api",
            "Proxy: http://{other}",
            "Referer: http://{other}/",
            "Origin: http://{other}",
        ),
        *("X-Accel-Redirect: /api", "X-Sendfile: /etc/passwd", "Destination: http://{other}/api", "Via: 1.1 {other}"),
    ],
)
async def test_no_header_chooses_an_app(site: Site, line: str) -> None:
    await site.ask("GET", "/x", line.replace("{other}", f"127.0.0.1:{site.other.port}"))
    assert site.reached == ["/x"]
    assert site.other.requests == []


@pytest.mark.parametrize(
    "target", ["/api", "/api/", "/api/x", "//api/x", "/%61pi/x", "/x/../api", "http://h/api", "/api/a%2fb"]
)
async def test_only_the_canonical_path_does(site: Site, target: str) -> None:
    assert (await site.ask("GET", target)).status == 200
    assert len(site.other.requests) == 1
    assert site.upstream.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "/api%2fx",
        "/files%2fx",
        "/files/api%2fx",
        "/files/%61pi%2F",
        "/x%2fy",
        "/api/%2e%2e%2ffiles",
        "/files/..%2f..%2fapi",
    ],
)
async def test_where_two_readings_would_go_to_two_apps_it_goes_to_none(site: Site, target: str) -> None:
    assert (await site.ask("GET", target)).status == 400
    assert site.upstream.requests == site.other.requests == []


async def test_odd_spellings_go_where_the_check_was_made(site: Site) -> None:
    """`/API` is public here and at the default app; `/api/admin` is protected however it is spelled."""
    for target in ("/API/x", "/api;v=1/x", "/api./x"):
        await site.ask("GET", target)
    for target in ("/api/admin", "/api/ADMIN", "/API/admin", "/api;x/admin;y", "/api/./admin.", "/api/a/..%2fadmin"):
        assert (await site.ask("GET", target)).status in (400, 401)
    assert not any("admin" in request.target.lower() for request in site.upstream.requests + site.other.requests)


async def test_a_redirect_of_the_app_is_passed_on_and_never_followed(site: Site) -> None:
    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await read_body(received, reader)
        location = f"http://127.0.0.1:{site.other.port}/dashboard".encode()
        writer.write(b"HTTP/1.1 307 X\r\nLocation: " + location + b"\r\nRefresh: 0\r\nContent-Length: 0\r\n\r\n")
        return True

    site.upstream.answering = answer
    for method in ("GET", "POST", "HEAD"):
        response = await site.ask(method, "/x", SIGNED_IN)
        assert response.status == 307
        assert response.values(b"location") == [f"http://127.0.0.1:{site.other.port}/dashboard".encode()]
    assert site.other.requests == []
    assert len(site.upstream.requests) == 3


async def test_cookies_and_credentials_of_one_visitor_are_not_anothers(site: Site) -> None:
    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: jar=canary; Path=/\r\nSet-Cookie: b=canary; Domain=127.0.0.1\r\n"
            b"WWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nok"
        )
        return True

    site.upstream.answering = answer
    conversation = await site.open()
    conversation.send(f"GET /x HTTP/1.1\r\nHost: h\r\n{SIGNED_IN}\r\nAuthorization: Basic canary\r\n\r\n")
    (first,) = await conversation.answers(1)
    assert len(first.values(b"set-cookie")) == 2
    conversation.send("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    await conversation.end()
    await site.ask("GET", "/x")
    for request in site.upstream.requests[1:]:
        assert b"canary" not in request.head
        assert COOKIE.encode() not in request.head
    assert site.upstream.requests[0].values("authorization") == ["Basic canary"]


async def test_the_environments_proxies_are_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, site.other.url)
    assert await site.still_serves()
    assert site.other.requests == []


async def test_what_is_compressed_stays_compressed(site: Site) -> None:
    """No decompression in the gate: a bomb is the client's to open, or not."""
    bomb = b"\x1f\x8b\x08\x00" + b"\x00" * 100

    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await read_body(received, reader)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, br, zstd\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        writer.write(head + bomb)
        return True

    site.upstream.answering = answer
    response = await site.ask("POST", "/x", "Content-Encoding: gzip", body=bomb)
    assert response.body == bomb
    assert response.values(b"content-encoding") == [b"gzip, br, zstd"]
    assert site.received.body == bomb
    assert site.received.values("content-encoding") == ["gzip"]
