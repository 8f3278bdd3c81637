"""Class 2: a prefix that covers too much or too little, and rules that overlap."""

import pytest

from tests.attacks.site import SIGNED_IN, Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect:
  - /dashboard
  - /report*
  - /team/*/private
  - /dashboard/help/staff
  - {{path: /shop/checkout, access: presence}}
  - {{path: /ops, require: {{roles: [admin]}}}}
  - /ops/own
public:
  - /dashboard/help
  - /dashboard/*.css
  - /team/open
  - /ops/health
"""


@pytest.mark.parametrize(
    ("target", "status"),
    [
        # whole segments
        pytest.param("/dashboard", 401, id="itself"),
        pytest.param("/dashboard/", 401, id="with-a-slash"),
        pytest.param("/dashboard/a/b", 401, id="below"),
        pytest.param("/dashboardx", 200, id="longer-name"),
        pytest.param("/dashboard-old", 200, id="longer-name-with-a-dash"),
        pytest.param("/dashboard~", 200, id="longer-name-with-a-tilde"),
        pytest.param("/dashboard%2b", 200, id="longer-name-by-an-escape"),
        pytest.param("/dashboard,x", 200, id="longer-name-with-a-comma"),
        pytest.param("/dashboar", 200, id="shorter-name"),
        pytest.param("/x/dashboard", 200, id="elsewhere"),
        # a star at the end of a segment
        pytest.param("/report", 401, id="star-stands-for-nothing"),
        pytest.param("/reports/2026", 401, id="star-stands-for-a-letter"),
        pytest.param("/REPORT.pdf", 401, id="star-and-capitals"),
        pytest.param("/report;x=/y", 401, id="star-and-a-parameter"),
        pytest.param("/x/report", 200, id="star-elsewhere"),
        # one segment
        pytest.param("/team/a/private", 401, id="any-segment"),
        pytest.param("/team/a/private/b", 401, id="any-segment-and-below"),
        pytest.param("/team/a;b/PRIVATE.", 401, id="any-segment-oddly-spelled"),
        pytest.param("/team/a/b/private", 200, id="not-two-segments"),
        pytest.param("/team/private", 200, id="not-no-segment"),
        pytest.param("/team/open/private", 401, id="protected-wins-over-an-overlapping-public"),
        pytest.param("/team/open", 200, id="public-where-nothing-protects"),
        # exemptions, and protection inside of them
        pytest.param("/dashboard/help/x", 200, id="exempt"),
        pytest.param("/dashboard/helpx", 401, id="exemption-is-whole-segments-too"),
        pytest.param("/dashboard/help/staff", 401, id="protected-inside-of-the-exemption"),
        pytest.param("/dashboard/help/STAFF;x", 401, id="protected-inside-oddly-spelled"),
        pytest.param("/dashboard/help/staffing", 200, id="longer-name-inside-of-the-exemption"),
        pytest.param("/dashboard/site.css", 200, id="exempt-by-an-ending"),
        pytest.param("/dashboard/site.css;x", 401, id="exempt-ending-with-a-parameter"),
        pytest.param("/dashboard/x;.css", 401, id="exempt-ending-inside-of-a-parameter"),
        pytest.param("/dashboard/x%3b.css", 401, id="exempt-ending-inside-of-an-escaped-parameter"),
        pytest.param("/dashboard/x.css.", 401, id="exempt-ending-and-a-dot"),
        pytest.param("/dashboard/x.CSS", 401, id="exempt-ending-in-capitals"),
        pytest.param("/dashboard/a/site.css", 401, id="exempt-ending-is-one-segment"),
        pytest.param("/dashboard/x.css/../y", 401, id="exempt-ending-left-by-dots"),
        pytest.param("/dashboard/x?y.css", 401, id="exempt-ending-in-the-query"),
        pytest.param("/dashboard/.css", 200, id="star-of-the-exemption-stands-for-nothing"),
        # presence
        pytest.param("/shop/checkout", 401, id="presence-without-a-cookie"),
        pytest.param("/shop/check", 200, id="presence-is-whole-segments-too"),
        pytest.param("/shop", 200, id="above-is-open"),
        # conditions
        pytest.param("/ops/health", 200, id="exempt-from-a-condition"),
        pytest.param("/ops/health/../x", 401, id="out-of-it-by-dots"),
    ],
)
async def test_signed_out(site: Site, target: str, status: int) -> None:
    assert (await site.ask("GET", target)).status == status
    assert len(site.reached) == (status == 200)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param("/dashboard", 200, id="session"),
        pytest.param("/ops", 403, id="condition-not-met"),
        pytest.param("/ops/x", 403, id="condition-not-met-below"),
        pytest.param("/OPS;x/y", 403, id="condition-not-met-oddly-spelled"),
        pytest.param("/%6fps/../ops/", 403, id="condition-not-met-with-dots"),
        pytest.param("/ops/own", 200, id="the-more-specific-rule-has-no-condition"),
        pytest.param("/ops/own/../x", 403, id="and-is-left-by-dots"),
        pytest.param("/ops/owner", 403, id="and-is-whole-segments"),
    ],
)
async def test_signed_in(site: Site, target: str, status: int) -> None:
    assert (await site.ask("GET", target, SIGNED_IN)).status == status
    assert len(site.reached) == (status == 200)


async def test_a_name_that_is_not_protected_is_forwarded_as_it_came(site: Site) -> None:
    targets = ["/dashboardx", "/dashboard-old", "/x/dashboard", "/dashboard%2B", "/Xdashboard?dashboard"]
    for target in targets:
        await site.ask("GET", target)
    assert site.reached == targets


async def test_a_tree_of_rules_for_any_method_and_cookie(site: Site) -> None:
    """A junk cookie opens presence alone, whatever the method."""
    junk = "Cookie: better-auth.session_token=junk"
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert (await site.ask(method, "/shop/checkout", junk)).status == 200
        assert (await site.ask(method, "/SHOP/checkout;x", junk)).status == 200
        assert (await site.ask(method, "/dashboard", junk)).status == 401
    assert {value for request in site.upstream.requests for value in request.values("x-auth-status")} == {"anonymous"}
