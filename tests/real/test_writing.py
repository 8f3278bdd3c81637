"""What the gate writes, as the real better-auth reads it."""

import json
from pathlib import Path

from gatekeeper.core.model import Session
from gatekeeper.stores.writing import SessionWriter, open_writer
from tests.real.test_companion import UNCACHED, Person, app_behind_gate
from tests.stores.opening import settings_on

TWO_DAYS_MS = 172_800_000


async def only_session(writer: SessionWriter) -> Session:
    (record,) = await writer.list_sessions("zoe@example.test", limit=9)
    return record.session


async def get_session(person: Person) -> dict[str, dict[str, object]] | None:
    found: dict[str, dict[str, object]] | None = json.loads((await person.ask("GET", "/api/auth/get-session"))[1])
    return found


async def test_better_auth_reads_an_extended_session_as_its_own(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, UNCACHED) as (person, database):
        await person.sign_up("zoe@example.test")
        before = await get_session(person)
        writer = open_writer(settings_on(f"sqlite:///{database}"))
        session = await only_session(writer)
        now_ms = session.created_at_ms + 7
        assert await writer.extend(session, expires_at_ms=now_ms + TWO_DAYS_MS, now_ms=now_ms)
        extended = await only_session(writer)
        await writer.close()
        after = await get_session(person)
        assert before is not None
        assert after is not None
        changed = {name for name in after["session"] if after["session"][name] != before["session"][name]}
        assert changed == {"expiresAt", "updatedAt"}
        assert after["user"] == before["user"]
        assert extended.expires_at_ms == now_ms + TWO_DAYS_MS
        listed = json.loads((await person.ask("GET", "/api/auth/list-sessions"))[1])
        assert [one["expiresAt"] for one in listed] == [after["session"]["expiresAt"]]


async def test_better_auth_has_a_revoked_session_no_more(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, UNCACHED) as (person, database):
        await person.sign_up("zoe@example.test")
        assert await get_session(person) is not None
        writer = open_writer(settings_on(f"sqlite:///{database}"))
        assert await writer.revoke([await only_session(writer)]) == 1
        await writer.close()
        assert await get_session(person) is None
