"""Page or document, by Sec-Fetch-Mode and Accept; the whole table of headers is in test_decide.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.negotiation import prefers_page


@pytest.mark.parametrize(
    ("mode", "accept", "page"),
    [
        pytest.param("navigate", None, True, id="navigation"),
        pytest.param("cors", "text/html", False, id="fetch-outranks-accept"),
        pytest.param("", "text/html", False, id="empty-mode-is-a-mode"),
        pytest.param(None, "text/html,application/xhtml+xml,*/*;q=0.8", True, id="browser"),
        pytest.param(None, "*/*", False, id="program"),
        pytest.param(None, None, False, id="nothing-sent"),
        pytest.param(None, "text/html;q=0.9, application/json", False, id="json-preferred"),
        pytest.param(None, "text/html;level=1; Q=1, application/json", True, id="alike"),
        pytest.param(None, "text/html;q=x", False, id="broken-quality"),
        pytest.param(None, "text/html;q=2", False, id="quality-over-one"),
    ],
)
def test_prefers_page(mode: str | None, accept: str | None, page: bool) -> None:
    assert prefers_page(mode, accept) is page


@given(st.text(max_size=60))
def test_law_any_accept_has_an_answer_and_a_mode_outranks_it(accept: str) -> None:
    assert prefers_page(None, accept) in (True, False)
    assert prefers_page("navigate", accept) is True
    assert prefers_page("cors", accept) is False
