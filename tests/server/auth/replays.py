"""Replaying captured calls of the real server against ours, and saying in what the answers differ.

Ids, tokens and times are those of the capture: what the real server drew is drawn here, and the clock stands where its
answer says that it stood.  It reads its clock anew for each date, so dates may differ by `CLOCK_MS`.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from gatekeeper.core.cookies import Keys, cookie_names, decode_value
from gatekeeper.core.lifecycle import Lifetimes
from gatekeeper.core.model import RequestFacts, Target
from gatekeeper.core.session_cookies import CookieScope
from gatekeeper.core.session_data_writing import SessionDataFormat
from gatekeeper.core.urls import parse_target
from gatekeeper.server.answers import Answer
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_call import AuthRequest, AuthSettings, Services
from gatekeeper.server.data_cookies import DataCookies
from tests.server.auth.fakes import FakeAccounts, FakeMail, FakePasswords, FakeSessions, FakeThrottle, OrderedIds
from tests.server.auth.rows import KEYS, MemoryRows, Rows, Table

VECTORS = Path(__file__).parents[2] / "vectors"
CLOCK_MS = 20
NAMES = cookie_names("better-auth", secure=False)
SCOPE = CookieScope(None, secure=False, same_site="lax")
DEVICE = "gatekeeper.device"

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z")
_CREATING = ("/api/auth/sign-up/email", "/api/auth/sign-in/email", "/api/auth/change-password")

Transcript = dict[str, Any]


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_bytes())


def settings_for(secret: str, data_format: SessionDataFormat | None, **changes: Any) -> AuthSettings:
    """The configuration of the servers that were captured."""
    fields: dict[str, Any] = {
        "keys": Keys([secret]),
        "names": NAMES,
        "scope": SCOPE,
        "data_format": data_format,
        "lifetimes": Lifetimes(172_800_000, 86_400_000),
        "fresh_age_s": 86_400.0,
        "sign_up": True,
        "revoke_on_reset": False,
    }
    return AuthSettings(**(fields | changes))


class Replay:
    """Our calls over a store in memory, as one of the servers that were captured."""

    def __init__(
        self,
        own_origin: str,
        settings: AuthSettings,
        transcripts: list[Transcript],
        *,
        with_mail: bool = True,
        rows: Rows | None = None,
    ) -> None:
        self.own_origin = own_origin
        self.settings = settings
        self.rows = rows or MemoryRows(FakeAccounts())
        self.sessions = FakeSessions(self.rows.accounts)
        self.passwords = FakePasswords()
        self.throttle = FakeThrottle()
        self.mail = FakeMail() if with_mail else None
        self.ids = OrderedIds()
        self.audited: list[tuple[str, dict[str, object]]] = []
        self.now_ms = 0
        sessions = list(_session_rows(transcripts))
        self._session_ids = {session["token"]: session["id"] for session in sessions}
        self._created_ms = {session["token"]: ms_of(session["createdAt"]) for session in sessions}
        form, uuid = settings.data_format, "0a4e3b1c-6f0e-4e2f-9a53-9d9e1d1f2b11"
        services = Services(
            accounts=self.rows.accounts,
            sessions=self.sessions,
            passwords=self.passwords,
            throttle=self.throttle,
            mail=self.mail,
            random_bytes=self.ids,
            new_uuid=lambda: uuid,
            audit=lambda event, **fields: self.audited.append((event, fields)),
            data_cookies=form and DataCookies(form, settings.keys, lambda: uuid),
        )
        self.api = AuthApi(settings, services, lambda: self.now_ms)

    async def play(self, transcript: Transcript) -> Answer:
        """Our answer to the request of a transcript, at its time."""
        self.now_ms = max(_time_of(transcript, self.now_ms, self._created_ms), self.now_ms)
        self._order_ids(transcript)
        if self.mail is not None:
            self.mail.sent.clear()
        return await self.api.answer(request_of(transcript["request"], self.own_origin))

    def settle(self, transcript: Transcript) -> None:
        """Give what is stored the dates of the capture, where they are the same but for the reading of the clock.

        Else session_data cookies of the capture would say something else than our store does.
        """
        for document in _documents(transcript):
            for record in (document, document.get("session"), document.get("user")):
                if isinstance(record, dict) and _is_date(record.get("updatedAt")):
                    self._settle_row("session" if "token" in record else "user", record)

    def _settle_row(self, table: Table, record: dict[str, Any]) -> None:
        key = record[KEYS[table]]
        ours = self.rows.dates(table, key) or {}
        theirs = {name: ms_of(record[name]) for name in ours if name in record}
        if ours and all(abs(ours[name] - ms) <= CLOCK_MS for name, ms in theirs.items()):
            self.rows.set_dates(table, key, theirs)

    def _order_ids(self, transcript: Transcript) -> None:
        """Have the ids drawn that the real server drew: user, account, session, token, and those of links."""
        self.ids.ordered.clear()
        path = transcript["request"]["path"].partition("?")[0]
        if mails := [mail for mail in transcript.get("mails", ()) if mail["kind"] == "reset"]:
            self.ids.ordered.append(mails[0]["token"])
        if transcript["response"]["status"] != 200 or path not in _CREATING:
            return
        document = json.loads(transcript["response"]["bodyText"])
        if document["token"] is None:
            return
        if path.endswith("sign-up/email"):
            self.ids.ordered += [document["user"]["id"], None]
        elif path.endswith("change-password"):
            self.ids.ordered.append(None)
        self.ids.ordered += [self._session_ids.get(document["token"]), document["token"]]


def request_of(sent: Mapping[str, Any], own_origin: str) -> AuthRequest:
    """A captured request as the gate reads it.  An address that was not sent is none, as in the capture."""
    headers = {name.lower(): value for name, value in sent["headers"].items()}
    target = parse_target(sent["method"], sent["path"])
    assert isinstance(target, Target)
    scheme, _, host = own_origin.partition("://")
    facts = RequestFacts(
        sent["method"],
        target,
        scheme,
        host,
        headers.get("x-forwarded-for", ""),
        cookie=headers.get("cookie"),
        authorization=headers.get("authorization"),
        origin=headers.get("origin"),
        referer=headers.get("referer"),
        sec_fetch_mode=headers.get("sec-fetch-mode"),
        sec_fetch_site=headers.get("sec-fetch-site"),
        accept_language=headers.get("accept-language"),
    )
    body = (sent["body"] or "").encode()
    return AuthRequest(
        facts,
        own_origin,
        content_type=headers.get("content-type"),
        user_agent=headers.get("user-agent"),
        sec_fetch_dest=headers.get("sec-fetch-dest"),
        body=body,
    )


def differences(transcript: Transcript, ours: Answer, keys: Keys) -> list[str]:
    """In what our answer differs from the captured one: status, header fields, cookies, body.

    What ours always has besides is left out: no-store, nosniff, and the cookie of a device that signed in.
    """
    theirs = transcript["response"]
    found = [] if ours.status == theirs["status"] else [f"status {theirs['status']} -> {ours.status}"]
    found += _header_differences(theirs["headers"], ours)
    found += _cookie_differences(_cookies(theirs["headers"]), _cookies(_text_headers(ours)), keys)
    if theirs["bodyText"] and _media_type(theirs["headers"]) == "application/json":
        body = json.loads(ours.body) if ours.body else None
        found += _document_differences(json.loads(theirs["bodyText"]), body, "body")
    elif not theirs["bodyText"] and _media_type(theirs["headers"]) != "text/html":
        found += [] if not ours.body else ["a body where there is none"]
    return found


def _header_differences(theirs: list[list[str]], ours: Answer) -> Iterator[str]:
    mine = {name.lower(): value for name, value in _text_headers(ours)}
    for name in ("content-type", "location", "pragma"):
        there = next((value for header, value in theirs if header == name), None)
        here = mine.get(name)
        here = here.partition(";")[0] if name == "content-type" and here is not None else here
        if there != here:
            yield f"{name} {there!r} -> {here!r}"


def _cookie_differences(theirs: dict[str, str], ours: dict[str, str], keys: Keys) -> Iterator[str]:
    """Cookies by name, the last of a name counts, in the order in which they were set."""
    ours = {name: line for name, line in ours.items() if name != DEVICE}
    if list(theirs) != list(ours):
        yield f"cookies {list(theirs)} -> {list(ours)}"
        return
    for name, line in theirs.items():
        there, here = line.split("; "), ours[name].split("; ")
        if there[1:] != here[1:]:
            yield f"{name}: {there[1:]} -> {here[1:]}"
        values = [part.partition("=")[2] for part in (there[0], here[0])]
        if name == NAMES.session_data and all(values):
            yield from _document_differences(*map(_data_of, values), where=name)
        elif values[0] != values[1]:
            yield f"{name} {values[0]!r} -> {values[1]!r}"


def _document_differences(there: Any, here: Any, where: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        if set(there) != set(here):
            yield f"{where} has {sorted(there)} -> {sorted(here)}"
        for key in there.keys() & here.keys():
            if key not in ("signature", "jti"):
                yield from _document_differences(there[key], here[key], f"{where}.{key}")
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, pair in enumerate(zip(there, here, strict=True)):
            yield from _document_differences(*pair, f"{where}[{index}]")
    elif not _is_alike(there, here):
        yield f"{where} {there!r} -> {here!r}"


def _is_alike(there: Any, here: Any) -> bool:
    if isinstance(there, str) and isinstance(here, str) and _ISO.fullmatch(there) and _ISO.fullmatch(here):
        return abs(ms_of(there) - ms_of(here)) <= CLOCK_MS
    if isinstance(there, int) and isinstance(here, int) and there > 1_000_000_000:
        return abs(there - here) <= (CLOCK_MS if there > 10**12 else 1)
    return bool(there == here)


def ms_of(date: str) -> int:
    return round(datetime.fromisoformat(date.replace("Z", "+00:00")).timestamp() * 1000)


def _time_of(transcript: Transcript, last_ms: int, created_ms: Mapping[str, int]) -> int:
    """When the real server answered: when the session was made that it answers with, or the session_data cookie; else
    the last date in its answer that can be of then, or when it was asked.
    """
    asked_ms = transcript.get("atMs", last_ms)
    documents = list(_documents(transcript))
    for made_ms in (created_ms.get(str(document.get("token"))) for document in documents):
        if made_ms is not None and made_ms >= asked_ms:
            return made_ms
    told = [document["updatedAt"] for document in documents if isinstance(document.get("updatedAt"), int)]
    dates = [date for date in _dates_of(documents) if not last_ms or asked_ms <= date <= asked_ms + 60_000]
    return max(told or dates, default=asked_ms)


def _dates_of(documents: list[dict[str, Any]]) -> Iterator[int]:
    for document in documents:
        for record in (document, document.get("session"), document.get("user")):
            if isinstance(record, dict):
                yield from (ms_of(record[name]) for name in ("createdAt", "updatedAt") if _is_date(record.get(name)))


def _is_date(value: object) -> bool:
    return isinstance(value, str) and _ISO.fullmatch(value) is not None


def _documents(transcript: Transcript) -> Iterator[dict[str, Any]]:
    """The JSON documents of a captured answer: its body's, and those of session_data cookies."""
    response = transcript["response"]
    if response["bodyText"] and _media_type(response["headers"]) == "application/json":
        body = json.loads(response["bodyText"])
        yield from (item for item in (body if isinstance(body, list) else [body]) if isinstance(item, dict))
    data = _cookies(response["headers"]).get(NAMES.session_data, "").split("; ")[0].partition("=")[2]
    if data:
        document = _data_of(data)
        yield document.get("session", document) if "signature" in document else document


def _session_rows(transcripts: list[Transcript]) -> Iterator[dict[str, Any]]:
    """Sessions with token, id and createdAt, wherever the capture has them."""
    for transcript in transcripts:
        yield from transcript.get("sessions", ())
        for document in _documents(transcript):
            for record in (document, document.get("session")):
                if isinstance(record, dict) and {"token", "id", "createdAt"} <= record.keys():
                    yield record


def _data_of(value: str) -> Any:
    """What a compact or jwt session_data cookie says."""
    text = decode_value(value)
    part = text.split(".")[1] if "." in text else text
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _cookies(headers: list[list[str]] | list[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, line in headers:
        if name.lower() == "set-cookie":
            cookie = line.partition("=")[0]
            found.pop(cookie, None)
            found[cookie] = line
    return found


def _text_headers(answer: Answer) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in answer.headers]


def _media_type(headers: list[list[str]]) -> str | None:
    return next((value for name, value in headers if name == "content-type"), None)
