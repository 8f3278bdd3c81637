"""The site's own name, logo and accent."""

import re
from pathlib import Path

import pytest

from gatekeeper.core.colours import contrast
from gatekeeper.core.model import Reason
from gatekeeper.server.look import LOGO, PLAIN, THEME, look_of, theme_of
from gatekeeper.server.pages import PageSettings, error_answer
from tests.server.test_pages import html, page


def test_without_branding_there_is_nothing_to_refer_to() -> None:
    assert (PLAIN.name, PLAIN.logo, PLAIN.theme, dict(PLAIN.assets)) == (None, None, None, {})


def test_the_logo_is_served_and_can_do_nothing(tmp_path: Path) -> None:
    file = tmp_path / "logo.SVG"
    file.write_bytes(b"<svg onload='alert(1)'/>")
    look = look_of("Site", file, None)
    assert look.logo is not None
    assert look.logo.partition("?")[0] == LOGO
    found = look.static(LOGO)
    assert found is not None
    assert found.body == b"<svg onload='alert(1)'/>"
    headers = dict(found.headers)
    assert headers[b"Content-Type"] == b"image/svg+xml"
    assert headers[b"Content-Security-Policy"] == b"default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert headers[b"X-Content-Type-Options"] == b"nosniff"
    assert look.static(THEME) is None


def test_where_a_page_finds_it_changes_with_the_content(tmp_path: Path) -> None:
    file = tmp_path / "logo.png"
    file.write_bytes(b"1")
    before = look_of(None, file, "#112233")
    file.write_bytes(b"2")
    after = look_of(None, file, "#112233")
    assert before.logo != after.logo
    assert before.theme == after.theme


@pytest.mark.parametrize("accent", ["#ffcc00", "#000000", "#ffffff", "#1d5c47", "#ff0000"])
def test_the_theme_can_be_read_on_the_stylesheets_own_grounds(accent: str) -> None:
    """The grounds are those of the stylesheet itself, which the theme must know."""
    css = (Path(__file__).parents[2] / "gatekeeper" / "server" / "static" / "gatekeeper.css").read_text()
    for scheme, theme in zip(blocks(css), blocks(theme_of(accent)), strict=True):
        for ground in ("paper", "ground"):
            assert contrast(theme["accent"], scheme[ground]) >= 4.5
        assert contrast(theme["on-accent"], theme["accent"]) >= 4.5


def test_the_stylesheets_own_colours_can_be_read() -> None:
    css = (Path(__file__).parents[2] / "gatekeeper" / "server" / "static" / "gatekeeper.css").read_text()
    for scheme in blocks(css):
        for ink, back in (
            *(("ink", "paper"), ("soft", "paper"), ("soft", "ground"), ("accent", "paper"), ("bad", "paper")),
            *(("on-accent", "accent"), ("tint-ink", "tint"), ("bad-ink", "bad-tint"), ("bad-ink", "paper")),
        ):
            assert contrast(scheme[ink], scheme[back]) >= 4.5, (ink, back)
        assert contrast(scheme["field"], scheme["paper"]) >= 3  # borders of fields


def blocks(css: str) -> list[dict[str, str]]:
    """The colours of the first two blocks of properties: light, then dark."""
    found = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in found]


def test_error_pages_wear_it_and_speak_the_visitors_language(tmp_path: Path) -> None:
    file = tmp_path / "logo.png"
    file.write_bytes(b"1")
    settings = PageSettings("/sign-in", look=look_of("Café & Co", file, "#112233"))
    shown = html(error_answer(404, Reason.NOT_FOUND, page(accept_language="de"), settings))
    assert "<title>Seite nicht gefunden – Café &amp; Co</title>" in shown
    assert settings.look.logo is not None
    assert settings.look.theme is not None
    assert settings.look.logo in shown
    assert settings.look.theme in shown
    assert '<html lang="de">' in shown
