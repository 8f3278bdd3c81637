"""What a device calls itself, as a person would say it: browser and system.

A User-Agent is whatever its sender wrote, so it only ever helps to recognise one's own devices.  The rules are
ua-parser's, which are read when the first name is wanted.  They take milliseconds for an odd one: call from a thread.
"""

from functools import lru_cache
from typing import NamedTuple

from gatekeeper.server.texts import Words

_MAX_CHARS = 400
_KNOWN = 2048
_MAX_NAME = 40
_SYSTEMS = {"Mac OS X": "macOS", "Chrome OS": "ChromeOS"}
_PLAIN = {"Mobile Safari": "Safari", "Mobile Safari UI/WKWebView": "Safari", "Chrome Mobile": "Chrome"} | {
    "Chrome Mobile iOS": "Chrome",
    "Chrome Mobile WebView": "Chrome",
    "Firefox Mobile": "Firefox",
    "Firefox iOS": "Firefox",
    "Edge Mobile": "Edge",
    "Opera Mobile": "Opera",
}


class Device(NamedTuple):
    """A program and the system that it runs on, each None where it does not say."""

    browser: str | None
    system: str | None


UNKNOWN = Device(None, None)


def device_name(user_agent: str | None, words: Words) -> str:
    """What to call this device, in these words; "Unknown device" where it does not say what it is."""
    device, texts = device_of(user_agent or ""), words.pages["sessions"]
    if device.browser is None or device.system is None:
        return device.browser or device.system or texts["unknown_device"]
    return texts["browser_on_system"].format(browser=device.browser, system=device.system)


def device_of(user_agent: str) -> Device:
    """The device of this User-Agent; of a long one the beginning is looked at, and remembered."""
    return read_device(user_agent[:_MAX_CHARS])


@lru_cache(maxsize=_KNOWN)
def read_device(text: str) -> Device:
    """The device of a User-Agent that is short."""
    if not text.strip():
        return UNKNOWN
    from ua_parser import parse_os, parse_user_agent  # its rules take a quarter of a second and some megabytes

    browser, system = parse_user_agent(text), parse_os(text)
    browser_name = None if browser is None else _printable(_PLAIN.get(browser.family, browser.family))
    system_name = None if system is None else _printable(_SYSTEMS.get(system.family, system.family))
    if system_name == "iOS":
        system_name = next((name for name in ("iPad", "iPhone") if name in text), system_name)
    return Device(browser_name, system_name)


def _printable(name: str) -> str | None:
    """The name as it can stand in a line; a program may call itself anything."""
    kept = "".join(letter for letter in name if letter.isprintable())[:_MAX_NAME].strip()
    return kept or None
