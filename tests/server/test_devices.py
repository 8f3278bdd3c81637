"""Names of devices."""

import pytest

from gatekeeper.server.devices import device_name, read_device
from gatekeeper.server.texts import LANGUAGES

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
IOS = "like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/130.0.0.0 Safari/537.36", "Chrome on Windows"),
        (f"Mozilla/5.0 (Windows NT 10.0) {WEBKIT} Chrome/130.0.0.0 Safari/537.36 Edg/130.0", "Edge on Windows"),
        (f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/130.0.0.0 Mobile Safari/537.36", "Chrome on Android"),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 {IOS} Version/17.5 Mobile/15E148 Safari/604.1", "Safari on iPhone"),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 {IOS} CriOS/130.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone"),
        (f"Mozilla/5.0 (iPad; CPU OS 16_0 {IOS} FxiOS/130.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPad"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 "
            "Safari/605.1.15",
            "Safari on macOS",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Firefox on Linux"),
        ("curl/8.1", "curl"),
        ("", "Unknown device"),
        ("   ", "Unknown device"),
        (None, "Unknown device"),
        ("\x1b[31m\u202e", "Unknown device"),
        ("a thing of its own", "Unknown device"),
    ],
)
def test_names(user_agent: str | None, name: str) -> None:
    assert device_name(user_agent, LANGUAGES["en"]) == name


def test_names_in_german() -> None:
    assert device_name("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", LANGUAGES["de"]) == (
        "Firefox auf Linux"
    )


@pytest.mark.parametrize(
    "user_agent", ["A" * 100_000 + "/1", "(" * 5_000, "Mozilla/5.0 " * 3_000, "\x00" * 500, ";" * 9_999]
)
def test_whatever_a_program_calls_itself_makes_a_short_printable_name(user_agent: str) -> None:
    name = device_name(user_agent, LANGUAGES["en"])
    assert 0 < len(name) <= 90
    assert name.isprintable()


def test_what_stands_far_behind_is_neither_looked_at_nor_kept() -> None:
    read_device.cache_clear()
    texts = [" " + "x" * 400 + f" Firefox/{version}.0 " + "y" * 60_000 for version in range(3)]
    assert [device_name(text, LANGUAGES["en"]) for text in texts] == ["Unknown device"] * 3
    assert read_device.cache_info().currsize == 1
