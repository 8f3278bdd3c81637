"""The picture: well-formed, and as long as the figures say."""

from xml.etree import ElementTree

import pytest

from bench.plot import CAPTION, Bar, Panel, panels_of, svg
from tests.bench.records import a_run

SVG = "{http://www.w3.org/2000/svg}"


def drawn(root: ElementTree.Element) -> list[ElementTree.Element]:
    """The bars, without the background."""
    return [rect for rect in root.iter(f"{SVG}rect") if rect.attrib["class"] != "page"]


def test_bars_are_as_long_as_their_values() -> None:
    bars = [Bar("one", 10, 9, 11), Bar("two", 20, 20, 20), Bar("ours", 40, 30, 50, is_ours=True)]
    root = ElementTree.fromstring(svg([Panel("times", bars)]))  # noqa: S314 - made here
    widths = [float(rect.attrib["width"]) for rect in drawn(root)]
    assert widths[1] / widths[0] == 2
    assert widths[2] / widths[0] == 4
    spread = next(root.iter(f"{SVG}line"))
    assert float(spread.attrib["x2"]) - float(spread.attrib["x1"]) == pytest.approx(widths[0] / 5, abs=0.2)
    assert [rect.attrib["class"] for rect in drawn(root)] == ["bar", "bar", "bar ours"]


def test_labels_are_escaped_and_values_written() -> None:
    text = svg([Panel("a < b", [Bar("x & y", 1.25, 1, 2), Bar("z", 2, 2, 2)], digits=2)])
    root = ElementTree.fromstring(text)  # noqa: S314 - made here
    assert [element.text for element in root.iter(f"{SVG}text")] == ["a < b", "x & y", "1.25", "z", "2.00", CAPTION]


def test_nothing_leaves_the_picture() -> None:
    bars = [Bar("low", 1, 1, 1), Bar("far", 1000, 900, 1100)]
    root = ElementTree.fromstring(svg([Panel("p", bars), Panel("q", bars)]))  # noqa: S314 - made here
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    for rect in drawn(root):
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) < left + width
        assert float(rect.attrib["y"]) + float(rect.attrib["height"]) < top + height


def test_panels_are_sorted_and_need_two_bars() -> None:
    panels = panels_of(a_run())
    assert [panel.title.partition(",")[0] for panel in panels] == [
        "CPU per verified request",
        "99th percentile of the latency at 1",
    ]
    assert [bar.label for bar in panels[0].bars] == ["nginx", "gatekeeper", "Go net/http"]
    assert [(bar.label, bar.value, bar.low, bar.high) for bar in panels[1].bars] == [
        ("nginx", 0.5, 0.5, 0.5),
        ("gatekeeper", 2.0, 1.0, 3.0),
    ]


def test_a_run_without_anything_is_an_empty_picture() -> None:
    run = a_run()
    run.peers = {}
    ElementTree.fromstring(svg(panels_of(run)))  # noqa: S314 - made here
