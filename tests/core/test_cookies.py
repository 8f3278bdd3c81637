"""Cookies: Better Auth's captured verdicts, tables of odd headers, and the laws of signing and stripping."""

import base64
import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import itsdangerous
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gatekeeper.core import cookies
from gatekeeper.core.cookies import Keys, VerifiedToken
from gatekeeper.core.model import SessionToken

VECTORS = Path(__file__).parents[1] / "vectors"
SIGNED = json.loads((VECTORS / "signed-cookies.json").read_text(encoding="utf-8"))["signedCookies"]
HEADERS = json.loads((VECTORS / "cookie-headers.json").read_text(encoding="utf-8"))

SECRET: str = HEADERS["secret"]
KEYS = Keys([SECRET])
NAMES = cookies.cookie_names("better-auth", secure=False)
NAME = NAMES.session_token
TOKEN = "Hi6S9rraIHeIRnN1vBUEIReA83O8vrVz"
WIRE = "Hi6S9rraIHeIRnN1vBUEIReA83O8vrVz.ActT4m8wNpcpn0X5RGi8NugpvHL69y%2Fp%2BH40Y%2BNv%2BUU%3D"
PLAIN = "Hi6S9rraIHeIRnN1vBUEIReA83O8vrVz.ActT4m8wNpcpn0X5RGi8NugpvHL69y/p+H40Y+Nv+UU="

# Refused by the server for what its database says, although the signature is right.
DEAD_BUT_SIGNED = {"get-session unknown token, valid signature", "get-session expired in DB"}


def named(cases: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


# --- names ---------------------------------------------------------------------------------------------------------


def test_names_without_secure():
    assert cookies.cookie_names("app", secure=False) == cookies.CookieNames(
        session_token="app.session_token", session_data="app.session_data", dont_remember="app.dont_remember"
    )


def test_names_with_secure():
    assert cookies.cookie_names("my-app", secure=True) == cookies.CookieNames(
        session_token="__Secure-my-app.session_token",
        session_data="__Secure-my-app.session_data",
        dont_remember="__Secure-my-app.dont_remember",
    )


def test_records_do_not_change():
    for record, field in ((NAMES, "session_token"), (VerifiedToken(SessionToken("t"), 0), "token")):
        with pytest.raises(AttributeError):
            setattr(record, field, "other")


# --- finding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "found"),
    [
        pytest.param(None, None, id="no-header"),
        pytest.param("", None, id="empty-header"),
        pytest.param("n=1", "1", id="alone"),
        pytest.param("n=", "", id="empty-value"),
        pytest.param("n", None, id="no-equals"),
        pytest.param("n; n=2", "2", id="no-equals-before"),
        pytest.param("a=b;n=1;c=d", "1", id="no-blanks"),
        pytest.param("a=b; n=1 ; c=d", "1", id="blanks-around"),
        pytest.param("a=b;\t n \t=\t 1\t;c=d", "1", id="tabs-around"),
        pytest.param("n=a=b=c", "a=b=c", id="first-equals"),
        pytest.param("n=1; n=2", "1", id="first-wins"),
        pytest.param("n=; n=2", "", id="empty-first-wins"),
        pytest.param('n="1"', '"1"', id="quotes-untouched"),
        pytest.param("n=%20", "%20", id="escapes-untouched"),
        pytest.param("n=a b", "a b", id="inner-blank"),
        pytest.param("N=1", None, id="case-matters"),
        pytest.param("xn=1; nx=2; x.n=3; n.x=4; Xn=5; nX=6", None, id="alike-names"),
        pytest.param("a=n=1", None, id="name-in-value"),
        pytest.param('prefs={"a":1,"b":[2]}; n=1', "1", id="json-neighbour"),
        pytest.param('a="x; n=1; b=y"', "1", id="quotes-do-not-hide"),
        pytest.param("=x; ;;; =; n=1", "1", id="nameless-neighbours"),
        pytest.param("a\xff=\x80; n=1", "1", id="non-ascii-neighbour"),
        pytest.param("a=1, n=1", None, id="comma-is-no-separator"),
        pytest.param("\xa0n\xa0=\xa01\xa0", "1", id="trimmed-as-javascript-trims"),
        pytest.param("\x85n=1; \x1fn=2", None, id="blanks-that-only-python-knows"),
    ],
)
def test_find_cookie(header, found):
    assert cookies.find_cookie(header, "n") == found


def naive_cookies(header: str) -> list[tuple[str, str]]:
    """better-call's loop, index by index."""
    pairs, index = [], 0
    while index < len(header):
        equals = header.find("=", index)
        if equals == -1:
            break
        end = header.find(";", index)
        end = len(header) if end == -1 else end
        if end < equals:
            index = header.rfind(";", 0, equals) + 1
            continue
        pairs.append((js_trim(header[index:equals]), js_trim(header[equals + 1 : end])))
        index = end + 1
    return pairs


def js_trim(text: str) -> str:
    return re.sub(r"\A[\t\n\v\f\r \xa0]+|[\t\n\v\f\r \xa0]+\Z", "", text)


def naive_find(header: str, name: str) -> str | None:
    return next((value for key, value in naive_cookies(header) if key == name), None)


LATIN_1 = st.characters(max_codepoint=0xFF)
PIECES = st.sampled_from([NAME, NAMES.session_data, NAMES.dont_remember, "=", ";", "; ", " ", '"', "%2B", ".0", ".12"])
COOKIE_HEADERS = st.lists(PIECES | st.text(LATIN_1, max_size=6), max_size=40).map("".join)


@settings(deadline=None)
@given(COOKIE_HEADERS)
def test_find_cookie_agrees_with_a_naive_reader(header):
    for name in (NAME, NAMES.session_data, NAMES.dont_remember):
        assert cookies.find_cookie(header, name) == naive_find(header, name)


# --- finding session_data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "found"),
    [
        pytest.param(None, None, id="no-header"),
        pytest.param("a=1", None, id="none"),
        pytest.param("d=x", "x", id="plain"),
        pytest.param("d.0=y; d=x", "x", id="plain-wins"),
        pytest.param("d=; d.0=y", "y", id="empty-plain-does-not"),
        pytest.param("d=", "", id="empty-alone"),
        pytest.param("d.0=a; d.1=b", "ab", id="joined"),
        pytest.param("d.1=b; x=y; d.0=a", "ab", id="header-order-does-not-matter"),
        pytest.param("d.10=c; d.9=b; d.2=a", "abc", id="numeric-order"),
        pytest.param("d.0=a; d.2=c", "ac", id="gap"),
        pytest.param("d.0=a; d.0=b", "b", id="last-duplicate"),
        pytest.param(" d.0 = a ;d.1=b", "ab", id="blanks"),
        pytest.param("d.0=a; d.01=b; d.+1=c; d.1x=d; d.=e; d.1.2=f; d.-1=g", "a", id="odd-numbers-are-other-cookies"),
        pytest.param("d.0=a; d.\u00b2=b", "a", id="digits-beyond-ascii"),
        pytest.param("d.0=a; d.0", "a", id="chunk-without-equals"),
        pytest.param("d.0", None, id="lone-chunk-without-equals"),
        pytest.param("d.0=a; dx1=b; xd.1=c; e.1=d; d=", "a", id="alike-names"),
        pytest.param("d.0=a; d.999999999999999=b", "ab", id="fifteen-digits"),
        pytest.param("d.0=a; d.1000000000000000=b", "a", id="sixteen-digits"),
        pytest.param("d.0=a=b", "a=b", id="equals-in-value"),
    ],
)
def test_find_session_data(header, found):
    assert cookies.find_session_data(header, "d") == found


def test_find_session_data_reads_a_hundred_chunks_and_no_more():
    chunks = [f"d.{index}={index}," for index in range(101)]
    assert cookies.find_session_data("; ".join(chunks[:100]), "d") == "".join(f"{index}," for index in range(100))
    assert cookies.find_session_data("; ".join(chunks), "d") is None


@pytest.mark.parametrize(
    ("header", "found"),
    [
        pytest.param(None, [], id="no-header"),
        pytest.param("a=b", [], id="other-cookies"),
        pytest.param("d.1=x; d=y;d.0=z; d.1=again", ["d.1", "d", "d.0"], id="in-the-order-they-came-each-once"),
        pytest.param("d.01=x; dx=y; xd=z; d.=v; d", [], id="names-that-are-alike"),
    ],
)
def test_names_of_session_data_in_a_header(header: str | None, found: list[str]) -> None:
    assert cookies.session_data_names(header, "d") == found


# --- decoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("abc", "abc", id="plain"),
        pytest.param('"abc"', "abc", id="quoted"),
        pytest.param('"abc', "ab", id="half-quoted-loses-its-end"),
        pytest.param('"', "", id="lone-quote"),
        pytest.param('abc"', 'abc"', id="quote-at-the-end"),
        pytest.param('"a%2Bb"', "a+b", id="quoted-and-escaped"),
        pytest.param("%22a%22", '"a"', id="escaped-quotes-stay"),
        pytest.param("a+b", "a+b", id="plus-is-plus"),
        pytest.param("%2B%2F%3D", "+/=", id="upper-case-escapes"),
        pytest.param("%2b%2f%3d", "+/=", id="lower-case-escapes"),
        pytest.param("%252B", "%2B", id="decoded-once"),
        pytest.param("%25252B", "%252B", id="decoded-once-again"),
        pytest.param("%2525", "%25", id="escaped-percent"),
        pytest.param("%2B%", "%2B%", id="stray-percent-keeps-all"),
        pytest.param("%2B%2", "%2B%2", id="short-escape"),
        pytest.param("%2B%zz", "%2B%zz", id="escape-without-digits"),
        pytest.param("%2B%2\u0663", "%2B%2\u0663", id="digits-beyond-ascii"),
        pytest.param("%C3%BC", "ü", id="utf-8"),
        pytest.param("%F0%9F%94%91", "🔑", id="utf-8-four-bytes"),
        pytest.param("%2B%FC", "%2B%FC", id="not-utf-8"),
        pytest.param("%C0%AF", "%C0%AF", id="overlong"),
        pytest.param("%ED%A0%80", "%ED%A0%80", id="surrogate"),
        pytest.param("%00%0A", "\x00\n", id="controls"),
        pytest.param("ü%20", "ü ", id="raw-non-ascii-beside-an-escape"),
        pytest.param("Ã%BC", "Ã%BC", id="raw-and-escaped-do-not-join"),
    ],
)
def test_decode_value(raw, text):
    assert cookies.decode_value(raw) == text


def naive_decode_uri_component(text: str) -> str:
    parts = re.split("((?:%[0-9A-Fa-f]{2})+)", text)
    if any("%" in part for part in parts[::2]):
        return text
    try:
        parts[1::2] = [bytes.fromhex(part.replace("%", "")).decode() for part in parts[1::2]]
    except UnicodeDecodeError:
        return text
    return "".join(parts)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["%", "2", "B", "f", "%25", "%2B", "%C3", "%bc", "%3D", "+"]) | LATIN_1).map("".join))
@example("%2%2BB")
@example("%%2B2F")
def test_decode_value_agrees_with_a_naive_reader(text):
    assume(not text.startswith('"'))
    assert cookies.decode_value(text) == naive_decode_uri_component(text)


# --- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secrets", [[], [""], ["good", ""]])
def test_keys_refuse_missing_secrets(secrets):
    with pytest.raises(ValueError, match=r"^at least one secret is needed, and none may be empty$"):
        Keys(secrets)


def test_keys_do_not_show_a_secret():
    keys = Keys(["first-secret", "second-secret"])
    assert repr(keys) == "<Keys: 2>"
    assert str(keys) == "<Keys: 2>"


def test_keys_sign_with_the_first():
    keys = Keys(["new", "old"])
    assert keys.current == b"new"
    mac = hmac.digest(b"new", b"message", "sha256")
    assert keys.sign(b"message") == b"message." + base64.b64encode(mac)
    assert keys.mac_matches(b"message", mac)
    assert not keys.mac_matches(b"message", hmac.digest(b"old", b"message", "sha256"))


def test_keys_find_the_key_of_a_mac():
    keys = Keys(["new", "old", "older"])
    found = [keys.find_key(b"m", hmac.digest(key, b"m", "sha256")) for key in (b"new", b"old", b"older", b"other")]
    assert found == [0, 1, 2, None]


def test_data_keys_are_those_of_the_captured_token():
    jwe = json.loads((VECTORS / "session-data.json").read_text(encoding="utf-8"))["jwe"]
    keys = Keys(["other", jwe["secret"]])
    assert keys.data_keys[1] == (jwe["kid"], bytes.fromhex(jwe["derivedKeyHex"]))
    assert keys.data_keys[0] == Keys(["other"]).data_keys[0] != keys.data_keys[1]
    assert len(keys.data_keys) == 2


def test_the_signer_keeps_the_promises_of_itsdangerous():
    signer: itsdangerous.Signer = Keys(["new", "old"])._signer
    assert signer.unsign(signer.sign("tok.en")) == b"tok.en"
    assert signer.unsign(Keys(["old"])._signer.sign(b"tok.en")) == b"tok.en"
    assert signer.validate(PLAIN) is False
    assert signer.validate(signer.sign("x") + b"\n") is False
    assert signer.derive_key() == b"new"
    assert signer.validate("no separator") is False
    with pytest.raises(itsdangerous.BadSignature):
        signer.unsign(b"y" + signer.sign("x")[1:])
    with pytest.raises(itsdangerous.BadSignature):
        signer.unsign("value.short")


# --- verifying: captured cases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [pytest.param(case, id=str(index)) for index, case in enumerate(SIGNED)])
def test_captured_signatures(case):
    keys = Keys([case["secret"]])
    assert cookies.sign_value(case["value"], keys) == case["cookieValue"]
    assert cookies.verify_value(case["cookieValue"], keys) == case["verifiesTo"]
    assert cookies.verify_token(case["cookieValue"], keys) == VerifiedToken(case["verifiesTo"], 0)
    assert keys.sign(case["value"].encode()).decode() == f"{case['value']}.{case['signature']}"


@pytest.mark.parametrize("case", named(HEADERS["cookieHeaderCases"]))
def test_captured_headers(case):
    raw = cookies.find_cookie(case["cookieHeader"], NAME)
    accepted = raw is not None and cookies.verify_token(raw, KEYS) is not None
    assert accepted == (case["accepted"] or case["name"] in DEAD_BUT_SIGNED)


def test_captured_headers_hold_both_verdicts():
    assert {case["accepted"] for case in HEADERS["cookieHeaderCases"]} == {True, False}
    assert {case["name"] for case in HEADERS["cookieHeaderCases"]} > DEAD_BUT_SIGNED


@pytest.mark.parametrize("case", named(HEADERS["getSessionCookie"]))
def test_presence_against_the_middleware_helper(case):
    """Where the helper finds a cookie under our one name, so do we; it has more names, and takes the last duplicate."""
    config = case["config"] or {}
    name = f"{config.get('cookiePrefix', 'better-auth')}.{config.get('cookieName', 'session_token')}"
    raw = cookies.find_cookie(case["cookie"], name)
    ours = None if raw is None else cookies.decode_value(raw) or None
    differing = {
        "secure": None,
        "both (secure wins)": "plain",
        "dash separator": None,
        "dash secure": None,
        "last duplicate wins": "1",
    }
    assert ours == differing.get(case["name"], case["result"])


# --- verifying: more cases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(WIRE, id="as-written"),
        pytest.param(PLAIN, id="unescaped"),
        pytest.param(f'"{WIRE}"', id="quoted"),
        pytest.param(WIRE.replace("%2BUU%3D", "%2BUV%3D"), id="unused-bits"),
        pytest.param("%48" + WIRE[1:], id="needless-escape"),
    ],
)
def test_verify_token_accepts(raw):
    assert cookies.verify_token(raw, KEYS) == VerifiedToken(TOKEN, 0)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param(TOKEN, id="unsigned"),
        pytest.param(TOKEN + ".", id="empty-signature"),
        pytest.param(PLAIN[32:], id="empty-token"),
        pytest.param(PLAIN[33:], id="signature-alone"),
        pytest.param(PLAIN.replace(".", ""), id="no-dot"),
        pytest.param(PLAIN.replace(".", ":"), id="another-separator"),
        pytest.param(PLAIN[:-1], id="unpadded"),
        pytest.param(PLAIN + "=", id="overpadded"),
        pytest.param(PLAIN + "A", id="trailing-character"),
        pytest.param(PLAIN.replace("/", "_").replace("+", "-"), id="base64url"),
        pytest.param(PLAIN.replace("ActT", "Act "), id="blank-within"),
        pytest.param(PLAIN.replace("ActT", "Act.T"), id="dot-within"),
        pytest.param(PLAIN.replace(".ActT", ". ActT"), id="blank-before-signature"),
        pytest.param(PLAIN[:-2] + "==", id="31-bytes"),
        pytest.param(PLAIN[:-1] + "A", id="33-bytes"),
        pytest.param(PLAIN[:40] + "=" + PLAIN[41:], id="padding-within"),
        pytest.param(PLAIN.replace("ActT", "Act\xe4"), id="non-ascii-signature"),
        pytest.param("\xe4" + PLAIN[1:], id="non-ascii-token"),
        pytest.param("\ud800" + PLAIN[1:], id="lone-surrogate"),
        pytest.param(PLAIN.replace("ActT", "ActU"), id="one-character-changed"),
        pytest.param(PLAIN.lower(), id="lower-case"),
        pytest.param(WIRE.replace("%2B", " "), id="plus-read-as-blank"),
        pytest.param(WIRE + "%", id="stray-percent"),
        pytest.param(WIRE.replace("%", "%25"), id="escaped-twice"),
    ],
)
def test_verify_refuses(raw):
    assert cookies.verify_token(raw, KEYS) is None
    assert cookies.verify_value(raw, KEYS) is None


def test_the_signature_begins_after_the_last_dot():
    assert cookies.verify_token(cookies.sign_value("a.b.c", KEYS), KEYS) == VerifiedToken("a.b.c", 0)
    assert cookies.verify_token(cookies.sign_value("a.", KEYS), KEYS) == VerifiedToken("a.", 0)


def test_the_shortest_token():
    assert cookies.verify_token(cookies.sign_value("a", KEYS), KEYS) == VerifiedToken("a", 0)


def test_an_empty_value_never_verifies():
    assert cookies.verify_value(cookies.sign_value("", KEYS), KEYS) is None


def test_older_secrets_verify_tokens_but_no_other_values():
    keys = Keys(["new", "old", SECRET])
    assert cookies.verify_token(WIRE, keys) == VerifiedToken(TOKEN, 2)
    assert cookies.verify_value(WIRE, keys) is None
    assert cookies.verify_token(WIRE, Keys([SECRET, "old"])) == VerifiedToken(TOKEN, 0)
    assert cookies.verify_token(WIRE, Keys(["new", "old"])) is None


def test_long_values_are_refused_before_hashing(monkeypatch):
    fits, too_long = "x" * (4096 - 45), "x" * (4096 - 44)
    signed = [KEYS.sign(value.encode()).decode() for value in (fits, too_long)]
    assert [len(text) for text in signed] == [4096, 4097]
    assert cookies.verify_token(signed[0], KEYS) == VerifiedToken(fits, 0)
    monkeypatch.setattr(cookies, "decode_value", None)
    assert cookies.verify_token(signed[1], KEYS) is None
    assert cookies.verify_value(signed[1], KEYS) is None


def test_what_was_verified_is_remembered_by_its_whole_value(monkeypatch):
    keys, others = Keys(["s" * 32]), Keys(["o" * 32])
    raw = cookies.sign_value("token", keys)
    verified = cookies.verify_token(raw, keys)
    assert verified == VerifiedToken(SessionToken("token"), 0)
    monkeypatch.setattr(keys, "find_key", lambda message, mac: pytest.fail("a MAC was computed again"))
    assert cookies.verify_token(raw, keys) is verified
    assert cookies.verify_token(raw, others) is None
    assert raw not in others.verified
    for changed in (raw[:-1], raw + "x", "t0ken" + raw[5:]):
        assert changed not in keys.verified


def test_what_is_remembered_is_bounded():
    keys = Keys(["s" * 32])
    for number in range(4097):
        assert cookies.verify_token(cookies.sign_value(f"t{number}", keys), keys) is not None
        assert len(keys.verified) <= 4096


def test_signing_a_lone_surrogate_raises():
    with pytest.raises(UnicodeEncodeError):
        cookies.sign_value("\ud800", KEYS)


VALUES = st.text(min_size=1, max_size=60)


@settings(deadline=None)
@given(VALUES)
def test_what_was_signed_verifies(value):
    wire = cookies.sign_value(value, KEYS)
    assert cookies.verify_value(wire, KEYS) == value
    assert cookies.verify_token(f'"{wire}"', Keys(["other", SECRET])) == VerifiedToken(value, 1)
    assert re.fullmatch(r"[A-Za-z0-9!'()*._~%-]+", wire)
    assert cookies.find_cookie(f"a=b; {NAME}={wire}; c=d", NAME) == wire


@settings(deadline=None)
@given(VALUES, st.integers(0, 255))
@example(TOKEN, 255)
@example(TOKEN, 0)
def test_any_flipped_bit_of_the_mac_fails(value, bit):
    mac = bytearray(hmac.digest(SECRET.encode(), value.encode(), hashlib.sha256))
    mac[bit // 8] ^= 1 << bit % 8
    raw = value.replace("%", "%25") + "." + base64.b64encode(mac).decode()
    assert cookies.verify_token(raw, KEYS) is None
    assert cookies.verify_value(raw, KEYS) is None


@settings(deadline=None)
@given(VALUES, VALUES)
def test_a_mac_is_good_for_its_own_value_only(value, other):
    assume(value != other)
    mac = cookies.sign_value(value, KEYS).rpartition(".")[2]
    assert cookies.verify_token(cookies.sign_value(other, KEYS).rpartition(".")[0] + "." + mac, KEYS) is None


ANY_TEXT = st.text(st.characters(exclude_categories=()))


@settings(deadline=None)
@given(ANY_TEXT | COOKIE_HEADERS)
@example(WIRE[:33] + "\ud800" * 44)
def test_nothing_raises_on_arbitrary_text(text):
    assert cookies.verify_token(text, KEYS) is None
    assert cookies.verify_value(text, KEYS) is None
    assert isinstance(cookies.decode_value(text), str)
    cookies.find_cookie(text, NAME)
    cookies.find_session_data(text, NAMES.session_data)
    cookies.dedupe_cookie(text, NAME)
    cookies.strip_cookies(text, NAMES)


# --- forwarding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "result"),
    [
        pytest.param("n=1; n=2", "n=1", id="two"),
        pytest.param("a=b; n=1; c=d; n=2; n=3;e=f", "a=b; n=1; c=d;e=f", id="three-among-others"),
        pytest.param("n=1; n", "n=1; n", id="nameless-part-is-no-duplicate"),
        pytest.param("n; n=1; n=2", "n; n=1", id="nameless-part-is-not-the-first"),
        pytest.param("n=; n=2", "n=", id="empty-first"),
        pytest.param("n=1; \tn =2", "n=1", id="blanks-around-the-duplicate"),
        pytest.param("n=1;\xa0n=2", "n=1", id="blank-that-better-call-trims"),
        pytest.param(" n=1; n=2", "n=1", id="leading-blank"),
        pytest.param("n=1; n=2;", "n=1;", id="trailing-semicolon"),
    ],
)
def test_dedupe_cookie(header, result):
    assert cookies.dedupe_cookie(header, "n") == result


@pytest.mark.parametrize("header", ["", "a=b", " a=b ;", "n=1", "n=1; xn=2; nx=3; N=4", "a=n; b=n", " n=1;"])
def test_dedupe_cookie_returns_the_same_object(header):
    assert cookies.dedupe_cookie(header, "n") is header


@pytest.mark.parametrize(
    ("header", "result"),
    [
        pytest.param("p.session_token=1", "", id="nothing-left"),
        pytest.param("p.session_token=1; p.session_data=2; p.dont_remember=3", "", id="all-three"),
        pytest.param("p.session_token=1=2; a=b=c", "a=b=c", id="equals-in-values"),
        pytest.param("p.session_token=1;", "", id="only-a-semicolon-left"),
        pytest.param("p.session_token=1; ; \t;", "", id="only-blanks-left"),
        pytest.param("p.session_token=1; a=b", "a=b", id="first"),
        pytest.param("a=b; p.session_token=1; c=d", "a=b; c=d", id="middle"),
        pytest.param("a=b; p.session_token=1", "a=b", id="last"),
        pytest.param("p.session_token=1; p.session_token=2; a=b", "a=b", id="duplicates"),
        pytest.param("p.session_data.0=1; p.session_data.1=2;p.session_data.99=3; a=b", "a=b", id="chunks"),
        pytest.param(" p.dont_remember =1;\xa0p.session_token=2;a=b", "a=b", id="blanks-around-names"),
        pytest.param('p.session_token=1; a={"b":1};c="d ; e=%', 'a={"b":1};c="d ; e=%', id="odd-neighbours-stay"),
        pytest.param("p.session_token=1; p.session_token", "p.session_token", id="nameless-part-stays"),
        pytest.param(
            "gatekeeper.device=1; a=b; __Host-gatekeeper.form=2; gatekeeperx=3",
            "a=b; gatekeeperx=3",
            id="the-gates-own",
        ),
    ],
)
def test_strip_cookies(header, result):
    assert cookies.strip_cookies(header, cookies.cookie_names("p", secure=False)) == result


@pytest.mark.parametrize(
    ("header", "result"),
    [
        ("p.session_data=1", ""),
        ("p.session_token=1; p.session_data=2; a=b", "p.session_token=1; a=b"),
        ("p.session_data.0=1; p.session_token=2; p.session_data.1=3; p.session_data=4", "p.session_token=2"),
        (
            "p.session_datax=1; p.session_data.x=2; q.session_data=3",
            "p.session_datax=1; p.session_data.x=2; q.session_data=3",
        ),
        ("", ""),
    ],
)
def test_strip_session_data(header, result):
    assert cookies.strip_session_data(header, "p.session_data") == result


@pytest.mark.parametrize(
    "header",
    [
        "",
        ";",
        " a=b",
        "p.session_data.x=1; p.session_data.01=2; p.session_datax=3; p.session_data",
        "__Secure-p.session_token=1; P.session_token=2; xp.dont_remember=3; p.two_factor=4",
    ],
)
def test_strip_cookies_returns_the_same_object(header):
    assert cookies.strip_cookies(header, cookies.cookie_names("p", secure=False)) is header


def is_session_cookie(key: str) -> bool:
    return key in (NAMES.session_token, NAMES.session_data, NAMES.dont_remember) or bool(
        re.fullmatch(re.escape(NAMES.session_data) + r"\.(0|[1-9][0-9]{0,14})", key)
    )


@settings(deadline=None)
@given(COOKIE_HEADERS)
def test_strip_leaves_every_other_cookie_as_it_was(header):
    stripped = cookies.strip_cookies(header, NAMES)
    assert naive_cookies(stripped) == [pair for pair in naive_cookies(header) if not is_session_cookie(pair[0])]
    assert cookies.find_session_data(stripped, NAMES.session_data) is None
    assert cookies.strip_cookies(stripped, NAMES) is stripped


@settings(deadline=None)
@given(COOKIE_HEADERS)
def test_dedupe_leaves_every_other_cookie_as_it_was(header):
    result = cookies.dedupe_cookie(header, NAME)
    before, after = naive_cookies(header), naive_cookies(result)
    assert [pair for pair in after if pair[0] != NAME] == [pair for pair in before if pair[0] != NAME]
    assert [pair for pair in after if pair[0] == NAME] == [pair for pair in before if pair[0] == NAME][:1]
    assert cookies.find_cookie(result, NAME) == cookies.find_cookie(header, NAME)
    assert cookies.dedupe_cookie(result, NAME) is result


KEPT_PARTS = st.from_regex(r"[a-z]{1,3}=[!-:<-~]{0,8}", fullmatch=True)
DROPPED_PARTS = st.sampled_from([f"{NAME}=x", f"{NAMES.session_data}=y", f"{NAMES.session_data}.7=z"])


@settings(deadline=None)
@given(st.lists(KEPT_PARTS | DROPPED_PARTS))
def test_strip_keeps_the_bytes_between(parts):
    kept = [part for part in parts if not part.startswith("better-auth.")]
    assert cookies.strip_cookies("; ".join(parts), NAMES) == "; ".join(kept)


# --- Set-Cookie ----------------------------------------------------------------------------------------------------

LINES = [
    pytest.param(line, id=f"{config['name']}: {key} {index}")
    for config in HEADERS["cookieAttributes"]
    for key in ("signUp", "signInDontRemember", "signInAgainRememberTrueWhileDontRememberCookie", "signOut")
    for index, line in enumerate(config[key])
]


@pytest.mark.parametrize("line", LINES)
def test_captured_set_cookie_lines(line):
    pair, *attributes = line.split("; ")
    name, _, value = pair.partition("=")
    given_attributes = dict(attribute.partition("=")[::2] for attribute in attributes)
    max_age = given_attributes.get("Max-Age")
    rebuilt = cookies.set_cookie(
        name,
        value,
        max_age=None if max_age is None else int(max_age),
        domain=given_attributes.get("Domain"),
        secure="Secure" in given_attributes,
        same_site=given_attributes["SameSite"].lower(),
        http_only="HttpOnly" in given_attributes,
    )
    assert rebuilt == line


def set_cookie(**changed: Any) -> str:
    arguments: dict[str, Any] = {"max_age": None, "domain": None, "secure": False, "same_site": "lax"}
    return cookies.set_cookie(**{"name": "n", "value": "v", **arguments, **changed})


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        pytest.param({}, "n=v; Path=/; HttpOnly; SameSite=Lax", id="least"),
        pytest.param(
            {"max_age": 5, "domain": ".a.test", "secure": True, "same_site": "strict"},
            "n=v; Max-Age=5; Domain=.a.test; Path=/; HttpOnly; Secure; SameSite=Strict",
            id="most",
        ),
        pytest.param({"http_only": False}, "n=v; Path=/; SameSite=Lax", id="readable-by-scripts"),
        pytest.param({"max_age": 0, "value": ""}, "n=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax", id="cleared"),
        pytest.param({"max_age": 34560000}, "n=v; Max-Age=34560000; Path=/; HttpOnly; SameSite=Lax", id="400-days"),
        pytest.param({"same_site": "none"}, "n=v; Path=/; HttpOnly; Secure; SameSite=None", id="none-is-secure"),
        pytest.param(
            {"name": "__Secure-n"}, "__Secure-n=v; Path=/; HttpOnly; Secure; SameSite=Lax", id="secure-by-its-name"
        ),
        pytest.param({"value": "!~:<"}, "n=!~:<; Path=/; HttpOnly; SameSite=Lax", id="outermost-characters"),
    ],
)
def test_set_cookie(changed, line):
    assert set_cookie(**changed) == line


@pytest.mark.parametrize("argument", ["name", "value", "domain"])
@pytest.mark.parametrize("bad", [";", " ", "\r", "\n", "\x00", "\x7f", "ü"])
def test_set_cookie_refuses_what_would_end_its_place(argument, bad):
    message = r"^a cookie's name, value and domain are printable ASCII without blanks and semicolons$"
    with pytest.raises(ValueError, match=message):
        set_cookie(**{argument: f"x{bad}y"})


@pytest.mark.parametrize("max_age", [-1, 34560001])
def test_set_cookie_refuses_other_lifetimes(max_age):
    with pytest.raises(ValueError, match=r"^Max-Age is between 0 and 34560000 seconds$"):
        set_cookie(max_age=max_age)


@pytest.mark.parametrize(
    ("header", "result"),
    [
        ("a=1; n=old; n=older", "a=1; n=new; n=older"),
        ("n=old", "n=new"),
        (" n =old;b=2", " n =new;b=2"),
        ("n; m=1", "n; m=1"),
        ("", ""),
    ],
)
def test_replace_cookies(header, result):
    assert cookies.replace_cookies(header, {"n": "new"}) == result


def test_keys_say_whether_there_are_older_ones():
    assert Keys(["current", "older"]).has_older
    assert not Keys(["current"]).has_older


@pytest.mark.parametrize(
    ("one", "other", "same"), [("a", "a", True), ("a", "b", False), ("ł", "ł", True), ("", "a", False)]
)
def test_secrets_are_compared_by_their_bytes(one, other, same):
    assert cookies.is_same_secret(one, other) is same
