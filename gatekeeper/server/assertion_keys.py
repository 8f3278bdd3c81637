"""The keys of assertions in a running gate: the same in all of its processes, and new ones without a restart.

Imports nothing of what serves: whoever only supervises workers opens keys, too.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from gatekeeper.config.key_folder import FolderUnwritable, KeyFolder, Mark
from gatekeeper.config.schema import Settings
from gatekeeper.config.snapshot import terms_of
from gatekeeper.core.assertion_keys import KeyRing
from gatekeeper.core.errors import KeysUnusable

logger = logging.getLogger("gatekeeper")

LOOK_EVERY_S = 1.0
"""How soon a process notices that keys were rotated."""


class AssertionKeys:
    """The ring in use; `published` are its public keys as a set, and the ETag.  Without a folder it stays for good."""

    def __init__(self, ring: KeyRing, folder: KeyFolder | None = None) -> None:
        self.folder = folder
        self._mark: Mark | None = None
        self._use(ring)

    def __repr__(self) -> str:
        return f"<AssertionKeys of {self.folder or 'memory'}>"

    def look(self) -> bool:
        """Whether the folder has other keys than before, which are in use from now on.

        Raises KeysUnusable for a change that cannot be read, each time until it can be; what was in use stays so.
        """
        if self.folder is None or (mark := self.folder.mark()) == self._mark:
            return False
        ring = self.folder.read()
        if ring is None:
            raise KeysUnusable(f"{self.folder.path}: the keys are gone")
        self._mark = mark  # that of before reading: what was changed meanwhile is seen the next time
        before = self.published
        self._use(ring)
        return self.published != before

    def _use(self, ring: KeyRing) -> None:
        document = ring.jwks()
        self.ring = ring
        self.published = document, b'"%b"' % hashlib.sha256(document).hexdigest()[:16].encode()


def open_keys(settings: Settings, now_ms: int, inherited: bytes | None = None) -> AssertionKeys | None:
    """The keys that these settings ask for, made where there are none; None where no assertions are made.

    `inherited` is for workers: what `to_inherit` says of the supervisor's keys.  Who inherits nothing warns of what is
    missing.  Raises KeysUnusable.
    """
    assertion = settings.identity.assertion
    if terms_of(settings) is None:
        if assertion.enabled and settings.public_url is None and inherited is None:
            logger.warning(
                "no assertions are sent to the app: they need public_url (or set identity.assertion.enabled)"
            )
        return None
    if inherited:
        return AssertionKeys(KeyRing.decode(inherited))
    if assertion.keys is None:
        return AssertionKeys(KeyRing.make(assertion.algorithm, now_ms))
    folder = KeyFolder(Path(assertion.keys))
    try:
        keys = AssertionKeys(folder.open(assertion.algorithm, now_ms), folder)
    except FolderUnwritable as problem:
        logger.warning(
            "%s: keys of assertions are made anew at each start, and are this gate's alone; replicas must share "
            "a folder (identity.assertion.keys)",
            problem,
        )
        return AssertionKeys(KeyRing.make(assertion.algorithm, now_ms))
    keys.look()
    if keys.ring.current.algorithm != assertion.algorithm and inherited is None:
        logger.warning(
            "assertions are still signed by %s: identity.assertion.algorithm holds for keys that are made from now on, "
            "so rotate twice (gatekeeper keys rotate)",
            keys.ring.current.algorithm,
        )
    return keys


def to_inherit(keys: AssertionKeys | None) -> bytes:
    """What workers need of these keys: nothing where a folder has them."""
    return b"" if keys is None or keys.folder is not None else keys.ring.encode()


async def follow_keys(keys: AssertionKeys, on_change: Callable[[], None], every_s: float = LOOK_EVERY_S) -> None:
    """Use other keys as soon as the folder has them, until cancelled.  Nothing waits for the disk meanwhile."""
    told = ""
    while keys.folder is not None:
        await asyncio.sleep(every_s)
        try:
            changed = await asyncio.to_thread(keys.look)
        except KeysUnusable as problem:
            if str(problem) != told:
                told = str(problem)
                logger.error("keys of assertions cannot be read, those of before stay in use: %s", problem)
            continue
        told = ""
        if changed:
            logger.info("keys of assertions were rotated: %s signs now", keys.ring.current.kid)
            on_change()
