"""Class 12: another site makes a visitor's browser change something here."""

import itertools

import pytest

from tests.attacks.site import SIGNED_IN, WITH_PUBLIC_URL, Site
from tests.server.gates import running_gate

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLEAR = "/.gatekeeper/clear-cookies"
ORIGINS = {
    "none": None,
    "own": "{url}",
    "own-in-capitals": "HTTP://{host}",
    "null": "null",
    "empty": "",
    "foreign": "https://evil.test",
    "own-over-tls": "https://{host}",
    "own-with-another-port": "http://127.0.0.1:1",
    "own-without-a-port": "http://127.0.0.1",
    "own-with-a-slash": "{url}/",
    "own-with-a-path": "{url}/x",
    "own-and-more-digits": "{url}0",
    "own-as-a-prefix": "{url}.evil.test",
    "own-as-a-user": "{url}@evil.test",
    "own-as-a-suffix": "http://evil.test/{url}",
    "own-in-a-list": "{url}, https://evil.test",
    "own-behind-a-foreign-one": "https://evil.test {url}",
    "own-host-alone": "{host}",
    "own-with-a-user": "http://x@{host}",
    "own-in-quotes": '"{url}"',
    "another-loopback-name": "http://localhost:{port}",
}
SITES = [None, "same-origin", "same-site", "cross-site", "none", "SAME-ORIGIN", "same-origin, cross-site", ""]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]


@pytest.mark.parametrize("origin", ORIGINS)
async def test_clearing_cookies_by_method_origin_and_fetch_metadata(site: Site, origin: str) -> None:
    """POST from the own origin, or where there is no Origin from `same-origin`; nothing else."""
    given = ORIGINS[origin]
    text = None if given is None else given.format(url=site.gate.url, host=site.gate.host, port=site.gate.port)
    for method, fetch_site in itertools.product(METHODS, SITES):
        lines = [SIGNED_IN] + ([] if text is None else [f"Origin: {text}"])
        lines += [] if fetch_site is None else [f"Sec-Fetch-Site: {fetch_site}"]
        answer = await site.ask(method, CLEAR, *lines)
        by_origin = origin in ("own", "own-in-capitals")
        ours = by_origin or (text is None and fetch_site == "same-origin")
        expected = 405 if method != "POST" else 303 if ours else 403
        assert answer.status == expected, (method, fetch_site)
        assert (answer.values(b"set-cookie") != []) is (expected == 303)
        assert answer.values(b"access-control-allow-origin") == []
    assert site.reached == []


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("Origin: https://evil.test", "Origin: {url}"), id="two-origins"),
        pytest.param(("O_rigin: {url}",), id="another-name"),
        pytest.param(("Sec_Fetch_Site: same-origin",), id="another-spelling-of-fetch-metadata"),
        pytest.param(("Origin : {url}",), id="blank-before-the-colon"),
        pytest.param(("Referer: {url}/",), id="referer-alone"),
        pytest.param(("X-Forwarded-Host: evil.test", "Origin: http://evil.test"), id="forwarded-host"),
        pytest.param(("X-Requested-With: XMLHttpRequest",), id="a-header-that-scripts-set"),
        pytest.param(("Sec-Fetch-Mode: navigate", "Sec-Fetch-User: ?1"), id="other-fetch-metadata"),
        pytest.param(("X-HTTP-Method-Override: POST", "Origin: null"), id="method-override"),
    ],
)
async def test_what_does_not_prove_our_own_page(site: Site, lines: tuple[str, ...]) -> None:
    answer = await site.ask("POST", CLEAR, *(line.replace("{url}", site.gate.url) for line in lines))
    assert answer.status in (400, 403)
    assert answer.values(b"set-cookie") == []


@pytest.mark.parametrize(
    "path", ["/.gatekeeper//clear-cookies", "/x/../.gatekeeper/clear-cookies", "/%2egatekeeper/clear-cookies"]
)
async def test_the_same_holds_for_every_spelling_of_the_path(site: Site, path: str) -> None:
    assert (await site.ask("POST", path, "Origin: https://evil.test")).status == 403
    assert (await site.ask("GET", path, f"Origin: {site.gate.url}")).status == 405


async def test_with_a_public_url_another_name_for_this_host_is_foreign(site: Site) -> None:
    """DNS rebinding: the attacker's own name leads to the gate, and the browser sends it as Origin and Host."""
    text = WITH_PUBLIC_URL + "http://app.example.test\n"
    async with running_gate(site.upstream.url, site.database, text=text) as gate:
        bound = Site(gate, site.upstream, site.other, site.database)
        for host, origin, status in (
            ("evil.test", "http://evil.test", 403),
            ("app.example.test", "http://app.example.test", 303),
            (
                "evil.test",
                "http://app.example.test",
                303,
            ),  # sent by the app's own page, whatever the proxy in front says
            ("app.example.test", "https://app.example.test", 403),
            ("app.example.test", "http://app.example.test.evil.test", 403),
        ):
            assert (await bound.ask("POST", CLEAR, f"Host: {host}", f"Origin: {origin}")).status == status


async def test_cookies_of_ours_are_closed_to_scripts_and_other_sites(site: Site) -> None:
    redirect = await site.ask("GET", "/dashboard", "Accept: text/html")
    clearing = await site.ask("POST", CLEAR, f"Origin: {site.gate.url}", SIGNED_IN)
    lines = redirect.values(b"set-cookie") + clearing.values(b"set-cookie")
    assert len(lines) >= 4
    for line in lines:
        attributes = [part.strip().lower() for part in line.split(b";")][1:]
        assert {b"httponly", b"samesite=lax", b"path=/"} <= set(attributes)
        assert not any(attribute.startswith(b"domain") for attribute in attributes)


async def test_whoami_is_read_by_nobody_else(site: Site) -> None:
    for origin in ("https://evil.test", "null", f"{site.gate.url}.evil.test", ""):
        answer = await site.ask("GET", "/.gatekeeper/whoami", SIGNED_IN, f"Origin: {origin}")
        assert answer.values(b"access-control-allow-origin") == []
        assert answer.values(b"access-control-allow-credentials") == []
        assert answer.values(b"cache-control") == [b"no-store"]
        preflight = await site.ask(
            "OPTIONS", "/.gatekeeper/whoami", f"Origin: {origin}", "Access-Control-Request-Method: GET"
        )
        assert preflight.status == 403
