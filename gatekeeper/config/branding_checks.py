"""What is wrong with how the pages shall look."""

from collections.abc import Iterator
from pathlib import Path

from gatekeeper.config.schema import Branding, Settings
from gatekeeper.core.colours import is_colour

LOGO_ENDS = (".svg", ".png", ".jpg", ".jpeg", ".webp")
MAX_LOGO_BYTES = 512 * 1024
MAX_NAME = 80

Finding = tuple[str, str]


def check_branding(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with `branding`; the logo is looked for."""
    branding = settings.branding
    if branding.name is not None and not (branding.name.isprintable() and 0 < len(branding.name) <= MAX_NAME):
        yield "branding.name", f"expected 1 to {MAX_NAME} letters in one line"
    if branding.accent is not None and not is_colour(branding.accent):
        yield "branding.accent", 'expected a colour like "#1d5c47", in quotes: # begins a comment'
    if (fault := _logo_fault(branding)) is not None:
        yield "branding.logo", fault


def _logo_fault(branding: Branding) -> str | None:
    if branding.logo is None:
        return None
    path = Path(branding.logo)
    if path.suffix.lower() not in LOGO_ENDS:
        return f"expected a file that ends in {', '.join(LOGO_ENDS)}"
    try:
        with path.open("rb") as file:
            size = len(file.read(MAX_LOGO_BYTES + 1))
    except (OSError, ValueError) as exc:
        return f"cannot be read: {getattr(exc, 'strerror', None) or exc}"
    return None if 0 < size <= MAX_LOGO_BYTES else f"expected at most {MAX_LOGO_BYTES // 1024} KiB, and not nothing"
