"""Who has an account in the demo, and the devices that Ada Lovelace has signed in on before.

Times are milliseconds since the epoch and are passed in.
"""

import asyncio
import os

import msgspec

from gatekeeper.config.schema import Settings
from gatekeeper.core.accounts import SALT_BYTES, hash_password, make_id
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.stores.accounts import EmailTaken, NewSession, NewUser
from gatekeeper.stores.opening_accounts import open_accounts

PASSWORD = "correct horse battery"  # noqa: S105 - printed for everybody to see

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS


class Person(msgspec.Struct, frozen=True):
    """Somebody with an account."""

    name: str
    email: str


class Device(msgspec.Struct, frozen=True):
    """A device that is signed in since so many milliseconds.  Addresses are those set aside for examples (RFC 5737)."""

    user_agent: str
    ip_address: str
    since_ms: int


ADA = Person("Ada Lovelace", "ada@example.com")
ZOE = Person("Zoë Łoś", "zoe@example.com")
PEOPLE = (ADA, ZOE)

DEVICES = (
    Device(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
        "Mobile/15E148 Safari/604.1",
        "203.0.113.24",
        25 * _MINUTE_MS,
    ),
    Device(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
        "Safari/537.36 Edg/130.0.0.0",
        "198.51.100.7",
        7 * _HOUR_MS,
    ),
    Device(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:131.0) Gecko/20100101 Firefox/131.0",
        "192.0.2.130",
        31 * _HOUR_MS,
    ),
)
CURL = Device("curl/8.9.1", "127.0.0.1", 0)


async def add_people(settings: Settings, now_ms: int) -> str:
    """Make the accounts, and Ada's sessions; the token of the one that curl uses.

    The tables are there and have none of these addresses.  Raises GatekeeperError where that is not so.
    """
    accounts, _ = open_accounts(settings)
    try:
        ada, *others = await asyncio.gather(*(asyncio.to_thread(_new_user, person) for person in PEOPLE))
        for user in (ada, *others):
            if isinstance(await accounts.create_user(user, None, now_ms=now_ms), EmailTaken):
                raise GatekeeperError(f"{user.email} has an account already")
        lifetime_ms = int(settings.session.expires_in * 1000)
        for device in DEVICES:
            started_ms = now_ms - device.since_ms
            await accounts.create_session(_new_session(ada.id, device, started_ms + lifetime_ms), now_ms=started_ms)
        of_curl = _new_session(ada.id, CURL, now_ms + lifetime_ms)
        await accounts.create_session(of_curl, now_ms=now_ms)
    finally:
        await accounts.close()
    return of_curl.token


def _new_session(user_id: str, device: Device, expires_at_ms: int) -> NewSession:
    return NewSession(
        id=make_id(os.urandom),
        token=make_id(os.urandom),
        user_id=user_id,
        expires_at_ms=expires_at_ms,
        ip_address=device.ip_address,
        user_agent=device.user_agent,
    )


def _new_user(person: Person) -> NewUser:
    return NewUser(
        id=make_id(os.urandom),
        account_id=make_id(os.urandom),
        name=person.name,
        email=person.email,
        password=hash_password(PASSWORD, os.urandom(SALT_BYTES)),
        email_verified=True,
    )
