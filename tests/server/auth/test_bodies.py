"""Bodies and queries of account calls: how they are read, and what is said of those that are not as they should be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from gatekeeper.server.auth_bodies import (
    FORM,
    JSON,
    Field,
    Shape,
    body_fault,
    is_storable,
    is_truthy,
    query_fault,
    read_body,
    read_query,
)
from gatekeeper.server.auth_refusals import INVALID_JSON, Refusal

BOTH = (FORM, JSON)


@pytest.mark.parametrize(
    ("media_type", "data", "expected"),
    [
        pytest.param(JSON, b"", UNSET, id="no-body"),
        pytest.param(None, b"{}", UNSET, id="no-type-is-no-body"),
        pytest.param("", b"{}", UNSET, id="empty-type"),
        pytest.param(JSON, b'{"a":[1,null,"x"]}', {"a": [1, None, "x"]}, id="json"),
        pytest.param("Application/JSON; charset=utf-8", b"7", 7, id="json-with-parameters"),
        pytest.param(JSON, b"\xef\xbb\xbf{}", {}, id="byte-order-mark"),
        pytest.param(JSON, b'"\xff"', "\ufffd", id="broken-utf-8"),
        pytest.param(
            JSON, b'{"a":"\\ud800x","\\udfff":["\\ud83d\\ude00",1]}', {"a": "\ufffdx", "\ufffd": ["😀", 1]}, id="half"
        ),
        pytest.param(JSON, b'{"a":1,"a":2}', {"a": 2}, id="repeated-key"),
        pytest.param(JSON, b"{bad", INVALID_JSON, id="broken"),
        pytest.param(JSON, b"NaN", INVALID_JSON, id="nan"),
        pytest.param(JSON, b"-Infinity", INVALID_JSON, id="infinity"),
        pytest.param(JSON, b"[" * 100_000, INVALID_JSON, id="deep"),
        pytest.param(JSON, b"9" * 5_000, INVALID_JSON, id="a-number-of-5000-digits"),
        pytest.param(FORM, b"a=1&b=x+y%C3%A4&a=2&c", {"a": "2", "b": "x yä", "c": ""}, id="form"),
        pytest.param(
            "text/plain",
            b"{}",
            Refusal(
                415,
                f'Content-Type "text/plain" is not allowed. Allowed types: {FORM}, {JSON}',
                "UNSUPPORTED_MEDIA_TYPE",
            ),
            id="other-type",
        ),
        pytest.param(
            "application/vnd.x+json",
            b"{}",
            Refusal(
                415,
                f'Content-Type "application/vnd.x+json" is not allowed. Allowed types: {FORM}, {JSON}',
                "UNSUPPORTED_MEDIA_TYPE",
            ),
            id="like-json",
        ),
    ],
)
def test_reading(media_type: str | None, data: bytes, expected: Any) -> None:
    assert read_body(media_type, data, BOTH) == expected


def test_no_depth_with_escapes_in_it_is_more_than_an_error_of_the_sender() -> None:
    for depth in range(100, 1_200, 50):
        document = "[" * depth + '"\\ud800"' + "]" * depth
        read = read_body(JSON, document.encode(), BOTH)
        assert read == INVALID_JSON or isinstance(read, list)


@given(st.binary(max_size=60), st.sampled_from([JSON, FORM, "x/y", ""]))
def test_reading_never_raises(data: bytes, media_type: str) -> None:
    read_body(media_type, data, BOTH)


def test_queries() -> None:
    assert read_query(None) == {}
    assert read_query("a=1&b=&a=2&a=3&c=%2F") == {"a": ["1", "2", "3"], "b": "", "c": "/"}


SHAPE = Shape(
    (Field("name", "text"), Field("mail", "e-mail", is_required=False), Field("keep", "flag", is_required=False))
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"name": ""}, None, id="an-empty-text-is-one"),
        pytest.param({"name": "x", "more": 1}, None, id="further-fields"),
        pytest.param(
            {"name": "x", "mail": None}, "[body.mail] Invalid input: expected string, received null", id="null"
        ),
        pytest.param({"name": "x", "mail": "a@b"}, "[body.mail] Invalid email address", id="no-address"),
        pytest.param({"name": {}}, "[body.name] Invalid input: expected string, received object", id="object"),
        pytest.param({"name": 1.5}, "[body.name] Invalid input: expected string, received number", id="number"),
        pytest.param(
            {"keep": 1},
            "[body.name] Invalid input: expected string, received undefined; "
            "[body.keep] Invalid input: expected boolean, received number",
            id="all-in-order",
        ),
        pytest.param(UNSET, "[body] Invalid input: expected object, received undefined", id="no-body"),
        pytest.param(True, "[body] Invalid input: expected object, received boolean", id="flag"),
    ],
)
def test_what_is_wrong_with_a_body(body: Any, message: str | None) -> None:
    expected = None if message is None else Refusal(400, message, "VALIDATION_ERROR")
    assert body_fault(SHAPE, body) == expected


def test_a_body_that_may_be_missing() -> None:
    shape = Shape(is_required=False)
    assert body_fault(shape, UNSET) is None
    assert body_fault(shape, {}) is None
    assert body_fault(shape, []) == Refusal(
        400, "[body] Invalid input: expected object, received array", "VALIDATION_ERROR"
    )


def test_what_is_wrong_with_a_query() -> None:
    fields = (Field("token", "filled text"),)
    assert query_fault(fields, {"token": "x"}) is None
    message = "[query.token] Invalid input: expected string, received array"
    assert query_fault(fields, {"token": ["x", "y"]}) == Refusal(400, message, "VALIDATION_ERROR")
    message = "[query.token] Too small: expected string to have >=1 characters"
    assert query_fault(fields, {"token": ""}) == Refusal(400, message, "VALIDATION_ERROR")


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", UNSET])
def test_what_javascript_takes_for_false(value: Any) -> None:
    assert not is_truthy(value)


@pytest.mark.parametrize("value", [True, 1, -0.5, "0", [], {}])
def test_what_javascript_takes_for_true(value: Any) -> None:
    assert is_truthy(value)


def test_a_number_that_json_says_and_no_column_holds() -> None:
    body = read_body("application/json", b'{"a": 1e999, "b": 1e99}', (JSON,))
    assert isinstance(body, dict)
    assert (is_storable(body["a"]), is_storable(body["b"])) == (False, True)
