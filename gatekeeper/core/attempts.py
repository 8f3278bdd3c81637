"""How often a password may be tried: what is counted, how long to wait, and which devices have signed in before.

Arithmetic on times that are passed in; where counts are kept is others' business.  Counted are the tries of an address
and those of an account, or of a *device* instead of its account: a browser that has signed in there before holds a
signed cookie, so whoever uses up an account's tries from elsewhere does not lock its owner out.  A device has tries of
its own, no more than an account: a stolen cookie lets nobody guess without end.  (OWASP: Slow Down Online Guessing
Attacks with Device Cookies.)

Accounts are named by what was typed, whether or not there is such a one: both count alike.

A window begins with the first try and ends `per_ms` later, however many are refused in it.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, ip_network

import msgspec

from gatekeeper.core.accounts import make_id
from gatekeeper.core.cookies import Keys, set_cookie
from gatekeeper.core.forwarding import parse_address

DEVICE_COOKIE = "gatekeeper.device"
DEVICE_AGE_S = 180 * 86_400
"""How long a device is known after it last signed in."""

_PURPOSE = "gatekeeper.device"
_MOST_ACCOUNTS = 3
_AHEAD_S = 60
_DEVICE_ID_LENGTH = 22
_ENTRY = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9]{22})\.([A-Za-z0-9_-]{43})")
_NETWORK_BITS = 64


class Limit(msgspec.Struct, frozen=True, gc=False):
    """At most so many tries in so many milliseconds."""

    most: int
    per_ms: int


class Tally(msgspec.Struct, frozen=True, gc=False):
    """The tries of one key in its present window, and when that ends (milliseconds since the epoch)."""

    count: int
    ends_ms: int


def account_key(email: str) -> str:
    """What an account's tries are counted under: 48 ASCII characters that do not show the address.

    Letters of either case count as the same, as they do when the account is looked up.
    """
    return f"account:{hashlib.sha256(email.lower().encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def device_key(device: str) -> str:
    """What a device's tries are counted under; `device` as `known_device` returns it."""
    return f"device:{device}"


def address_key(address: str) -> str:
    """What an address's tries are counted under; of IPv6 the network of 64 bits, which one customer has whole.

    At most 51 ASCII characters.  What is no address, as a peer on a Unix socket, counts as one by its text.
    """
    parsed = parse_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        return f"address:{ip_network((parsed, _NETWORK_BITS), strict=False)}"
    return f"address:{parsed or hashlib.sha256(address.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def counted(tally: Tally | None, limit: Limit, now_ms: int) -> Tally:
    """The tally with one try more, or a new window's first."""
    if tally is None or tally.ends_ms <= now_ms:
        return Tally(1, now_ms + limit.per_ms)
    return Tally(tally.count + 1, tally.ends_ms)


def taken_back(tally: Tally) -> Tally:
    """The tally without one of its tries."""
    return Tally(max(tally.count - 1, 0), tally.ends_ms)


def wait_before_s(tally: Tally | None, limit: Limit, now_ms: int) -> int:
    """Seconds until another try may be counted, 0 for now: Retry-After."""
    return 0 if tally is None else _wait_s(tally, limit, now_ms, most=limit.most - 1)


def wait_after_s(tally: Tally, limit: Limit, now_ms: int) -> int:
    """The same of a try that the tally counts already: 0 if it was within the limit.

    Of tries at the same time so many find 0 as the limit allows, if each is counted in one step.
    """
    return _wait_s(tally, limit, now_ms, most=limit.most)


def known_device(cookie: str | None, account: str, keys: Keys, now_s: int) -> str | None:
    """The id of the device of this cookie, if it signed in to the account with this key lately enough; else None.

    Only the current secret's signature counts: an older one may be out.
    """
    for issued_s, device, mac in _entries(cookie):
        if -_AHEAD_S <= now_s - issued_s < DEVICE_AGE_S and keys.mac_matches(_message(account, issued_s, device), mac):
            return device
    return None


def device_cookie(
    cookie: str | None, account: str, keys: Keys, now_s: int, random_bytes: Callable[[int], bytes]
) -> str:
    """The cookie's value after a sign-in to this account: a new id for it, and what it says of two accounts more.

    `cookie` is the value that the request had, whose entry of this account is replaced.
    """
    device = make_id(random_bytes, _DEVICE_ID_LENGTH)
    mac = base64.b64decode(keys.sign(_message(account, now_s, device)).rpartition(b".")[2])
    others = [
        entry for entry in _entries(cookie) if not keys.mac_matches(_message(account, entry[0], entry[1]), entry[2])
    ]
    return "~".join(_print_entry(*entry) for entry in [(now_s, device, mac), *others][:_MOST_ACCOUNTS])


def device_line(value: str, *, secure: bool) -> str:
    """The Set-Cookie value of a device cookie."""
    return set_cookie(DEVICE_COOKIE, value, max_age=DEVICE_AGE_S, domain=None, secure=secure, same_site="lax")


def _wait_s(tally: Tally, limit: Limit, now_ms: int, *, most: int) -> int:
    left_ms = min(tally.ends_ms - now_ms, limit.per_ms)  # where another's clock is ahead, nobody waits for it
    return -(-left_ms // 1000) if left_ms > 0 and tally.count > most else 0


def _entries(cookie: str | None) -> Iterator[tuple[int, str, bytes]]:
    """Time, id and MAC of each well-formed entry of a device cookie, unverified; at most as many as we write."""
    for text in (cookie or "").split("~", _MOST_ACCOUNTS)[:_MOST_ACCOUNTS]:
        match = _ENTRY.fullmatch(text)
        if match is not None:
            yield int(match[1]), match[2], base64.urlsafe_b64decode(f"{match[3]}=")


def _print_entry(issued_s: int, device: str, mac: bytes) -> str:
    return f"{issued_s}.{device}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _message(account: str, issued_s: int, device: str) -> bytes:
    """What is signed.  No session's token begins like this, and no cookie shows it: one never passes for the other."""
    return f"{_PURPOSE}\n{account}\n{issued_s}.{device}".encode()
