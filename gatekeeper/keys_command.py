"""What `gatekeeper keys` does: the keys that sign assertions, in their folder, whether a gate runs or not."""

from pathlib import Path
from typing import Any

from gatekeeper.config.key_folder import KeyFolder
from gatekeeper.config.schema import Settings
from gatekeeper.config.snapshot import terms_of
from gatekeeper.core.assertion_keys import KeyRing
from gatekeeper.core.errors import GatekeeperError, KeysUnusable
from gatekeeper.server.documents import iso_date

HEADINGS = ("state", "kid", "algorithm", "created")


def folder_of(settings: Settings) -> KeyFolder:
    """The folder of the keys.  Raises GatekeeperError for settings without one."""
    path = settings.identity.assertion.keys
    if path is None:
        raise GatekeeperError("identity.assertion.keys names no folder")
    return KeyFolder(Path(path))


def rotate_keys(settings: Settings, now_ms: int, *, force: bool) -> KeyRing:
    """Have the next key sign from now on, and publish a new one.  Raises KeysUnusable, TooSoon for one."""
    return folder_of(settings).rotate(settings.identity.assertion.algorithm, now_ms, force=force)


def read_keys(settings: Settings) -> KeyRing | None:
    """The keys, None where there are none yet.  Raises KeysUnusable."""
    return folder_of(settings).read()


def problems_of(settings: Settings) -> list[str]:
    """Why apps would get no assertions, or not those that the settings speak of, or nothing."""
    assertion = settings.identity.assertion
    if terms_of(settings) is None:
        why = "public_url is not set" if settings.public_url is None else "identity turns them off"
        return [f"no assertions are sent: {why}"]
    folder = folder_of(settings)
    try:
        ring = folder.read()
    except KeysUnusable as problem:
        return [str(problem)]
    if ring is None:
        made = "a gate makes them when it starts" if folder.can_be_made() else "none can be made there"
        return [f"{folder.path}: there are no keys; {made}"]
    if ring.current.algorithm != assertion.algorithm:
        more = "once more" if ring.next.algorithm == assertion.algorithm else "twice"
        return [f"{ring.current.algorithm} signs, not {assertion.algorithm}: rotate {more}"]
    return []


def documents_of(ring: KeyRing) -> dict[str, Any]:
    """For programs: each key without its private half, and when the next rotation is possible."""
    keys = [
        {"state": state, "kid": key.kid, "algorithm": key.algorithm, "created": iso_date(key.created_ms)}
        for state, key in ring.states()
    ]
    return {"keys": keys, "may_rotate_from": iso_date(ring.may_rotate_from_ms)}


def table_of(ring: KeyRing) -> list[str]:
    """For people: a line of headings and one for each key."""
    rows = [HEADINGS, *(tuple(key[name] for name in HEADINGS) for key in documents_of(ring)["keys"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
