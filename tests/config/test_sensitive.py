"""No problem shows a secret, whatever somebody made of the place where it stands."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.config.load import ConfigError
from tests.config.loading import BASE, load, problems_of

WITHOUT_SECRET = "upstream: http://127.0.0.1:3000\nstore: sqlite:///auth.db\n"
MARK = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"secret: {MARK}",
        f"secret: [{MARK}]",
        f"secret: {{{MARK}}}",
        f"secret: {{value: {MARK}}}",
        f"secret: '{MARK}",
        f"secret: *{MARK}",
        f"secret: !{MARK} x",
        f"secret: !{MARK}!x y",
        f"secret: {MARK}: x",
        f"secret: a${{b-{MARK}}}c",
        f'secret: "{MARK}\x01"',
        f"secret: {MARK}\nsecret: {MARK}{MARK}",
        f"secret: {MARK}\nsecrets: {MARK}",
        f"secrets: {MARK}",
        f"secrets: [{MARK}]",
        f"secrets: {{value: {MARK}}}",
        f"secrets: [{{version: {MARK}, value: 1}}]",
        f"secrets: [{{version: 1, valeu: {MARK}}}]",
        f"secrets: [{{version: 1, value: [{MARK}]}}]",
        f"secrets: [{{version: 1, value: {MARK}}}, {{version: 1, value: {MARK}}}]",
        f"admin: {MARK}",
        f"admin: {{token: [{MARK}]}}",
        f"admin: {{token: {MARK}}}",
        f"accounts: {MARK}",
        f"accounts: {{smtp: 'smtp://u:{MARK}@h'}}",
        f"accounts: {{enabled: {MARK}}}",
    ],
)
def test_no_problem_shows_what_stands_there(text: str) -> None:
    found = problems_of(WITHOUT_SECRET + text + "\n")
    assert found
    assert MARK not in "\n".join(map(str, found))


@pytest.mark.parametrize("value", [f"*{MARK}", f"!{MARK}!x y", f"&a &{MARK} x", f"%{MARK}", f"@{MARK}", f"'{MARK}"])
def test_nor_does_pyyaml_without_its_c_loader(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.config.tree._LOADER", yaml.SafeLoader)
    found = problems_of(WITHOUT_SECRET + f"secret: {value}\n")
    assert MARK not in "\n".join(map(str, found))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{MARK}@h",
        f"u:{MARK}@h/d",
        f"{MARK}@h/d",
        f"{MARK}",
        f"sqlite://{MARK}",
        f"{{urll: 'redis://:{MARK}@h'}}",
        f"{{url: 'sqlite:///a.db', secondary: 'redis://:{MARK}@h/x'}}",
        f"[{MARK}]",
    ],
)
def test_no_problem_shows_the_password_of_a_store(url: str) -> None:
    found = problems_of(BASE.replace("sqlite:///auth.db", url))
    assert found
    assert MARK not in "\n".join(map(str, found))


def test_no_problem_shows_the_password_of_an_upstream() -> None:
    found = problems_of(BASE.replace("http://", f"http://u:{MARK}@"))
    assert MARK not in "\n".join(map(str, found))


_TEXT = st.text(st.sampled_from(" \t\n'\"!&*%@`|>#:,[]{}?-$~\\ab"), max_size=6)


@given(_TEXT, _TEXT)
def test_law_no_context_makes_a_problem_show_a_secret(before: str, after: str) -> None:
    """Whatever stands around it, but for another key or variable: these names are shown."""
    text = f"secret: {before}{MARK}{after}\n"
    try:
        load(WITHOUT_SECRET + text)
    except ConfigError as error:
        named = ("unknown setting", "is not set", "is there already")
        shown = [str(problem) for problem in error.problems if not any(word in problem.message for word in named)]
        assert MARK not in "\n".join(shown)
