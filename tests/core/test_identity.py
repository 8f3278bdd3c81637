"""Identity headers: which names are reserved, what is written, and that a client's JavaScript could read it back."""

import hashlib
import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatekeeper.core import identity as identity_module
from gatekeeper.core.identity import (
    PRESETS,
    TOTAL_LIMIT,
    VALUE_LIMIT,
    HeaderNames,
    encode_value,
    fold_name,
    identity_headers,
    identity_lines,
    is_reserved,
    reserved_by,
    session_digest,
)
from gatekeeper.core.model import ANONYMOUS, UNKNOWN, AuthStatus, Identity, SessionRecord
from tests.core.records import TOKEN, authenticated, record

LINE = re.compile(rb"X-Auth-[A-Za-z-]+: [!-~](?:[ -~]*[!-~])?")


def decode(value: str) -> str:
    """JavaScript's decodeURIComponent, which refuses what is no UTF-8."""
    assert not re.search("%(?![0-9A-F]{2})", value)
    return unquote(value, errors="strict")


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        pytest.param(b"X-Auth-User-Id", "x-auth-user-id", id="case"),
        pytest.param(b"X_Auth_User_Id", "x-auth-user-id", id="underscores"),
        pytest.param(b"x.auth~user!id", "x-auth-user-id", id="any-other-token-character"),
        pytest.param(b"X--Auth", "x--auth", id="each-character-by-itself"),
        pytest.param(b"x9", "x9", id="digits-stay"),
        pytest.param(b"az-AZ-09", "az-az-09", id="ends-of-the-ranges"),
        pytest.param(b"x\xc4auth", "x-auth", id="latin-1-letter"),
        pytest.param(b"/:@[`{", "------", id="next-to-the-ranges"),
        pytest.param(b"", "", id="empty"),
    ],
)
def test_fold_name(name: bytes, folded: str) -> None:
    assert fold_name(name) == folded


@pytest.mark.parametrize(
    ("folded", "reserved"),
    [
        pytest.param("x-auth-user-id", True, id="ours"),
        pytest.param("x-auth-anything", True, id="the-whole-namespace"),
        pytest.param("x-auth-", True, id="the-prefix-alone"),
        pytest.param("x-middleware-subrequest", True, id="internals-of-next-js"),
        pytest.param("x-auth", False, id="without-the-last-dash"),
        pytest.param("x-authority", False, id="a-longer-word"),
        pytest.param("my-x-auth-user", False, id="not-at-the-start"),
        pytest.param("authorization", False, id="authorization"),
    ],
)
def test_is_reserved(folded: str, reserved: bool) -> None:
    assert is_reserved(folded) is reserved


# --- which headers -------------------------------------------------------------------------------------------------


def test_everything_known_of_a_user() -> None:
    who = authenticated(
        {"active_organization_id": "org_1", "impersonated_by": "admin_1"},
        id="user_9f2c",
        name="Ada Łoś",
        email="Ada@EXAMPLE.com",
        role="editor,admin",
    )
    assert identity_headers(who) == {
        "X-Auth-Status": "authenticated",
        "X-Auth-User-Id": "user_9f2c",
        "X-Auth-Email": "Ada@example.com",
        "X-Auth-Email-Verified": "true",
        "X-Auth-Session-Id": hashlib.sha256(TOKEN.encode()).digest()[:16].hex(),
        "X-Auth-Impersonated-By": "admin_1",
        "X-Auth-Organization-Id": "org_1",
        "X-Auth-Roles": "admin,editor",
        "X-Auth-Name": "Ada %C5%81o%C5%9B",
    }


@pytest.mark.parametrize(
    ("who", "missing"),
    [
        pytest.param(authenticated(email_verified=False), "X-Auth-Email", id="unverified-email"),
        pytest.param(authenticated(email=""), "X-Auth-Email", id="no-email"),
        pytest.param(authenticated(email="a" * (VALUE_LIMIT + 1)), "X-Auth-Email", id="email-too-long"),
        pytest.param(authenticated(id=""), "X-Auth-User-Id", id="no-user-id"),
        pytest.param(authenticated(name=""), "X-Auth-Name", id="no-name"),
        pytest.param(authenticated(role=None), "X-Auth-Roles", id="no-role"),
        pytest.param(authenticated(role=" , "), "X-Auth-Roles", id="blank-roles"),
        pytest.param(authenticated(), "X-Auth-Organization-Id", id="no-organization"),
        pytest.param(authenticated({"active_organization_id": ""}), "X-Auth-Organization-Id", id="empty-organization"),
        pytest.param(authenticated(), "X-Auth-Impersonated-By", id="not-impersonated"),
        pytest.param(authenticated({"impersonated_by": ""}), "X-Auth-Impersonated-By", id="empty-impersonator"),
    ],
)
def test_a_header_without_a_value_is_left_out(who: Identity, missing: str) -> None:
    headers = identity_headers(who)
    assert missing not in headers
    assert headers["X-Auth-Status"] == "authenticated"
    assert headers["X-Auth-Session-Id"]


def test_an_unverified_address_is_told_as_unverified() -> None:
    assert identity_headers(authenticated(email_verified=False))["X-Auth-Email-Verified"] == "false"


@pytest.mark.parametrize(
    ("email", "sent"),
    [
        pytest.param("Ada@Example.COM", "Ada@example.com", id="domain-in-lower-case"),
        pytest.param("a@b@C.com", "a@b@C.com", id="no-clear-domain-stays"),
        pytest.param("jürgen@example.com", "j%C3%BCrgen@example.com", id="encoded"),
        pytest.param("a\r\nX-Auth-Roles: admin@e.com", "a%0D%0AX-Auth-Roles: admin@e.com", id="line-end"),
    ],
)
def test_email(email: str, sent: str) -> None:
    assert identity_headers(authenticated(email=email))["X-Auth-Email"] == sent


@pytest.mark.parametrize(
    ("role", "sent"),
    [
        pytest.param("admin", "admin", id="one"),
        pytest.param("b, a ,c", "a,b,c", id="sorted-and-trimmed"),
        pytest.param("a,a", "a", id="once"),
        pytest.param("team lead", "team lead", id="blank-inside"),
        pytest.param("x%2Cadmin", "x%252Cadmin", id="an-escape-is-no-comma"),
        pytest.param("größe", "gr%C3%B6%C3%9Fe", id="not-ascii"),
        pytest.param("a\r\nb,c", "c", id="line-end-left-out"),
        pytest.param("a\x00,c", "c", id="control-left-out"),
        pytest.param("a\x7f,c", "c", id="delete-left-out"),
        pytest.param("r" * VALUE_LIMIT, "r" * VALUE_LIMIT, id="as-long-as-allowed"),
        pytest.param("a," + "r" * VALUE_LIMIT, "a", id="what-does-not-fit"),
        pytest.param("a" * (VALUE_LIMIT - 2) + ",b", "a" * (VALUE_LIMIT - 2) + ",b", id="two-that-just-fit"),
        pytest.param("a" * (VALUE_LIMIT - 1) + ",b", "a" * (VALUE_LIMIT - 1), id="two-that-just-do-not"),
        pytest.param("r" * (VALUE_LIMIT + 1) + ",z", "z", id="a-later-one-may-fit"),
    ],
)
def test_roles(role: str, sent: str) -> None:
    assert identity_headers(authenticated(role=role))["X-Auth-Roles"] == sent


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(ANONYMOUS, id="anonymous"),
        pytest.param(UNKNOWN, id="unknown"),
        pytest.param(Identity(AuthStatus.ANONYMOUS, record()), id="anonymous-with-a-record"),
        pytest.param(Identity(AuthStatus.UNKNOWN, record()), id="unknown-with-a-record"),
        pytest.param(Identity(AuthStatus.AUTHENTICATED, None), id="no-record"),
    ],
)
def test_without_a_verified_record_there_is_the_status_alone(who: Identity) -> None:
    assert identity_headers(who) == {"X-Auth-Status": who.status.value}
    assert identity_lines(who) == f"X-Auth-Status: {who.status.value}\r\n".encode()


def test_status_words() -> None:
    assert identity_lines(ANONYMOUS) == b"X-Auth-Status: anonymous\r\n"
    assert identity_lines(UNKNOWN) == b"X-Auth-Status: unknown\r\n"


def test_lines() -> None:
    assert identity_lines(authenticated(name="A", role="admin")) == (
        b"X-Auth-Status: authenticated\r\n"
        b"X-Auth-User-Id: user_1\r\n"
        b"X-Auth-Email: ada@example.com\r\n"
        b"X-Auth-Email-Verified: true\r\n"
        b"X-Auth-Session-Id: " + session_digest(TOKEN).encode() + b"\r\n"
        b"X-Auth-Roles: admin\r\n"
        b"X-Auth-Name: A\r\n"
    )


def test_lines_are_made_once_for_a_record() -> None:
    who = authenticated()
    assert identity_lines(who) is identity_lines(Identity(AuthStatus.AUTHENTICATED, who.record))


def test_lines_of_equal_records_do_not_get_mixed_up_with_those_of_others() -> None:
    assert identity_lines(authenticated()) == identity_lines(authenticated())
    assert b"user_2" in identity_lines(authenticated(id="user_2"))
    assert b"user_2" not in identity_lines(authenticated())


def test_a_record_is_not_remembered_as_anonymous() -> None:
    known = record(id="user_3")
    for status in (AuthStatus.ANONYMOUS, AuthStatus.UNKNOWN):
        assert identity_lines(Identity(status, known)) == f"X-Auth-Status: {status.value}\r\n".encode()
    assert b"X-Auth-User-Id: user_3\r\n" in identity_lines(Identity(AuthStatus.AUTHENTICATED, known))


def test_the_memory_of_lines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[int, tuple[SessionRecord, HeaderNames, bytes]] = {}
    monkeypatch.setattr(identity_module, "_known_lines", known)
    monkeypatch.setattr(identity_module, "_MEMO_LIMIT", 3)
    for number in range(20):
        assert f"X-Auth-User-Id: u{number}\r\n".encode() in identity_lines(authenticated(id=f"u{number}"))
        assert len(known) <= 3
    assert len(known) == 2  # 20 = 6 × 3 + 2: not a place was left unused


# --- other names ---------------------------------------------------------------------------------------------------

WHO = authenticated(name="Ada Łoś", role="editor,admin")


@pytest.mark.parametrize(
    ("preset", "sent"),
    [
        pytest.param(
            "remote-user",
            {
                "Remote-User": "user_1",
                "Remote-Email": "ada@example.com",
                "Remote-Groups": "admin,editor",
                "Remote-Name": "Ada %C5%81o%C5%9B",
            },
            id="remote-user",
        ),
        pytest.param(
            "x-forwarded",
            {
                "X-Forwarded-User": "user_1",
                "X-Forwarded-Email": "ada@example.com",
                "X-Forwarded-Groups": "admin,editor",
                "X-Forwarded-Preferred-Username": "Ada %C5%81o%C5%9B",
            },
            id="x-forwarded",
        ),
        pytest.param(
            "x-auth-request",
            {
                "X-Auth-Request-User": "user_1",
                "X-Auth-Request-Email": "ada@example.com",
                "X-Auth-Request-Groups": "admin,editor",
                "X-Auth-Request-Preferred-Username": "Ada %C5%81o%C5%9B",
            },
            id="x-auth-request",
        ),
        pytest.param("pomerium", {}, id="pomerium"),
    ],
)
def test_presets(preset: str, sent: dict[str, str]) -> None:
    names = PRESETS[preset]
    assert identity_headers(WHO, names) == {"X-Auth-Status": "authenticated", **sent}
    assert identity_headers(ANONYMOUS, names) == {"X-Auth-Status": "anonymous"}
    assert identity_lines(WHO, names) == "".join(
        f"{name}: {value}\r\n" for name, value in identity_headers(WHO, names).items()
    ).encode("ascii")


def test_the_assertion_has_a_header_in_every_preset() -> None:
    assert {preset: names.assertion for preset, names in PRESETS.items()} == {
        "gatekeeper": "X-Auth-Assertion",
        "remote-user": "X-Auth-Assertion",
        "x-forwarded": "X-Auth-Assertion",
        "x-auth-request": "X-Auth-Assertion",
        "pomerium": "X-Pomerium-Jwt-Assertion",
    }


def test_single_headers_have_other_names_or_are_left_out() -> None:
    names = PRESETS["gatekeeper"].renamed(
        {"x-auth-email": "X-WEBAUTH-USER", "X-Auth-Name": "", "X-Auth-Status": "X-Seen", "X-AUTH-ASSERTION": "X-Jwt"}
    )
    headers = identity_headers(WHO, names)
    assert headers["X-WEBAUTH-USER"] == "ada@example.com"
    assert headers["X-Seen"] == "authenticated"
    assert not {"X-Auth-Email", "X-Auth-Name", "X-Auth-Status"} & headers.keys()
    assert names.assertion == "X-Jwt"
    assert identity_lines(UNKNOWN, names) == b"X-Seen: unknown\r\n"


def test_what_is_not_sent_has_no_other_name() -> None:
    with pytest.raises(KeyError):
        PRESETS["remote-user"].renamed({"X-Auth-Email": "X-Email"})


def test_lines_of_one_set_of_names_are_not_those_of_another() -> None:
    for preset in ("gatekeeper", "remote-user", "gatekeeper"):
        assert (b"Remote-User" in identity_lines(WHO, PRESETS[preset])) is (preset == "remote-user")


def test_our_namespace_alone_reserves_nothing_more() -> None:
    assert reserved_by("gatekeeper", PRESETS["gatekeeper"]) is None
    assert reserved_by("gatekeeper", PRESETS["gatekeeper"].renamed({"X-Auth-Name": "X_Auth_Full"})) is None
    assert reserved_by("x-auth-request", PRESETS["x-auth-request"]) is None


@pytest.mark.parametrize(
    ("preset", "rename", "folded"),
    [
        *(("remote-user", {}, name) for name in ("remote-user", "remote-groups", "remote-sub", "remote-")),
        ("remote-user", {"Remote-User": "X-Me"}, "remote-user"),
        ("remote-user", {"Remote-User": "X-Me"}, "x-me"),
        ("gatekeeper", {"X-Auth-Email": "X_WebAuth.User"}, "x-webauth-user"),
        ("x-forwarded", {}, "x-forwarded-user"),
        *(("pomerium", {}, name) for name in ("x-pomerium-jwt-assertion", "x-pomerium-claim-email")),
    ],
)
def test_what_we_send_and_what_apps_of_a_preset_read_is_reserved(
    preset: str, rename: dict[str, str], folded: str
) -> None:
    reserved = reserved_by(preset, PRESETS[preset].renamed(rename))
    assert reserved is not None
    assert folded in reserved
    assert "x-something" not in reserved
    assert "remot" not in reserved


def test_reserved_names_show_themselves() -> None:
    reserved = reserved_by("remote-user", PRESETS["gatekeeper"].renamed({"X-Auth-Email": "X-Mail"}))
    assert repr(reserved) == (
        "<ReservedNames ['remote-email', 'remote-groups', 'remote-name', 'remote-user', 'x-mail'] ['remote-']>"
    )


# --- the session's public name -------------------------------------------------------------------------------------


def test_session_digest_is_half_of_a_sha256() -> None:
    # printf %s abc | sha256sum
    assert session_digest("abc") == "ba7816bf8f01cfea414140de5dae2223"


@given(st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=16, max_size=64))
def test_the_token_is_never_told(token: str) -> None:
    lines = identity_lines(authenticated({"token": token})).decode()
    assert token not in lines
    assert f"X-Auth-Session-Id: {session_digest(token)}\r\n" in lines


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("Ada Lovelace", "Ada Lovelace", id="plain"),
        pytest.param("100%", "100%25", id="percent"),
        pytest.param("%41", "%2541", id="looks-encoded"),
        pytest.param("!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~", "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~", id="all-punctuation"),
        pytest.param("a\r\nb", "a%0D%0Ab", id="line-end"),
        pytest.param("a\tb", "a%09b", id="tab"),
        pytest.param("\x00\x1f\x7f", "%00%1F%7F", id="controls"),
        pytest.param("é", "%C3%A9", id="two-bytes"),
        pytest.param("\x80", "%C2%80", id="a-control-of-latin-1"),
        pytest.param("漢", "%E6%BC%A2", id="three-bytes"),
        pytest.param("😀", "%F0%9F%98%80", id="four-bytes"),
        pytest.param("a\ud800b", "a?b", id="lone-surrogate"),
        pytest.param(" a b ", "%20a b%20", id="blanks-at-the-ends"),
        pytest.param("  Xa", "%20%20Xa", id="leading-blanks"),
        pytest.param("a   ", "a%20%20%20", id="trailing-blanks"),
        pytest.param("  ", "%20%20", id="only-blanks"),
    ],
)
def test_encode_value(text: str, encoded: str) -> None:
    assert encode_value(text) == encoded


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(" %aé😀\r\n\0", max_size=12)


@given(TEXT)
def test_an_encoded_value_is_printable_and_decodes_to_the_text(text: str) -> None:
    encoded = encode_value(text)
    assert re.fullmatch("[ -~]*", encoded)
    assert encoded == encoded.strip()
    assert decode(encoded) == text


def name_header(name: str) -> str:
    return identity_headers(authenticated(name=name))["X-Auth-Name"]


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        pytest.param("a" * 1024, "a" * 1024, id="just-fits"),
        pytest.param("a" * 1025, "a" * 1024, id="cut"),
        pytest.param("a" * 1021 + "%", "a" * 1021 + "%25", id="escape-just-fits"),
        pytest.param("a" * 1021 + "%b", "a" * 1021 + "%25", id="cut-behind-an-escape"),
        pytest.param("a" * 1022 + "%b", "a" * 1022, id="one-digit-too-many"),
        pytest.param("a" * 1023 + "%b", "a" * 1023, id="two-digits-too-many"),
        pytest.param("a" * 1024 + "%b", "a" * 1024, id="escape-behind-the-cut"),
        pytest.param("a" * 1018 + "éb", "a" * 1018 + "%C3%A9", id="character-just-fits"),
        pytest.param("a" * 1019 + "éb", "a" * 1019, id="inside-the-second-byte"),
        pytest.param("a" * 1021 + "éb", "a" * 1021, id="between-the-bytes"),
        pytest.param("a" * 1013 + "😀b", "a" * 1013, id="before-the-last-of-four-bytes"),
        pytest.param("a" * 1012 + "😀b", "a" * 1012 + "%F0%9F%98%80", id="behind-the-last-of-four-bytes"),
        pytest.param("a" * 1015 + "😀b", "a" * 1015, id="behind-the-third-of-four-bytes"),
        pytest.param("a" * 1018 + "\xbfb", "a" * 1018 + "%C2%BF", id="last-continuation-fits"),
        pytest.param("a" * 1021 + "\xbfb", "a" * 1021, id="last-continuation-byte"),
        pytest.param("a" * 1021 + "\xafb", "a" * 1021, id="continuation-byte-a"),
        pytest.param("a" * 1021 + "\x80b", "a" * 1021, id="first-continuation-byte"),
        pytest.param("a" * 1021 + "\x90b", "a" * 1021, id="continuation-byte-9"),
        pytest.param("a" * 1018 + "é%", "a" * 1018 + "%C3%A9", id="an-escape-that-continues-nothing"),
        pytest.param("a" * 1018 + "éé", "a" * 1018 + "%C3%A9", id="a-lead-byte-continues-nothing"),
        pytest.param("a" * 1020 + "  b  " + "c" * 9, "a" * 1020 + "  b", id="no-blank-at-the-end"),
        pytest.param("a" * 1024 + "9", "a" * 1024, id="a-digit-behind-the-cut"),
        pytest.param("a" * 1020 + "bX  X" + "c" * 9, "a" * 1020 + "bX", id="only-blanks-go-at-the-end"),
        pytest.param("%" * 342, "%25" * 341, id="only-escapes"),
    ],
)
def test_a_long_name_is_cut_between_characters(name: str, sent: str) -> None:
    assert name_header(name) == sent


@given(
    st.integers(min_value=1005, max_value=1026),
    st.text("aé漢😀%\r \x7f\x80\xbf", min_size=1, max_size=24),
)
@example(1021, "é")
def test_a_cut_name_decodes_to_a_beginning_of_the_name(filler: int, tail: str) -> None:
    name = "x" * filler + tail
    sent = name_header(name)
    assert len(sent) <= VALUE_LIMIT
    assert name.startswith(decode(sent))
    if len(encode_value(name)) <= VALUE_LIMIT:
        assert decode(sent) == name
    else:
        assert len(sent) > VALUE_LIMIT - 12 - 24 or sent.endswith("x")  # no more is lost than must be


def long_user(**changes: Any) -> Identity:
    return authenticated(
        {"active_organization_id": "o" * 500, "impersonated_by": "i" * 500},
        **{"id": "u" * 1024, "email": "e" * 1024, "role": "r" * 1024, "name": "n" * 2000} | changes,
    )


def test_the_limits() -> None:
    assert (VALUE_LIMIT, TOTAL_LIMIT) == (1024, 4096)


def test_the_total_is_limited_and_the_name_is_the_first_to_go() -> None:
    headers = identity_headers(long_user(role="r" * 700))
    assert len(identity_lines(long_user(role="r" * 700))) <= TOTAL_LIMIT
    assert "X-Auth-Name" not in headers
    assert headers["X-Auth-Impersonated-By"] == "i" * 500
    assert headers["X-Auth-Organization-Id"] == "o" * 500
    assert headers["X-Auth-Roles"] == "r" * 700


def test_what_comes_after_the_limit_is_left_out_even_if_it_would_fit() -> None:
    headers = identity_headers(long_user(name="n"))
    assert "X-Auth-Roles" not in headers
    assert "X-Auth-Name" not in headers


def test_the_limit_counts_every_byte_of_every_line() -> None:
    rest = len(identity_lines(long_user(role="r", name="")))
    fits = 1 + TOTAL_LIMIT - rest
    assert len(identity_lines(long_user(role="r" * fits, name=""))) == TOTAL_LIMIT
    assert "X-Auth-Roles" not in identity_headers(long_user(role="r" * (fits + 1), name=""))


def test_a_value_may_be_just_as_long_as_the_limit() -> None:
    assert identity_headers(authenticated(id="u" * VALUE_LIMIT))["X-Auth-User-Id"] == "u" * VALUE_LIMIT
    assert "X-Auth-User-Id" not in identity_headers(authenticated(id="u" * (VALUE_LIMIT + 1)))


@given(
    id=TEXT,
    name=st.text(max_size=2000) | TEXT,
    email=TEXT,
    email_verified=st.booleans(),
    role=st.none() | TEXT,
    organization=st.none() | TEXT,
    impersonator=st.none() | TEXT,
)
def test_lines_are_always_well_formed(
    id: str,
    name: str,
    email: str,
    email_verified: bool,
    role: str | None,
    organization: str | None,
    impersonator: str | None,
) -> None:
    who = authenticated(
        {"active_organization_id": organization, "impersonated_by": impersonator},
        id=id,
        name=name,
        email=email,
        email_verified=email_verified,
        role=role,
    )
    raw = identity_lines(who)
    assert len(raw) <= TOTAL_LIMIT
    assert raw.endswith(b"\r\n")
    lines = raw[:-2].split(b"\r\n")
    assert all(LINE.fullmatch(line) for line in lines)
    headers = dict(line.decode("ascii").split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert headers == identity_headers(who)
    assert ("X-Auth-Email" in headers) == (email_verified and bool(email))
    for header, text in (
        ("X-Auth-User-Id", id),
        ("X-Auth-Organization-Id", organization),
        ("X-Auth-Impersonated-By", impersonator),
    ):
        assert decode(headers.get(header, "")) == (text or "")
