"""`stores.records`: what is read as a session, and what is not."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.model import Session, SessionRecord, User
from gatekeeper.stores.records import date_ms, record_of

MOMENT_MS = 1_795_489_854_744
MOMENT = "2026-11-24T03:10:54.744Z"

SESSION: dict[str, Any] = {
    "id": "session_1",
    "token": "token_1",
    "userId": "user_1",
    "expiresAt": MOMENT,
    "createdAt": "2026-11-24T03:10:54.000Z",
    "updatedAt": "2026-11-24T03:10:55.000Z",
    "ipAddress": "",
    "userAgent": "",
}
USER: dict[str, Any] = {
    "id": "user_1",
    "name": "Ada Lovelace",
    "email": "ada@example.test",
    "emailVerified": 1,
    "image": None,
    "createdAt": MOMENT,
    "updatedAt": MOMENT,
}


def read(session: dict[str, Any] | None = None, **user: Any) -> SessionRecord | None:
    return record_of({**SESSION, **(session or {})}, {**USER, **user})


def user_of(**changes: Any) -> User:
    record = read(**changes)
    assert record is not None
    return record.user


def test_a_row_is_a_record_with_empty_texts_kept() -> None:
    assert read() == SessionRecord(
        Session(
            id="session_1",
            token="token_1",
            user_id="user_1",
            expires_at_ms=MOMENT_MS,
            created_at_ms=MOMENT_MS - 744,
            updated_at_ms=MOMENT_MS + 256,
            ip_address="",
            user_agent="",
        ),
        User(
            id="user_1",
            name="Ada Lovelace",
            email="ada@example.test",
            email_verified=True,
            image=None,
            created_at_ms=MOMENT_MS,
            updated_at_ms=MOMENT_MS,
        ),
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(MOMENT, MOMENT_MS, id="as-better-auth-writes-it"),
        pytest.param("2026-11-24 03:10:54.744", MOMENT_MS, id="space-and-no-zone-is-utc"),
        pytest.param("2026-11-24T03:10:54", MOMENT_MS - 744, id="no-fraction"),
        pytest.param("2026-11-24T03:10:54Z", MOMENT_MS - 744, id="no-fraction-with-zone"),
        pytest.param("2026-11-24T03:10:54.7Z", MOMENT_MS - 44, id="one-digit"),
        pytest.param("2026-11-24T03:10:54.744999999Z", MOMENT_MS, id="finer-digits-are-cut-off"),
        pytest.param("2026-11-24T05:10:54.744+02:00", MOMENT_MS, id="offset"),
        pytest.param("2026-11-24 03:10:54.744+00", MOMENT_MS, id="offset-of-hours"),
        pytest.param("2026-11-24T00:40:54.744-0230", MOMENT_MS, id="offset-without-colon"),
        pytest.param("2026-11-24 03:10:54.744 +00:00", MOMENT_MS, id="blank-before-the-offset"),
        pytest.param("1969-12-31T23:59:59.999Z", -1, id="before-the-epoch"),
        pytest.param("9999-12-31T23:59:59.998Z", 253_402_300_799_998, id="last"),
        pytest.param("0001-01-01T00:00:00.001Z", -62_135_596_799_999, id="first"),
        pytest.param(datetime(2026, 11, 24, 3, 10, 54, 744_999, UTC), MOMENT_MS, id="datetime"),
        pytest.param(datetime(2026, 11, 24, 3, 10, 54, 744_000), MOMENT_MS, id="naive-datetime"),  # noqa: DTZ001
        pytest.param(
            datetime(2026, 11, 24, 5, 10, 54, 744_000, timezone(timedelta(hours=2))), MOMENT_MS, id="datetime-offset"
        ),
    ],
)
def test_what_is_a_date(value: object, expected: int) -> None:
    assert date_ms(value) == expected


NO_DATES = [
    pytest.param(None, id="null"),
    pytest.param("", id="empty"),
    pytest.param("garbage", id="garbage"),
    pytest.param("now", id="word"),
    pytest.param(MOMENT_MS, id="integer"),
    pytest.param(-1, id="negative"),
    pytest.param(float(MOMENT_MS), id="real"),
    pytest.param(True, id="bool"),
    pytest.param(MOMENT.encode(), id="blob"),
    pytest.param(str(MOMENT_MS), id="digits"),
    pytest.param("2026-11-24", id="day-only"),
    pytest.param("2026-11-24T03:10Z", id="no-seconds"),
    pytest.param("2026-13-24T03:10:54Z", id="month-13"),
    pytest.param("2026-02-29T03:10:54Z", id="no-leap-year"),
    pytest.param("2026-11-24T24:00:00Z", id="hour-24"),
    pytest.param("2026-11-24T03:10:60Z", id="second-60"),
    pytest.param("2026-11-24T03:10:54+24:00", id="offset-of-a-day"),
    pytest.param("2026-11-24T03:10:54,744Z", id="comma"),
    pytest.param("2026-11-24T03:10:54.Z", id="empty-fraction"),
    pytest.param("2026-11-24T03:10:54Z\n", id="newline"),
    pytest.param(" 2026-11-24T03:10:54Z", id="leading-blank"),
    pytest.param("２０２６-11-24T03:10:54Z", id="other-digits"),  # full-width ones, which int() would take
    pytest.param("2026-11-24T03:10:54.７Z", id="other-digits-in-the-fraction"),
    pytest.param("+010000-01-01T00:00:00.000Z", id="year-10000"),
    pytest.param("-000001-01-01T00:00:00.000Z", id="year-before-1"),
    pytest.param("0000-01-01T00:00:00.000Z", id="year-0"),
    pytest.param("9999-12-31T23:59:59-01:00", id="year-10000-by-offset"),
    pytest.param("0001-01-01T00:00:00+01:00", id="year-0-by-offset"),
    pytest.param("Tue Nov 24 2026 03:10:54 GMT", id="spelt-out"),
    pytest.param("2026-11-24T03:10:54.744Z[UTC]", id="trailing-text"),
]


@pytest.mark.parametrize("value", NO_DATES)
@pytest.mark.parametrize("field", ["expiresAt", "createdAt", "updatedAt"])
def test_a_session_with_a_date_that_is_none_is_no_session(field: str, value: object) -> None:
    assert read({field: value}) is None


@pytest.mark.parametrize("value", NO_DATES)
@pytest.mark.parametrize("field", ["createdAt", "updatedAt"])
def test_a_user_with_a_date_that_is_none_is_no_user(field: str, value: object) -> None:
    assert read(**{field: value}) is None


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23)))  # noqa: DTZ001
def test_every_date_reads_the_same_as_text_and_as_datetime(moment: datetime) -> None:
    ms = date_ms(moment)
    assert ms is not None
    assert date_ms(moment.isoformat(timespec="milliseconds") + "Z") == ms
    assert date_ms(moment.isoformat(sep=" ", timespec="microseconds")) == ms
    assert datetime(1970, 1, 1) + timedelta(milliseconds=ms) <= moment  # noqa: DTZ001


@given(st.text(max_size=40) | st.integers() | st.floats() | st.binary(max_size=20) | st.datetimes())
def test_nothing_that_a_column_may_hold_raises(value: object) -> None:
    ms = date_ms(value)
    assert ms is None or isinstance(value, (str, datetime))
    read({"id": value, "ipAddress": value, "expiresAt": value}, banned=value, emailVerified=value, role=value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("user_1", "user_1", id="text"),
        pytest.param(7, "7", id="serial"),
        pytest.param(UUID("a3bb189e-8bf9-3888-9912-ace4e6543002"), "a3bb189e-8bf9-3888-9912-ace4e6543002", id="uuid"),
    ],
)
def test_ids_are_text(value: object, expected: str) -> None:
    record = read({"userId": value, "id": value}, id=value)
    assert record is not None
    assert (record.session.id, record.session.user_id, record.user.id) == (expected, expected, expected)


@pytest.mark.parametrize("value", [None, "", b"user_1", 1.0, True, ["user_1"]])
def test_what_is_no_id_is_no_session(value: object) -> None:
    assert read({"id": value}) is None
    assert read({"userId": value}, id=value) is None


def test_a_session_of_somebody_else_is_no_session_of_this_user() -> None:
    assert read({"userId": "USER_1"}) is None


@pytest.mark.parametrize("value", [None, "", b"token_1", 5])
def test_what_is_no_token_is_no_session(value: object) -> None:
    assert read({"token": value}) is None


@pytest.mark.parametrize("field", ["name", "email"])
def test_a_user_without_name_or_email_is_no_user(field: str) -> None:
    assert read(**{field: None}) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, True), (True, True), (0, False), (False, False), (None, False), (2, False), ("1", False), (1.0, False)],
)
def test_an_address_is_verified_by_one_or_true_only(value: object, expected: bool) -> None:
    assert user_of(emailVerified=value).email_verified is expected


@pytest.mark.parametrize("value", [None, 0, False, 0.0])
def test_who_is_not_banned(value: object) -> None:
    assert user_of(banned=value).banned is False


@pytest.mark.parametrize("value", [1, True, 2, -1, "1", "0", "false", "", b"\x00", float("nan"), Decimal(1)])
def test_whatever_is_not_plainly_no_is_banned(value: object) -> None:
    assert user_of(banned=value).banned is True


def test_a_ban_without_a_readable_end_does_not_end() -> None:
    assert user_of(banned=1, banExpires=MOMENT).ban_expires_ms == MOMENT_MS
    assert user_of(banned=1, banExpires="garbage").ban_expires_ms is None
    assert user_of(banned=1, banExpires=MOMENT_MS).ban_expires_ms is None


def test_columns_that_the_table_does_not_have_are_unknown() -> None:
    user = user_of()
    assert (user.role, user.banned, user.ban_expires_ms, user.two_factor_enabled) == (None, False, None, None)


def test_columns_of_plugins() -> None:
    record = read({"impersonatedBy": 9, "activeOrganizationId": "org_1"}, role="admin,editor", twoFactorEnabled=1)
    assert record is not None
    assert (record.session.impersonated_by, record.session.active_organization_id) == ("9", "org_1")
    assert (record.user.role, record.user.two_factor_enabled) == ("admin,editor", True)
    assert user_of(twoFactorEnabled=None).two_factor_enabled is False
    assert user_of(twoFactorEnabled=0).two_factor_enabled is False


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("text", "text", id="text"),
        pytest.param("", "", id="empty"),
        pytest.param(7, 7, id="integer"),
        pytest.param(0.5, 0.5, id="real"),
        pytest.param(True, True, id="bool"),
        pytest.param(None, None, id="null"),
        pytest.param(b"\x00", None, id="blob"),
        pytest.param(float("inf"), None, id="infinite"),
        pytest.param(["list"], None, id="list"),
        pytest.param(datetime(2026, 11, 24, 3, 10, 54, 744_999, UTC), MOMENT, id="datetime"),
        pytest.param(datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), None, id="datetime-in-year-10000"),
        pytest.param(UUID(int=1), str(UUID(int=1)), id="uuid"),
    ],
)
def test_declared_fields_hold_what_json_can_say(value: object, expected: object) -> None:
    record = record_of({**SESSION, "device": value}, {**USER, "plan": value}, ("device",), ("plan",))
    assert record is not None
    assert record.session.extra == {"device": expected}
    assert record.user.extra == {"plan": expected}


# Organizations


@pytest.mark.parametrize(
    ("pair", "names"),
    [
        pytest.param(("o1", "acme"), {"id:o1", "acme"}, id="both"),
        pytest.param((7, "acme"), {"id:7", "acme"}, id="a-number"),
        pytest.param(("o1", "o2"), {"id:o1", "o2"}, id="a-slug-that-is-the-id-of-another-one"),
        pytest.param(("o1", "id:o2"), {"id:o1"}, id="a-slug-that-is-written-like-an-id"),
        pytest.param(("o1", None), {"id:o1"}, id="no-slug"),
        pytest.param(("o1", ""), {"id:o1"}, id="an-empty-slug"),
        pytest.param((None, 7), set(), id="neither"),
    ],
)
def test_the_slug_of_an_organization_is_never_the_id_of_another_one(
    pair: tuple[object, object], names: set[str]
) -> None:
    record = record_of(SESSION, USER, organizations=[pair])
    assert record is not None
    assert record.user.organizations == names
