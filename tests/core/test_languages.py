import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.languages import choose_language

OFFERED = ("en", "de", "pt-br")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        pytest.param(None, "en", id="no-header"),
        pytest.param("", "en", id="empty"),
        pytest.param("de", "de", id="exact"),
        pytest.param("DE", "de", id="case"),
        pytest.param("de-AT", "de", id="region"),
        pytest.param("de-Latn-AT-1996", "de", id="several-parts"),
        pytest.param("pt", "en", id="a-wider-tag-is-not-served-by-a-narrower"),
        pytest.param("pt-BR, en", "pt-br", id="region-offered"),
        pytest.param("fr, de", "de", id="first-that-there-is"),
        pytest.param("en;q=0.5, de;q=0.9", "de", id="weights"),
        pytest.param("de;q=0.9, en;q=0.9", "de", id="equal-weights"),
        pytest.param("en;q=0.8,de", "de", id="no-weight-is-one"),
        pytest.param("de;q=0", "en", id="refused"),
        pytest.param("de;q=0, *", "en", id="refused-and-anything"),
        pytest.param("en;q=0, *", "de", id="anything-but-the-first"),
        pytest.param("*;q=0.9, de;q=0.5", "en", id="anything-first"),
        pytest.param("*;q=0.1, de;q=0.5", "de", id="anything-last"),
        pytest.param("en, de;q=0.1, pt-BR;q=0.1, *", "en", id="nothing-left-for-anything"),
        pytest.param("en;q=0", "en", id="something-must-be-shown"),
        pytest.param("de ; q=0.7 , en;q=0.1", "de", id="blanks"),
        pytest.param("de;q=2, en;q=0.1", "en", id="no-such-weight"),
        pytest.param("de;q=0.1234, en;q=0.1", "en", id="weight-too-long"),
        pytest.param("de_DE, en;q=0.1", "en", id="no-tag"),
        pytest.param("de;x=1, en;q=0.1", "en", id="no-parameter-but-q"),
        pytest.param("\xe4, de", "de", id="odd-neighbour"),
        pytest.param(",,de,,", "de", id="empty-entries"),
        pytest.param("fr," * 49 + "de", "de", id="fiftieth"),
        pytest.param("fr," * 50 + "de", "en", id="beyond-the-limit"),
        pytest.param("de" + " " * 1000, "en", id="too-long"),
    ],
)
def test_chooses(header: str | None, language: str) -> None:
    assert choose_language(header, OFFERED) == language


@given(st.text(alphabet="ende-*;q=.,01 \t\xff", max_size=80))
def test_always_one_that_is_offered(header: str) -> None:
    assert choose_language(header, OFFERED) in OFFERED
