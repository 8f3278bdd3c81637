"""Class 1: gate and app read the same target differently."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attacks.site import SIGNED_IN, USER_ID, Site
from tests.attacks.strict import is_under, plausible_paths

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard, /settings, {{path: /repo, encoded_slash: pass}}]
public: [/dashboard/help, {{path: /files, encoded_slash: pass}}]
"""
PROTECTED = (b"/dashboard", b"/settings", b"/repo")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        # spellings of a protected path
        pytest.param("/dashboard/..%2e", 401, id="dots-of-both-kinds-are-a-name"),
        pytest.param("/%44ashboard", 401, id="escaped-capital"),
        pytest.param("/%64%61%73%68%62%6f%61%72%64", 401, id="every-letter-escaped"),
        pytest.param("/DASHBOARD%2E", 401, id="capitals-and-an-escaped-dot"),
        pytest.param("/dashboard%20%20", 401, id="trailing-blanks"),
        pytest.param("/dashboard.%20.", 401, id="dots-and-blanks"),
        pytest.param("/dashboard.;.", 401, id="dot-then-parameter"),
        pytest.param("/dashboard;/../x/../dashboard;", 401, id="parameters-and-dots"),
        pytest.param("/dashboard;%2f..%2f..%2fapi", 400, id="encoded-slashes-in-a-parameter"),
        pytest.param("/dashboard%3B%3B", 401, id="escaped-semicolons"),
        pytest.param("/;/dashboard", 401, id="empty-but-for-a-semicolon"),
        pytest.param("/;a=b;c/.;d/dashboard", 400, id="dot-with-a-parameter"),
        pytest.param("/.../dashboard", 401, id="three-dots-that-some-drop"),
        pytest.param("/%20/dashboard", 401, id="a-blank-that-some-drop"),
        pytest.param("/" + ";/" * 9 + "dashboard", 400, id="more-than-can-be-read"),
        pytest.param("/a/b/c/../../../dashboard", 401, id="deep-and-back"),
        pytest.param("/../../../dashboard", 401, id="above-the-root"),
        pytest.param("/dashboard/../dashboard", 401, id="out-and-in"),
        pytest.param("//evil.test/dashboard", 200, id="what-looks-like-an-authority-is-a-segment"),
        pytest.param("//evil.test/../dashboard", 401, id="and-is-resolved-like-one"),
        pytest.param("/.//.//dashboard", 401, id="dots-and-slashes"),
        pytest.param("/x/%2E%2e//%2e/dashboard", 401, id="escaped-dots-and-slashes"),
        pytest.param("/dashboard?", 401, id="empty-query"),
        pytest.param("/dashboard??/../api", 401, id="two-question-marks"),
        pytest.param("/dashboard%3f/../../api", 200, id="an-escaped-question-mark-is-part-of-a-name"),
        pytest.param("/api?/../dashboard", 200, id="dots-in-a-query-are-data"),
        pytest.param("/api%3f/../dashboard", 401, id="escaped-question-mark-then-dots"),
        pytest.param("/api%23/../dashboard", 401, id="escaped-hash-then-dots"),
        # what two readers could read differently
        pytest.param("/api/%2e%2e%5cdashboard", 400, id="escaped-backslash"),
        pytest.param("/api\\..\\dashboard", 400, id="backslashes"),
        pytest.param("/api/..%3b/dashboard", 400, id="escaped-parameter-on-dots"),
        pytest.param("/api/.%2e;jsessionid=1/dashboard", 400, id="parameter-on-escaped-dots"),
        pytest.param("/api/..%20/dashboard", 400, id="blank-on-dots"),
        pytest.param("/api/..%20./dashboard", 400, id="blank-between-dots"),
        pytest.param("/api/..%09/dashboard", 400, id="tab-on-dots"),
        pytest.param("/api/..%00/dashboard", 400, id="nul-on-dots"),
        pytest.param("/api/..%ff/dashboard", 200, id="odd-byte-on-dots-is-a-name"),
        pytest.param("/dashboard%0b", 400, id="vertical-tab"),
        pytest.param("/dashboard%7f", 400, id="delete"),
        pytest.param("/dashboard%85", 200, id="a-latin-1-line-end-is-a-letter"),
        pytest.param("/dashboard%", 400, id="lone-percent"),
        pytest.param("/dashboard%2", 400, id="half-an-escape"),
        pytest.param("/dashboard%u0064", 400, id="escape-of-microsoft"),
        pytest.param("/%c0%af/dashboard", 200, id="overlong-slash-is-a-name"),
        pytest.param("/dashboard#", 400, id="hash"),
        # targets of other forms
        pytest.param("http://h/dashboard", 401, id="absolute"),
        pytest.param("HTTP://H:80/%64ashboard", 401, id="absolute-with-capitals-and-an-escape"),
        pytest.param("https://h/api/%2e%2e/dashboard", 401, id="absolute-with-dots"),
        pytest.param("http://h//dashboard", 401, id="absolute-with-two-slashes"),
        pytest.param("http://dashboard/../dashboard", 401, id="absolute-dots-do-not-eat-the-host"),
        pytest.param("http://h?/dashboard", 200, id="absolute-without-a-path"),
        pytest.param("http://u:p@h/dashboard", 400, id="absolute-with-a-user"),
        pytest.param("http://h%2f/dashboard", 400, id="absolute-with-an-escaped-slash-in-the-host"),
        pytest.param("http:///dashboard", 400, id="absolute-without-a-host"),
        pytest.param("http:/dashboard", 400, id="one-slash"),
        pytest.param("ftp://h/dashboard", 400, id="another-scheme"),
        pytest.param("h:80/dashboard", 400, id="authority"),
        pytest.param("dashboard", 400, id="no-slash"),
        pytest.param("?/dashboard", 400, id="query-alone"),
        # an exemption inside of a protected path
        pytest.param("/dashboard/help", 200, id="exempt"),
        pytest.param("/dashboard/help/%69ndex", 200, id="exempt-below"),
        pytest.param("/dashboard/help/../secret", 401, id="out-of-the-exemption"),
        pytest.param("/dashboard/help/%2e%2e/secret", 401, id="out-of-it-by-escaped-dots"),
        pytest.param("/dashboard/help/..;/secret", 400, id="out-of-it-by-a-parameter"),
        pytest.param("/dashboard/help%2f..%2fsecret", 400, id="out-of-it-by-encoded-slashes"),
        pytest.param("/dashboard/help;/../secret", 401, id="parameter-then-out"),
        pytest.param("/dashboard/help;x", 401, id="exemption-with-a-parameter"),
        pytest.param("/dashboard/help%3bx", 401, id="exemption-with-an-escaped-parameter"),
        pytest.param("/dashboard/help.", 401, id="exemption-with-a-dot"),
        pytest.param("/dashboard/HELP", 401, id="exemption-in-capitals"),
        pytest.param("/Dashboard/help", 401, id="exemption-below-capitals"),
        pytest.param("/dashboard/%68elp", 200, id="exemption-escaped-is-the-same-path"),
        pytest.param("/dashboard/.../help", 401, id="exemption-behind-a-droppable-segment"),
        pytest.param("/dashboard/;/help", 401, id="exemption-behind-a-semicolon"),
        pytest.param("/dashboard//help", 200, id="exemption-behind-two-slashes-is-the-same-path"),
        pytest.param("http://h/dashboard/help/../x", 401, id="absolute-and-out-of-the-exemption"),
        # encoded slashes where a rule lets them pass
        pytest.param("/repo/group%2fname", 401, id="encoded-slash-let-pass-is-still-protected"),
        pytest.param("/repo%2fname", 400, id="encoded-slash-instead-of-the-rules-own"),
        pytest.param("/files/a%2fb", 200, id="encoded-slash-let-pass"),
        pytest.param("/files%2fa", 400, id="of-both-readings-one-has-no-such-rule"),
        pytest.param("/files/..%2fdashboard", 400, id="encoded-slash-behind-dots"),
        pytest.param("/files/%2e%2e%2fdashboard", 400, id="encoded-slash-behind-escaped-dots"),
        pytest.param("/files/a%2f..%2f..%2fdashboard", 400, id="encoded-slashes-around-dots"),
        pytest.param("/files/a%252f..%252f..%252fdashboard", 200, id="twice-encoded-stays-a-name"),
    ],
)
async def test_a_spelling(site: Site, target: str, status: int) -> None:
    answer = await site.ask("GET", target)
    assert answer.status == status
    assert (site.reached != []) is (status == 200)


@pytest.mark.parametrize(
    ("target", "forwarded"),
    [
        ("/a/./b/../c//d", "/a/c/d"),
        ("/%61/%7Eb/%2e%2E/c%2D", "/a/c-"),
        ("/a%2Bb%20c%25%2564", "/a%2Bb%20c%25%2564"),
        ("/caf%C3%A9;v=1,2", "/caf%C3%A9;v=1,2"),
        ("/x/..", "/"),
        ("/x/.", "/x/"),
        ("//", "/"),
        ("/q?a=%2F..%2F&b=%zz&c=\\&d=;", "/q?a=%2F..%2F&b=%zz&c=\\&d=;"),
        ("HTTP://evil.test:99/../a?b", "/a?b"),
        ("http://h", "/"),
        ("/files/A%2fB%2FC", "/files/A%2fB%2FC"),
    ],
)
async def test_what_is_forwarded_is_what_was_judged(site: Site, target: str, forwarded: str) -> None:
    assert (await site.ask("GET", target)).status == 200
    assert site.reached == [forwarded]


async def test_no_raw_odd_byte_passes_in_a_target(site: Site) -> None:
    for byte in (*range(0x21), *range(0x7F, 0x100)):
        answers = await site.say(b"GET /a%bdashboard HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % bytes([byte]))
        assert [answer.status for answer in answers if answer.status != 400] == [], byte
    assert site.reached == []


async def test_an_escaped_character_hides_nothing(site: Site) -> None:
    """Every printable character, escaped and raw, around the protected name: what is reached is not protected."""
    for character in range(0x21, 0x7F):
        for spelling in (chr(character), f"%{character:02x}"):
            for target in (f"/dashboard{spelling}", f"/{spelling}/dashboard", f"/x/..{spelling}/dashboard"):
                await site.ask("GET", target)
    assert "/!/dashboard" in site.reached
    assert [target for target in site.reached if is_under(plausible_paths(target), PROTECTED)] == []


async def test_a_session_opens_every_spelling_of_the_same_page(site: Site) -> None:
    for target in ("/dashboard", "//dashboard", "/%64ashboard", "/x/../dashboard", "http://h/dashboard"):
        assert (await site.ask("GET", target, SIGNED_IN)).status == 200
    assert site.reached == ["/dashboard"] * 5
    assert [request.values("x-auth-user-id") for request in site.upstream.requests] == [[USER_ID]] * 5


PIECES = [
    *("/", "//", "..", ".", "%2e", "%2E", "%2f", "%5c", ";", "%3b", "%20", "%25", "64", "dashboard", "settings", "x"),
    *("d", "%64", "ashboard", "D", "help", "/dashboard", "?", "#", "\\", "%00", "%09", "http://h", "repo", "files"),
]


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=9))
async def test_whatever_the_target_nothing_protected_is_reached(site: Site, pieces: list[str]) -> None:
    """Exempt is `/dashboard/help`, byte for byte, and nothing else."""
    site.forget()
    answers = await site.say(f"GET /{''.join(pieces)} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert len(answers) == 1
    for reached in site.reached:
        paths = plausible_paths(reached)
        exempt = reached.partition("?")[0]
        if not (exempt == "/dashboard/help" or exempt.startswith("/dashboard/help/")):
            assert not is_under(paths, PROTECTED), reached
        else:
            below = {path for path in paths if not is_under({path}, (b"/dashboard/help",))}
            assert not is_under(below, PROTECTED), reached
