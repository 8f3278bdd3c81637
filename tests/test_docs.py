"""The documentation keeps up: settings, reasons, commands, examples and links."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gatekeeper.cli import main
from gatekeeper.config.load import load_text
from gatekeeper.core.identity import identity_headers
from gatekeeper.core.model import Reason
from gatekeeper.explain import MEANINGS
from gatekeeper.server.account_pages import visit
from gatekeeper.telemetry.exposition import Exposition
from gatekeeper.telemetry.lines import AccessLine
from scripts.settings_table import BEGIN, END, table
from scripts.small_png import SIGNATURE
from tests.core.records import authenticated
from tests.server.gates import running_gate

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ENVIRON = {
    "BETTER_AUTH_SECRET": "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA",
    "DB_PASSWORD": "a%40b",
    "SMTP_URL": "smtp://127.0.0.1?from=a@b.test",
}
PAGES = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md"]


def test_settings_table_is_that_of_the_schema() -> None:
    page = (DOCS / "configuration.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0] == table(), "run scripts/settings_table.py"


def test_each_reason_is_documented_and_explained() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", (DOCS / "reasons.md").read_text(), re.MULTILINE)
    assert rows == [reason.value for reason in Reason if reason.value in rows]
    assert set(rows) == {reason.value for reason in Reason} == {reason.value for reason in MEANINGS}


async def test_each_metric_is_documented(tmp_path: Path) -> None:
    async with running_gate("http://127.0.0.1:9", tmp_path / "auth.db", "accounts: {enabled: true}\n") as gate:
        names = Exposition(gate.served.telemetry).names()
    names += ["gatekeeper_workers", "gatekeeper_worker_restarts_total"]  # of the supervisor: test_workers.py
    rows = re.findall(r"^\| `((?:gatekeeper|process)_[a-z_]+)` \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(names)


def test_each_field_of_an_access_line_is_documented() -> None:
    page = (DOCS / "logs.md").read_text()
    example = json.loads(re.search(r"^\{.*\}$", page, re.MULTILINE)[0])
    assert tuple(example) == ("kind", *AccessLine.__struct_fields__)
    assert [name for name in AccessLine.__struct_fields__ if f"`{name}`" not in page] == []


def test_each_audit_event_is_documented() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "gatekeeper").rglob("*.py"))
    events = set(re.findall(r"""\baudit\(\s*"(\w+)\"""", sources))
    assert "signed_in" in events
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ", (DOCS / "logs.md").read_text(), re.MULTILINE)
    assert events - {"event"} <= {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_each_command_and_option_is_documented() -> None:
    page = (DOCS / "commands.md").read_text()
    for name, command in _commands(main):
        assert f"## gatekeeper {name}" in page
        for option in command.params:
            if isinstance(option, click.Option):
                assert any(flag in page for flag in option.opts), (name, option.opts)


def _commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield before + name, command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")


def test_each_identity_header_is_documented() -> None:
    page = (DOCS / "headers.md").read_text()
    sent = identity_headers(authenticated({"impersonated_by": "a", "active_organization_id": "o"}, role="admin"))
    assert len(sent) == 9
    for name in sent:
        assert f"`{name}`" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pictures_are_there(page: Path) -> None:
    """Those of HTML, too, which are no links, and in both colour schemes where a page names one."""
    text = page.read_text()
    named = set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)) | set(
        re.findall(r'<(?:img|source)[^>]*? src(?:set)?="([^"]+)"', text)
    )
    for name in named:
        assert (page.parent / name).is_file(), name
        for scheme, other in (("-light.", "-dark."), ("-dark.", "-light.")):
            if scheme in name:
                assert name.replace(scheme, other) in named


def test_each_picture_is_small_and_used() -> None:
    text = "".join(page.read_text() for page in PAGES)
    pictures = sorted((DOCS / "images").glob("*.png"))
    assert pictures
    for picture in pictures:
        assert picture.read_bytes().startswith(SIGNATURE)
        assert picture.stat().st_size <= 60_000, picture.name
        assert f"images/{picture.name}" in text


def test_each_page_of_the_portal_has_its_pictures() -> None:
    pages = {path for name, path in vars(visit).items() if name.isupper() and str(path).startswith("/")}
    assert {visit.SIGN_IN, visit.SESSIONS} < pages
    text = (DOCS / "accounts.md").read_text()
    for path in pages:
        for scheme in ("light", "dark"):
            assert f"(images/{path.rpartition('/')[2]}-{scheme}.png)" in text, path


def _yaml_blocks(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)


CONFIGURED = [
    "README.md",
    *(f"docs/{name}.md" for name in ("configuration", "migration", "stores", "accounts", "mail")),
]


@pytest.mark.parametrize("page", CONFIGURED)
def test_configurations_in_the_documentation_load(page: str) -> None:
    blocks = _yaml_blocks(ROOT / page)
    assert blocks
    for block in blocks:
        text = block if "upstream:" in block else _yaml_blocks(ROOT / "README.md")[0].replace("protect:", "#") + block
        load_text(text, source=page, base_dir=ROOT, environ=ENVIRON)


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_explain_answers_as_the_documentation_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(_yaml_blocks(ROOT / "README.md")[0])
    monkeypatch.setenv("BETTER_AUTH_SECRET", ENVIRON["BETTER_AUTH_SECRET"])
    blocks = re.findall(r"\$ gatekeeper explain (\w+) '?([^'\n]+)'?\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for method, url, shown in blocks:
        result = CliRunner().invoke(main, ["explain", method, url, "-c", str(config)])
        assert result.exit_code == 0, result.output
        assert result.output == shown


def test_each_decision_record_has_its_parts() -> None:
    records = sorted((DOCS / "adr").glob("*.md"))
    assert [record.name[:4] for record in records] == [f"{n:04d}" for n in range(1, len(records) + 1)]
    for record in records:
        for part in ("## Context", "## Decision", "## Consequences", "## What would change our mind"):
            assert part in record.read_text()
