from pathlib import Path

import pytest

from gatekeeper.config.problems import ConfigError
from tests.config.loading import BASE, load


def problems(folder: Path, branding: str) -> list[str]:
    try:
        load(BASE + f"branding: {branding}\n", folder)
    except ConfigError as error:
        return [problem.path for problem in error.problems]
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logo.svg").write_text("<svg/>")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "large.png").write_bytes(b"x" * (512 * 1024 + 1))
    (tmp_path / "logo.exe").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("branding", "paths"),
    [
        ('{name: Site, logo: logo.svg, accent: "#1d5c47"}', []),
        ("{}", []),
        ('{accent: "#fff"}', ["branding.accent"]),
        ("{accent: green}", ["branding.accent"]),
        ('{accent: "#1d5c47; }"}', ["branding.accent"]),
        ("{logo: nothing.svg}", ["branding.logo"]),
        ("{logo: logo.exe}", ["branding.logo"]),
        ("{logo: empty.png}", ["branding.logo"]),
        ("{logo: large.png}", ["branding.logo"]),
        ('{logo: "a\\0b.png"}', ["branding.logo"]),
        ('{name: "a\\nb"}', ["branding.name"]),
        ("{name: " + "x" * 81 + "}", ["branding.name"]),
    ],
)
def test_branding(folder: Path, branding: str, paths: list[str]) -> None:
    assert problems(folder, branding) == paths


def test_the_logo_is_found_beside_the_configuration(folder: Path) -> None:
    settings = load(BASE + "branding: {logo: logo.svg}\n", folder)
    assert settings.branding.logo == str(folder / "logo.svg")
