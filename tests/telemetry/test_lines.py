"""Lines of both formats: what stands in them, that each is one line, and that no credential is in any."""

import json
import logging
import re
import sys
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.cookies import Keys, sign_value
from gatekeeper.core.model import Reason, RequestFacts, SessionRecord
from gatekeeper.telemetry.lines import MAX_PATH, MAX_QUERY, Finished, Lines, session_mark
from gatekeeper.telemetry.redaction import REDACTED, Redactor
from tests.core.facts import facts
from tests.core.records import TOKEN, record
from tests.telemetry.test_redaction import NAME, PLACES, SECRET, SECRETS, TOKENS, WRITTEN, signature_of

AT = 1_790_000_000.1239
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
FORMATS = ["json", "human", "colors"]
NEVER_RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def lines(format: str, *secrets: str) -> Lines:
    return Lines(Redactor([SECRET, *secrets], [NAME]), human=format != "json", colors=format == "colors")


def finished(
    asked: RequestFacts | None = None, who: SessionRecord | None = None, status: int = 200, rule: str = "protect /x"
) -> Finished:
    reason = Reason.SESSION if asked else Reason.BAD_HEADER
    return (AT, asked, rule, reason, who, status, "0123456789abcdef", 0.0123456, 0.0101, 512, "192.0.2.7")


def written(format: str, made: bytes) -> str:
    """The line as a text; exactly one line feed, at its end, but for the marked lines of a traceback."""
    text = made.decode()
    assert text.endswith("\n")
    _, *more = text.removesuffix("\n").split("\n")
    assert all(line.startswith("  | ") for line in more)
    assert not more or format != "json"
    plain = re.sub("\x1b\\[[0-9]+m", "", text) if format == "colors" else text
    assert NEVER_RAW.search(plain) is None
    return plain


def log_record(message: object, *arguments: object, level: int = logging.INFO, exc_info: Any = None) -> Any:
    made = logging.LogRecord("gatekeeper", level, "x.py", 1, message, arguments, exc_info)
    made.created = AT
    return made


def raised(message: str) -> Any:
    try:
        raise ValueError(message)
    except ValueError:
        return sys.exc_info()


def test_access_line_as_json() -> None:
    made = lines("json").access([finished(facts("/dashboard/x?tab=1"), record()), finished()])
    first, second = (json.loads(line) for line in made.splitlines())
    assert first == {
        "kind": "access",
        "time": "2026-09-21T14:13:20.123Z",
        "request_id": "0123456789abcdef",
        "client": "203.0.113.7",
        "method": "GET",
        "path": "/dashboard/x",
        "query": "tab=1",
        "status": 200,
        "reason": "SESSION",
        "rule": "protect /x",
        "session": "7a0f3757",
        "user": "user_1",
        "seconds": 0.012345,
        "upstream_seconds": 0.0101,
        "bytes": 512,
    }
    assert (second["client"], second["reason"]) == ("192.0.2.7", "BAD_HEADER")
    assert {second[name] for name in ("method", "path", "query", "session", "user")} == {None}


def test_access_line_for_people() -> None:
    asked = facts("/dashboard/x?tab=1")
    text = written("human", lines("human").access([finished(asked, record())]))
    assert re.fullmatch(
        r"14:13:20\.123Z 200 GET +12\.3 ms  SESSION +/dashboard/x\?tab=1  client=203\.0\.113\.7 user=user_1 "
        r"session=7a0f3757 rule='protect /x' app=10\.1ms bytes=512 id=0123456789abcdef\n",
        text,
    )
    colored = lines("colors").access([finished(asked, status=status) for status in (200, 307, 404, 502)]).decode()
    assert re.findall("\x1b\\[(3[0-9])m([0-9]+)\x1b\\[0m", colored) == [
        *(("32", "200"), ("36", "307"), ("33", "404"), ("31", "502"))
    ]
    assert written("human", lines("human").access([finished()])).count(" - ") == 2  # no method, no path


def test_the_mark_of_a_session_is_the_beginning_of_its_hash() -> None:
    assert session_mark("abc") == "ba7816bf"  # FIPS 180-4's example
    assert session_mark("\ud800") != session_mark("\udfff")


def test_long_paths_and_queries_are_cut_where_a_part_ends() -> None:
    made = lines("json").access([finished(facts("/abc" * 1000 + "?" + "&".join(f"a{i}=b" for i in range(1000))))])
    line = json.loads(made)
    assert len(line["path"]) <= MAX_PATH + 1
    assert line["path"].endswith("/abc/…")
    assert len(line["query"]) <= MAX_QUERY
    assert line["query"].endswith("=b&…")
    only = json.loads(lines("json").access([finished(facts("/?x=" + "y" * 2000))]))
    assert (only["path"], only["query"]) == ("/", "…")


def test_a_credential_is_not_cut_in_two() -> None:
    signed = sign_value(TOKEN, Keys([SECRET]))
    for before in range(MAX_PATH - len(signed) - 10, MAX_PATH + 10):
        path = json.loads(lines("json").access([finished(facts("/" + "y" * before + "/" + signed))]))["path"]
        query = json.loads(lines("json").access([finished(facts("/?" + "y" * before + "&q=" + signed))]))["query"]
        assert TOKEN[:8] not in path + query


def test_log_line() -> None:
    line = json.loads(lines("json").message(log_record("%s of %d", "one", 2, level=logging.WARNING)))
    assert line == {
        "kind": "log",
        "time": "2026-09-21T14:13:20.123Z",
        "level": "warning",
        "logger": "gatekeeper",
        "message": "one of 2",
    }
    assert lines("human").message(log_record("started")) == b"14:13:20.123Z INFO     started\n"


def test_traceback_is_one_field_or_marked_lines() -> None:
    failed = log_record("it failed", exc_info=raised("two\nlines\x1b"))
    line = json.loads(written("json", lines("json").message(failed)))
    assert line["trace"].startswith("Traceback (most recent call last):\n")
    assert line["trace"].endswith("ValueError: two\nlines\\x1b")
    text = written("human", lines("human").message(failed))
    assert text.splitlines()[1] == "  | Traceback (most recent call last):"
    assert text.splitlines()[-1] == r"  | lines\x1b"


@pytest.mark.parametrize("format", FORMATS)
def test_arguments_that_do_not_fit_are_told_of(format: str) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("odd")

    for broken in (
        log_record("%d", "x"),
        log_record("%s %s", "x"),
        log_record("%s", Odd()),
        log_record(Odd()),
        log_record("%(a)s", {}),
    ):
        assert "do not fit" in written(format, lines(format).message(broken))


def test_audit_line() -> None:
    fields = {
        "session": "7a0f3757",
        "count": 2,
        "listen": ["a", "b"],
        "none": None,
        "token": "abc",
        "error": ValueError("x"),
    }
    line = json.loads(lines("json").audit(AT, "stream_cut", fields))
    assert line == {
        "kind": "audit",
        "time": "2026-09-21T14:13:20.123Z",
        "event": "stream_cut",
        "session": "7a0f3757",
        "count": 2,
        "listen": ["a", "b"],
        "none": None,
        "token": REDACTED,
        "error": "x",
    }
    text = lines("human").audit(AT, "stream_cut", {"session": "7a0f3757", "count": 2})
    assert text == b"14:13:20.123Z AUDIT    stream_cut session=7a0f3757 count=2\n"


@pytest.mark.parametrize("format", FORMATS)
@settings(deadline=None, max_examples=20)
@given(text=ANY_TEXT)
def test_no_text_leaves_its_line(format: str, text: str) -> None:
    made = lines(format)
    odd = msgspec.structs.replace(facts("/x"), method=text, client_address=text)
    target = msgspec.structs.replace(odd.target, path=f"/{text}", query=text)
    odd = msgspec.structs.replace(odd, target=target)
    who = record({"token": text}, id=text)
    written(format, made.access([(AT, odd, text, Reason.SESSION, who, 200, text, 0.1, None, 0, text)]))
    written(format, made.audit(AT, "event", {"field": text, "fields": [text]}))
    written(format, made.message(log_record(text)))
    written(format, made.message(log_record("%s", text, exc_info=raised(text))))


def all_lines(made: Lines, text: str) -> list[bytes]:
    """The text in every place that can hold a text which the code did not make itself."""
    return [
        made.message(log_record(text)),
        made.message(log_record("debug: %s", text, level=logging.DEBUG)),
        made.message(log_record("debug: %r", {"a": text}, level=logging.DEBUG)),
        made.message(log_record("failed", exc_info=raised(text))),
        made.audit(AT, "event", {"detail": text, "details": [text]}),
    ]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("place", list(PLACES))
@settings(deadline=None, max_examples=20)
@given(token=TOKENS)
def test_no_line_holds_a_token_or_a_signature(format: str, place: str, token: str) -> None:
    value = sign_value(token, Keys([SECRET]))
    for line in all_lines(lines(format), PLACES[place](value)):
        assert token not in line.decode()
        assert signature_of(value) not in line.decode()


@pytest.mark.parametrize("format", FORMATS)
@settings(deadline=None, max_examples=20)
@given(token=TOKENS, name=st.sampled_from(["token", "session", "q", "callbackUrl", NAME]))
def test_no_access_line_holds_a_token_or_a_signature(format: str, token: str, name: str) -> None:
    value = sign_value(token, Keys([SECRET]))
    paths = (f"/x?{name}={value}", f"/x?a=1&{name}={value}&b=2", f"/reset/{value}/x", f"/x?u=%2Fy%3F{name}%3D{value}")
    for path in paths:
        asked = facts(path, cookie=f"{NAME}={value}", authorization=f"Bearer {value}")
        line = lines(format).access([finished(asked, record({"token": token}))]).decode()
        assert token not in line
        assert signature_of(value) not in line


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("how", list(WRITTEN))
@settings(deadline=None, max_examples=20)
@given(secret=SECRETS)
def test_no_line_holds_a_secret(format: str, how: str, secret: str) -> None:
    for line in all_lines(lines(format, secret), WRITTEN[how](secret)):
        text = line.decode()
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text


def test_the_test_of_raw_characters_knows_them_all() -> None:
    controls = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cc"]
    assert [character for character in controls if NEVER_RAW.search(character) is None] == ["\n"]
