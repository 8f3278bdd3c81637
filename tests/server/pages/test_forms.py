"""Who may send a form: our own page, read in this browser, lately."""

import pytest

from tests.server.auth.replays import NAMES
from tests.server.pages.browsing import EMAIL, OWN, PASSWORD, PagesSite, Shown

FIELDS = {"email": EMAIL, "password": PASSWORD, "rememberMe": "on"}
OTHER = "https://evil.test"


@pytest.fixture
async def site() -> PagesSite:
    site = PagesSite()
    await site.sign_up()
    return site


@pytest.mark.parametrize(
    ("origin", "fetch_site", "status"),
    [
        (OWN, "same-origin", 303),
        (OWN, None, 303),
        (OWN.upper(), None, 303),
        (None, "same-origin", 303),
        pytest.param(None, None, 303, id="neither-the-token-has-to-do"),
        (OTHER, "cross-site", 403),
        pytest.param(OTHER, "same-origin", 403, id="origin-outranks-metadata"),
        ("null", "same-origin", 403),
        (OWN + ".evil.test", None, 403),
        (OWN.replace("https", "http"), None, 403),
        (OWN + ":8443", None, 403),
        ("", None, 403),
        (None, "same-site", 403),
        (None, "cross-site", 403),
        (None, "none", 403),
    ],
)
async def test_origins(site: PagesSite, origin: str | None, fetch_site: str | None, status: int) -> None:
    browser = site.browser()
    page = await browser.send("/sign-in", FIELDS, origin=origin, sec_fetch_site=fetch_site)
    assert page.status == status
    assert (NAMES.session_token in browser.cookies) is (status == 303)


async def refused(site: PagesSite, page: Shown) -> None:
    assert page.status == 403
    assert page.alert is not None
    assert not any(line.startswith(NAMES.session_token) for line in page.cookies)


async def test_a_form_without_its_token_is_shown_again(site: PagesSite) -> None:
    browser = site.browser()
    await browser.get("/sign-in")
    page = await browser.post("/sign-in", FIELDS)
    await refused(site, page)
    assert page.inputs["email"] == EMAIL
    again = await browser.post("/sign-in", FIELDS | {"token": page.inputs["token"]})
    assert again.status == 303


async def test_a_token_of_another_browser_is_nothing(site: PagesSite) -> None:
    """Signing somebody in as somebody else takes a cookie that another site cannot set."""
    evil = site.browser()
    token = (await evil.get("/sign-in")).inputs["token"]
    victim = site.browser()
    await refused(site, await victim.post("/sign-in", FIELDS | {"token": token}))
    await victim.get("/sign-in")
    await refused(site, await victim.post("/sign-in", FIELDS | {"token": token}))


async def test_a_token_of_another_form_is_nothing(site: PagesSite) -> None:
    browser = site.browser()
    token = (await browser.get("/.gatekeeper/forgot-password")).inputs["token"]
    await refused(site, await browser.post("/sign-in", FIELDS | {"token": token}))


async def test_a_page_that_was_open_for_long_is_sent_once_more(site: PagesSite) -> None:
    browser = site.browser()
    token = (await browser.get("/sign-in")).inputs["token"]
    site.now_ms += 12 * 3_600_000
    page = await browser.post("/sign-in", FIELDS | {"token": token})
    await refused(site, page)
    assert "open for a long time" in (page.alert or "")


async def test_a_form_of_another_session_changes_nothing(site: PagesSite) -> None:
    """Signed in as somebody else meanwhile, in another tab: the open page was the other one's."""
    browser = site.browser()
    await browser.sign_in()
    token = (await browser.get("/.gatekeeper/change-password")).inputs["token"]
    await browser.sign_in(path="/sign-in?reauth=1")
    fields = {"token": token, "currentPassword": PASSWORD, "newPassword": "another good password"}
    page = await browser.post("/.gatekeeper/change-password", fields)
    await refused(site, page)
    assert set(site.accounts.passwords.values()) == {f"hash:{PASSWORD}"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused(site: PagesSite, method: str) -> None:
    page = await site.browser()._ask(method, "/sign-in", b"", {})
    assert (page.status, page.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/json", None])
async def test_only_forms_are_read(site: PagesSite, content_type: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = site.browser()
    token = (await browser.get("/sign-in")).inputs["token"]
    monkeypatch.setattr("tests.server.pages.browsing.FORM", content_type)
    await refused(site, await browser.post("/sign-in", FIELDS | {"token": token}))


@pytest.mark.parametrize("path", ["/.gatekeeper/change-password", "/.gatekeeper/sessions"])
async def test_who_has_no_session_is_led_to_sign_in_and_back(site: PagesSite, path: str) -> None:
    wanted = "/sign-in?callbackUrl=" + path.replace("/", "%2F")
    for page in (await site.browser().get(path), await site.browser().post(path, {"others": "yes"})):
        assert (page.status, page.location) == (303, wanted)


async def test_over_https_no_other_host_can_set_the_browsers_value(site: PagesSite) -> None:
    from gatekeeper.server.pages import PageSettings

    secure = PagesSite(pages=PageSettings("/sign-in", public_origin=OWN, secure_cookies=True))
    page = await secure.browser().get("/sign-in")
    (line,) = page.cookies
    assert line.startswith("__Host-gatekeeper.form=")
    assert line.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")
