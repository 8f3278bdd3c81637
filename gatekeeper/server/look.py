"""How our pages look at this site: its name, logo and accent colour, as `branding` has them.

The accent is given in shades that can be read, light and dark.  What a page refers to is served from memory, under a
name that changes with the content.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gatekeeper.core.colours import Shades, shades_of
from gatekeeper.server.answers import STATIC_PREFIX, Answer, asset

THEME = f"{STATIC_PREFIX}theme.css"
LOGO = f"{STATIC_PREFIX}logo"

MEDIA_TYPES = {
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".jpg": b"image/jpeg",
    ".jpeg": b"image/jpeg",
    ".webp": b"image/webp",
}
"""What a logo may be, by the end of its file's name."""

_LIGHT = ("#ffffff", "#f4f5f2")
_DARK = ("#1b211e", "#121614")
_SANDBOX = (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'; sandbox")


class Look(msgspec.Struct, frozen=True):
    """`logo` and `theme` are where a page finds them, None without; `assets` are they, by path."""

    name: str | None = None
    logo: str | None = None
    theme: str | None = None
    assets: Mapping[str, Answer] = {}

    def static(self, path: str) -> Answer | None:
        """The asset at this path, or None."""
        return self.assets.get(path)


PLAIN = Look()


def look_of(name: str | None, logo: Path | None, accent: str | None) -> Look:
    """The look of these settings; the logo is read now.  Raises OSError where it cannot be."""
    assets: dict[str, Answer] = {}
    if accent is not None:
        assets[THEME] = asset(theme_of(accent).encode(), b"text/css; charset=utf-8")
    if logo is not None:
        # An image is opened by itself, too: a script in it must not run as ours.
        assets[LOGO] = asset(logo.read_bytes(), MEDIA_TYPES[logo.suffix.lower()], (_SANDBOX,))
    places = {path: f"{path}?v={hashlib.sha256(found.body).hexdigest()[:12]}" for path, found in assets.items()}
    return Look(name, places.get(LOGO), places.get(THEME), assets)


def theme_of(accent: str) -> str:
    """The stylesheet that sets the accent, light and dark."""
    light, dark = shades_of(accent, *_LIGHT), shades_of(accent, *_DARK)
    return (
        f":root {{ {_properties(light)} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {_properties(dark)} }} }}\n"
    )


def _properties(shades: Shades) -> str:
    return " ".join(f"--{name.replace('_', '-')}: {value};" for name, value in zip(_NAMES, shades, strict=True))


_NAMES = ("accent", "accent_strong", "on_accent", "tint", "tint_ink")
